"""Running a SELECT on one snapshot: find the rows, then show, group or order them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from indexer.embedding import QueryEmbedder
from retrieval.bitmap import Positions
from retrieval.chunks import Chunks, Key, keys_of
from retrieval.deadline import check_deadline
from retrieval.errors import FilterError
from retrieval.policies import ANYONE, Caller, Sight
from retrieval.request import SearchRequest
from retrieval.response import Plan
from retrieval.rows import passage, whole_field
from retrieval.search import search
from retrieval.snapshot import Snapshot
from retrieval.sql.evaluate import CELL_BYTES, Budget, grouped, ordered, reckoned, refuse_too_many, size_of
from retrieval.sql.found import ROW, FoundRows
from retrieval.sql.grouped import GroupPlan
from retrieval.sql.outputs import Output, in_utc
from retrieval.sql.parameters import DEFAULT_ROWS
from retrieval.sql.plan import SqlPlan, plan_of
from retrieval.sql.rowwise import RowPlan
from retrieval.sql.statement import Statement
from retrieval.stopwatch import Stopwatch

KEYS_KEPT = 1_000
"""Of so many rows at most that groups are made of, an answer has the keys, for the log of what was read."""

_HAVING, _NUMBER, _VALUE = "\0having", "\0number", "\0value"

Values = list[list[Any]]
"""The values of each column."""

NO_PARAMS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class SqlColumn:
    """A column of an answer, the name of its type, and whether its values are masked for the caller."""

    name: str
    type: str
    masked: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SqlAnswer:
    """The rows of a statement, of the version that the snapshot is of.

    ``truncated`` says that there are more, which a statement without LIMIT does not get. ``read`` is how many of the
    collection's rows it is about; ``search`` says how they were found if they were searched for. ``keys`` are those of
    the rows that are shown or, where groups are, of those that they are made of if these are few, else None. ``masked``
    and ``closed_policies`` are as in a search's response.
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
    run.check_time()
    rows, found_by = run.find(embedder)
    watch.lap("find")
    select = plan.select
    shown, keys, truncated = run.groups(rows, select) if isinstance(select, GroupPlan) else run.rows(rows, select)
    watch.lap("select")
    return SqlAnswer(
        columns=tuple(
            SqlColumn(name=output.name, type=output.type, masked=output.source in sight.masks)
            for output in select.outputs
        ),
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

    def find(self, embedder: QueryEmbedder | None) -> tuple[FoundRows, Plan | None]:
        """Return the rows that the statement is about, best first if it searches."""
        searched = self._plan.searched
        if searched is None:
            return FoundRows.passing(self._snapshot.passing(self._plan.where, self._sight)), None
        request = SearchRequest(
            query=searched.query, k=searched.k, mode=searched.mode, include=(), deadline=self._deadline
        )
        response = search(self._snapshot, request, embedder=embedder, where=self._plan.where, sight=self._sight)
        return FoundRows.ranked(response.results.ranked, self._snapshot.segments), response.plan

    def rows(self, rows: FoundRows, plan: RowPlan) -> tuple[Values, list[Key] | None, bool]:
        """Return the values to show, by column, the rows' keys, and whether there are more."""
        numbers = self._ordered(rows, plan)
        rows = rows.take(numbers[: self._wanted])
        refuse_too_many(len(rows), len(plan.outputs))
        each, budget = rows.each(), Budget()
        read = self._frame(rows, plan.shows - self._redacted)
        for name in plan.shows - self._sight.masks.keys():
            budget.spend(size_of(read[name]))
        shown = [self._shown(output, read, each, budget) for output in plan.outputs]
        return shown, self._keys(each), self._is_cut(len(numbers))

    def groups(self, rows: FoundRows, plan: GroupPlan) -> tuple[Values, list[Key] | None, bool]:
        """Return the values to show, by column, the keys of the rows if they are few, and whether there are more."""
        over = {**plan.keys, **plan.arguments}
        refuse_too_many(len(rows), len(over) + len(plan.reads))
        keys = list(plan.keys)
        read = reckoned(self._frame(rows, plan.reads), over, ROW)
        self.check_time()
        groups = grouped(read, keys, plan.aggregates)
        refuse_too_many(groups.height, len(plan.outputs) + len(plan.order))
        self.check_time()
        if plan.having is not None:
            groups = groups.filter(reckoned(groups, {_HAVING: plan.having})[_HAVING])
        numbers = ordered(groups.with_row_index(_NUMBER), plan.order, keys, _NUMBER, cut=self._cut)
        groups, budget = groups[numbers[: self._wanted]], Budget()
        shown = [self._value(output, groups, budget) for output in plan.outputs]
        few = len(rows) <= KEYS_KEPT
        return shown, self._keys(rows.each()) if few else None, self._is_cut(len(numbers))

    def _ordered(self, rows: FoundRows, plan: RowPlan) -> Positions:
        """Return the numbers of the rows in the order that is asked for; without one, best first or by key."""
        if len(rows) < 2 or (rows.scores is not None and not plan.order):
            return np.arange(len(rows))[self._cut]
        keys = self._snapshot.spec.key
        refuse_too_many(len(rows), len(plan.order) + len(plan.orders))
        found: Positions = ordered(self._frame(rows, plan.orders | set(keys)), plan.order, keys, ROW, cut=self._cut)
        self.check_time()
        return found

    @property
    def _wanted(self) -> int:
        return DEFAULT_ROWS if self._plan.limit is None else self._plan.limit

    @property
    def _cut(self) -> slice:
        """The part that is asked for; without LIMIT one more, to know whether there are more."""
        start = self._plan.offset
        return slice(start, start + self._wanted + (self._plan.limit is None))

    def _is_cut(self, n: int) -> bool:
        """Whether an answer stops unasked before the end of ``n`` rows."""
        return self._plan.limit is None and n > self._wanted

    @property
    def _redacted(self) -> set[str]:
        """The columns of which nothing is shown, so that nothing of them is read either."""
        return {name for name, mask in self._sight.masks.items() if mask == "redact"}

    def _frame(self, rows: FoundRows, names: frozenset[str] | set[str]) -> pl.DataFrame:
        refuse_too_many(len(rows), len(names))
        return rows.frame(names, self._plan.columns.by_name, self.check_time)

    def _keys(self, each: Sequence[tuple[Chunks, int]]) -> list[Key]:
        spec = self._snapshot.spec
        return [key for segment, position in each for key in keys_of(segment, spec, [position])]

    def _shown(
        self, output: Output, read: pl.DataFrame, each: Sequence[tuple[Chunks, int]], budget: Budget
    ) -> list[Any]:
        """Return an output's values; what masked ones are says nothing of their size."""
        if output.reading == "value":
            return self._value(output, read, budget)
        if output.source in self._redacted:
            return [None] * len(each)
        mask = self._sight.masks.get(output.source)
        if output.reading == "column" and mask is None:
            return self._sized(in_utc(read[output.source]), budget)
        if output.reading == "column":
            values: Iterable[Any] = read[output.source].to_list()
        else:
            values = (self._text(output, segment, position) for segment, position in each)
        shown = []
        for value in values:
            self.check_time()
            text: Any = value if mask is None else self._sight.value(output.source, value)
            budget.spend(CELL_BYTES + (len(text.encode(errors="surrogatepass")) if text else 0))
            shown.append(text)
        return shown

    def _text(self, output: Output, segment: Chunks, position: int) -> str | None:
        if output.reading == "passage":
            return passage(segment, self._snapshot.spec, position, self._sight.hidden_text)
        return whole_field(segment, output.source, segment.chunks_of_row(position))

    def _value(self, output: Output, frame: pl.DataFrame, budget: Budget) -> list[Any]:
        assert output.expression is not None
        self.check_time()
        return self._sized(reckoned(frame, {_VALUE: output.expression})[_VALUE], budget)

    def _sized(self, column: pl.Series, budget: Budget) -> list[Any]:
        budget.spend(size_of(column))
        try:
            return column.to_list()
        except (OverflowError, ValueError) as error:
            raise FilterError("a date or time is not in the years 1 to 9999", code="filter_failed") from error

    def check_time(self) -> None:
        """Raise DeadlineExceeded if it has passed."""
        check_deadline(self._deadline, "while the statement ran", "give it more time, or fewer rows")
