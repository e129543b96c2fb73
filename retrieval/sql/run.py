"""Running a SELECT on one snapshot: find the rows, then show, group or order them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from indexer.embedding import QueryEmbedder
from retrieval.bitmap import Positions
from retrieval.errors import DeadlineExceeded, FilterError
from retrieval.policies import ANYONE, Caller, Sight
from retrieval.request import SearchRequest
from retrieval.response import Plan
from retrieval.rows import passage, whole_field
from retrieval.search import search
from retrieval.segments import Key, OpenSegment, keys_of
from retrieval.snapshot import Snapshot
from retrieval.sql.evaluate import Budget, Values, evaluated, ordered, values_of
from retrieval.sql.found import ROW, FoundRows
from retrieval.sql.grouped import GroupPlan
from retrieval.sql.outputs import Output
from retrieval.sql.parameters import DEFAULT_ROWS
from retrieval.sql.plan import SqlPlan, plan_of
from retrieval.sql.rowwise import RowPlan
from retrieval.sql.statement import Statement
from retrieval.stopwatch import Stopwatch

MAX_READ = 20_000_000
"""Most rows that one statement may read columns of: they are in memory together."""

NO_PARAMS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class SqlColumn:
    """A column of an answer, and the name of its type."""

    name: str
    type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SqlAnswer:
    """The rows of a statement, of the version that the snapshot is of.

    ``truncated`` says that there are more, which a statement without LIMIT does not get. ``read`` is how many of the
    collection's rows it is about; ``search`` says how they were found if they were searched for. ``keys`` are those of
    the rows that are shown, None where groups are. ``masked`` and ``closed_policies`` are as in a search's response.
    """

    columns: tuple[SqlColumn, ...]
    rows: list[tuple[Any, ...]]
    keys: list[Key] | None
    truncated: bool
    read: int
    search: Plan | None
    masked: tuple[str, ...]
    closed_policies: tuple[str, ...]
    took_ms: Mapping[str, float]


def run_statement(
    snapshot: Snapshot,
    statement: Statement,
    *,
    params: Mapping[str, object] = NO_PARAMS,
    caller: Caller = ANYONE,
    embedder: QueryEmbedder | None = None,
    deadline: float | None = None,
    now: datetime | None = None,
) -> SqlAnswer:
    """Run ``statement`` on a snapshot, which is kept open meanwhile, over what ``caller`` may see and nothing else.

    ``embedder`` is as in :func:`retrieval.search.search`, ``deadline`` on the clock of ``time.monotonic()``, ``now``
    (aware; by default the present) what CURRENT_TIMESTAMP gives. Rows that compare equal are in the order of their
    keys, groups of theirs.

    Raises what a search raises; :class:`retrieval.errors.FilterError` with the place in the statement's text.
    """
    watch = Stopwatch()
    sight = snapshot.sight_of(caller)
    plan = plan_of(statement, snapshot, sight, params, now or datetime.now(UTC))
    watch.lap("plan")
    run = _Run(snapshot, plan, sight, deadline)
    rows, found_by = run.find(caller, embedder)
    watch.lap("find")
    select = plan.select
    shown, keys, truncated = run.groups(rows, select) if isinstance(select, GroupPlan) else run.rows(rows, select)
    watch.lap("select")
    return SqlAnswer(
        columns=tuple(SqlColumn(name=output.name, type=output.type) for output in select.outputs),
        rows=list(zip(*shown, strict=True)),
        keys=keys,
        truncated=truncated,
        read=len(rows),
        search=found_by,
        masked=tuple(sorted(sight.masks)),
        closed_policies=tuple(sight.troubles),
        took_ms=watch.total(),
    )


class _Run:
    """One statement under way."""

    def __init__(self, snapshot: Snapshot, plan: SqlPlan, sight: Sight, deadline: float | None) -> None:
        self._snapshot = snapshot
        self._plan = plan
        self._sight = sight
        self._deadline = deadline

    def find(self, caller: Caller, embedder: QueryEmbedder | None) -> tuple[FoundRows, Plan | None]:
        """Return the rows that the statement is about, best first if it searches."""
        searched = self._plan.searched
        if searched is None:
            return FoundRows.passing(self._snapshot.passing(self._plan.where, self._sight)), None
        request = SearchRequest(
            query=searched.query, k=searched.k, mode=searched.mode, include=(), deadline=self._deadline
        )
        response = search(self._snapshot, request, caller=caller, embedder=embedder, where=self._plan.where)
        segments = [view.segment for view in self._snapshot.views]
        return FoundRows.ranked(response.results.ranked, segments), response.plan

    def rows(self, rows: FoundRows, plan: RowPlan) -> tuple[Values, list[Key] | None, bool]:
        """Return the values to show, by column, the rows' keys, and whether there are more."""
        numbers = self._ordered(rows, plan)
        rows = rows.take(numbers[: self._wanted])
        each, frame, budget = rows.each(), self._frame(rows, plan.shows), Budget()
        reckoned = [output for output in plan.outputs if output.reading == "value"]
        values = iter(values_of(frame.lazy(), reckoned, beside=ROW, budget=budget))
        shown = [
            next(values) if output.reading == "value" else self._shown(output, frame, each, budget)
            for output in plan.outputs
        ]
        keys = [key for segment, position in each for key in keys_of(segment, self._snapshot.spec, [position])]
        return shown, keys, self._is_cut(len(numbers))

    def groups(self, rows: FoundRows, plan: GroupPlan) -> tuple[Values, None, bool]:
        """Return the values to show, by column, and whether there are more."""
        made = [expression.alias(name) for name, expression in {**plan.keys, **plan.arguments}.items()]
        aggregates = [expression.alias(name) for name, expression in plan.aggregates.items()]
        over = self._frame(rows, plan.reads).lazy().select(ROW, *made)
        keys = list(plan.keys)
        groups = over.group_by(keys).agg(*aggregates) if keys else over.select(pl.len().alias(ROW), *aggregates)
        if plan.having is not None:
            groups = groups.filter(plan.having)
        cut = self._cut(ordered(groups, plan.order, keys))
        shown = values_of(cut, plan.outputs, beside=keys[0] if keys else ROW, budget=Budget())
        return [column[: self._wanted] for column in shown], None, self._is_cut(len(shown[0]))

    def _ordered(self, rows: FoundRows, plan: RowPlan) -> Positions:
        """Return the numbers of the rows in the order that is asked for; without one, best first or by key."""
        if rows.scores is not None and not plan.order:
            return np.arange(len(rows))[self._plan.offset :]
        keys = self._snapshot.spec.key
        frame = self._frame(rows, plan.orders | set(keys)).lazy()
        return evaluated(self._cut(ordered(frame, plan.order, keys)).select(ROW))[ROW].to_numpy()

    @property
    def _wanted(self) -> int:
        return DEFAULT_ROWS if self._plan.limit is None else self._plan.limit

    def _is_cut(self, n: int) -> bool:
        """Whether an answer stops unasked before the end of ``n`` rows."""
        return self._plan.limit is None and n > self._wanted

    def _cut(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return the part that is asked for; without LIMIT one more, to know whether there are more."""
        return frame.slice(self._plan.offset, self._wanted + (self._plan.limit is None))

    def _frame(self, rows: FoundRows, names: frozenset[str] | set[str]) -> pl.DataFrame:
        if names and len(rows) > MAX_READ:
            raise FilterError(
                f"the statement would read {len(rows):,} rows; at most {MAX_READ:,} are allowed",
                code="filter_limit",
                hint="narrow its WHERE",
            )
        return rows.frame(names, self._plan.columns.by_name, self._check_time)

    def _shown(
        self, output: Output, frame: pl.DataFrame, each: Sequence[tuple[OpenSegment, int]], budget: Budget
    ) -> list[Any]:
        if output.reading == "column":
            budget.spend(int(frame[output.source].estimated_size()))
            return self._masked(output.source, frame[output.source].to_list())
        hidden, spec = self._sight.hidden_text, self._snapshot.spec
        shown: list[Any] = []
        for segment, position in each:
            self._check_time()
            if output.reading == "passage":
                shown.append(passage(segment, spec, position, hidden))
            else:
                shown.append(whole_field(segment, output.source, segment.chunks_of_row(position)))
            budget.spend(len(shown[-1] or ""))
        return shown if output.reading == "passage" else self._masked(output.source, shown)

    def _masked(self, name: str, values: list[Any]) -> list[Any]:
        return [self._sight.value(name, value) for value in values] if name in self._sight.masks else values

    def _check_time(self) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise DeadlineExceeded("the deadline passed while the statement ran; give it more time, or fewer rows")
