"""Between HTTP and the library: keys become rows, and these an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from api.answers import key_answer, source_answer
from api.asking import rows_of_version
from api.encoding import encode
from api.freshness import age_seconds
from api.identity.access import Access
from api.models.requests import FreshBody, RowsBody
from api.problems import ROW_NOT_FOUND, Problem
from api.running import Found, Models, Question, Work, answer_in_time, as_problems
from api.searching import rounded
from api.service import Service
from api.watcher import View, Watcher
from indexer.format.keys import key_of_json, parse_key
from retrieval.chunks import Key
from retrieval.errors import RequestError
from retrieval.policies import Caller
from retrieval.request import unknown_names
from retrieval.rows import Row, field_names
from retrieval.version import OpenVersion

ONE = FreshBody()
"""A row by its address is of the newest version, however old that is."""


async def row_in_time(
    service: Service, watcher: Watcher, raw_key: str, include: Sequence[str] | None, access: Access
) -> Found:
    """Return the row under ``raw_key`` (as the URL has it); one that its caller may not see is not there.

    ``include`` names the fields to read (None: all). Raises :class:`Problem`.
    """
    deadline = time.monotonic() + service.settings.search.deadline_ms / 1000
    return await _read(service, watcher, ONE, access, partial(_row, raw_key, include, deadline), deadline)


async def rows_in_time(service: Service, watcher: Watcher, body: RowsBody, access: Access, *, deadline: float) -> Found:
    """Return the rows that ``body`` asks for, by ``deadline`` (time.monotonic()); raises :class:`Problem`."""
    return await _read(service, watcher, body, access, partial(_rows, body, deadline), deadline)


async def _read(
    service: Service, watcher: Watcher, body: FreshBody, access: Access, work: Work, deadline: float
) -> Found:
    question = Question(watcher=watcher, access=access, action="read", body=body, request=None, deadline=deadline)
    with as_problems(service):
        return await answer_in_time(service, question, work)


def _row(
    raw_key: str,
    include: Sequence[str] | None,
    deadline: float,
    _view: View,
    snapshot: OpenVersion,
    caller: Caller,
    _models: Models,
) -> Found:
    row = _looked_up(snapshot, caller, [raw_key], parse_key, ["key"], include, deadline)[0]
    if row is None:
        raise Problem(ROW_NOT_FOUND, f"version {snapshot.version} has no row of that key")
    answer = _answer(row) | _state(snapshot, caller)
    return _found(snapshot, caller, answer, [row])


def _rows(body: RowsBody, deadline: float, view: View, snapshot: OpenVersion, caller: Caller, _models: Models) -> Found:
    asked = [key if isinstance(key, list) else [key] for key in body.keys]
    where = [f"keys.{number}" for number in range(len(asked))]
    looked_up = _looked_up(snapshot, caller, asked, key_of_json, where, body.include, deadline)
    rows = [row for row in looked_up.values() if row is not None]
    answer = {
        "rows": [_answer(row) for row in rows],
        "missing": [body.keys[number] for number, row in looked_up.items() if row is None],
        **_state(snapshot, caller),
        "age_seconds": rounded(age_seconds(view.complete_at, datetime.now(UTC))),
    }
    return _found(snapshot, caller, answer, rows)


def _looked_up(
    snapshot: OpenVersion,
    caller: Caller,
    keys: Sequence[Any],
    read: Callable[[Any, Sequence[pa.Field]], Key],
    where: Sequence[str],
    include: Sequence[str] | None,
    deadline: float,
) -> dict[int, Row | None]:
    """Return the row of each of ``keys`` by the key's number, of a key that is there twice by its first.

    ``read`` makes values of a key; ``where`` has the fields that errors name.
    """
    if include is not None:
        unknown_names(include, field_names(snapshot.spec), where="include")
        include = tuple(dict.fromkeys(include))
    if not snapshot.arrow_schema.names:  # no row has been indexed, so there are no types to read a key by
        firsts = {repr(key): number for number, key in reversed(list(enumerate(keys)))}
        return dict.fromkeys(sorted(firsts.values()))
    fields = [snapshot.arrow_schema.field(name) for name in snapshot.spec.key]
    numbers: dict[Key, int] = {}
    for number, (key, place) in enumerate(zip(keys, where, strict=True)):
        try:
            numbers.setdefault(read(key, fields), number)
        except ValueError as error:
            raise RequestError(str(error), field=place) from error
    where = [where[number] for number in numbers.values()]
    rows = rows_of_version(snapshot, list(numbers), caller, where=where, names=include, deadline=deadline)
    return dict(zip(numbers.values(), rows, strict=True))


def _answer(row: Row) -> dict[str, Any]:
    return {
        "key": key_answer(row.key),
        "fields": row.fields,
        "source_version": row.version,
        "source_committed_at": row.committed_at,
        "chunks": row.n_chunks,
    }


def _state(snapshot: OpenVersion, caller: Caller) -> dict[str, Any]:
    return {
        "masked": tuple(sorted(snapshot.sight_of(caller).masks)),
        "version": snapshot.version,
        "source": source_answer(snapshot.state),
    }


def _found(snapshot: OpenVersion, caller: Caller, answer: dict[str, Any], rows: Sequence[Row]) -> Found:
    told = {"version": snapshot.version}
    return Found(
        content=encode(answer),
        facts=told | {"results": len(rows)},
        findings=told | {"keys": [key_answer(row.key) for row in rows], "masked": answer["masked"]},
        closed_policies=tuple(snapshot.sight_of(caller).troubles),
    )
