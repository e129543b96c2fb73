"""Asking a version, whether its segments are open here or on nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from indexer.embedding import QueryEmbedder
from retrieval.chunks import Key
from retrieval.distributed.routed import RoutedVersion
from retrieval.distributed.rows import get_rows_of_nodes
from retrieval.distributed.search import search_nodes
from retrieval.distributed.select import select_from_nodes
from retrieval.policies import Caller
from retrieval.refine.rerank import Reranker
from retrieval.request import SearchRequest
from retrieval.response import SearchResponse
from retrieval.rows import Row, get_rows
from retrieval.search import search
from retrieval.snapshot import Snapshot
from retrieval.sql import SqlAnswer, Statement, run_statement
from retrieval.version import OpenVersion


def search_version(
    version: OpenVersion,
    request: SearchRequest,
    *,
    caller: Caller,
    embedder: QueryEmbedder | None,
    reranker: Reranker | None,
) -> SearchResponse:
    """Search ``version``; see :func:`retrieval.search.search`."""
    if isinstance(version, RoutedVersion):
        return search_nodes(version, request, caller=caller, embedder=embedder, reranker=reranker)
    return search(_here(version), request, caller=caller, embedder=embedder, reranker=reranker)


def rows_of_version(
    version: OpenVersion,
    keys: Sequence[Key],
    caller: Caller,
    *,
    where: Sequence[str],
    names: Sequence[str] | None,
    deadline: float,
) -> list[Row | None]:
    """Return the row of each of ``keys``, or None; see :func:`retrieval.rows.get_rows`."""
    if isinstance(version, RoutedVersion):
        return get_rows_of_nodes(version, keys, caller, where=where, names=names, deadline=deadline)
    snapshot = _here(version)
    return get_rows(snapshot, keys, snapshot.sight_of(caller), where=where, names=names, deadline=deadline)


def select_from_version(
    version: OpenVersion,
    statement: Statement,
    *,
    params: Mapping[str, object],
    caller: Caller,
    embedder: QueryEmbedder | None,
    deadline: float | None,
    now: datetime | None,
    skip: int,
) -> SqlAnswer:
    """Run ``statement`` on ``version``; see :func:`retrieval.sql.run_statement`."""
    if isinstance(version, RoutedVersion):
        run = partial(select_from_nodes, version)
    else:
        run = partial(run_statement, _here(version))
    return run(statement, params=params, caller=caller, embedder=embedder, deadline=deadline, now=now, skip=skip)


def _here(version: OpenVersion) -> Snapshot:
    assert isinstance(version, Snapshot)
    return version
