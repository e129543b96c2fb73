"""Asking a collection in SQL, as it lies on one machine and as if each of its segments lay on another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from retrieval.cache import LocalCache
from retrieval.distributed.nearby import NearbyNodes
from retrieval.distributed.routed import RoutedVersion
from retrieval.distributed.select import select_from_nodes
from retrieval.errors import FilterError
from retrieval.passing import SearchCaches
from retrieval.policies import OPERATOR, Caller
from retrieval.snapshot import Snapshot
from retrieval.sql import SqlAnswer, Statement, parse_statement, run_statement

Run = Callable[..., SqlAnswer]
_run: list[Run] = [run_statement]


@pytest.fixture(scope="module", params=["one machine", "nodes"])
def wherever(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ask every statement of the module twice: of the snapshot itself, and of nodes that have a segment each."""
    if request.param == "one machine":
        yield
        return
    _run.append(partial(_on_nodes, LocalCache(tmp_path_factory.mktemp("nodes"))))
    yield
    _run.pop()


def on_one_machine() -> bool:
    return _run[-1] is run_statement


def run_anywhere(snapshot: Snapshot, statement: Statement, **asked: Any) -> SqlAnswer:
    """Run a statement wherever this module's tests have theirs run."""
    return _run[-1](snapshot, statement, **asked)


def ask(
    snapshot: Snapshot, text: str, *, dialect: str = "databricks", caller: Caller = OPERATOR, **params: Any
) -> SqlAnswer:
    return run_anywhere(snapshot, parse_statement(text, dialect), params=params, caller=caller)


def refusal(snapshot: Snapshot, text: str, **asked: Any) -> FilterError:
    with pytest.raises(FilterError) as caught:
        ask(snapshot, text, **asked)
    return caught.value


def place(error: FilterError) -> str:
    """Return the stretch of the text that an error points at."""
    return error.text[error.start : error.start + error.length]


def _on_nodes(cache: LocalCache, snapshot: Snapshot, statement: Statement, **asked: Any) -> SqlAnswer:
    with nodes_of(snapshot, cache) as routed:
        return select_from_nodes(routed, statement, **asked)


@contextmanager
def nodes_of(snapshot: Snapshot, cache: LocalCache) -> Iterator[RoutedVersion]:
    """Return the snapshot's version as a router sees it whose nodes have one segment of it each, the first none."""
    with ExitStack() as stack:
        shares = [(), *((view.retain(),) for view in snapshot.views)]
        parts = [Snapshot(snapshot.state, views, cache.scratch(), SearchCaches()) for views in shares]
        for part in parts:
            stack.enter_context(part)
            part.govern(snapshot.spec)
        yield NearbyNodes(parts).version()
