"""What a SELECT does with its rows wherever they lie: they are shown, grouped or ordered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from indexer.embedding import QueryEmbedder
from retrieval.bitmap import Positions
from retrieval.chunks import Chunks, Key, keys_of
from retrieval.deadline import check_deadline
from retrieval.errors import FilterError
from retrieval.policies import Sight
from retrieval.response import Plan
from retrieval.rows import passage, whole_field
from retrieval.sql.evaluate import CELL_BYTES, Budget, grouped, ordered, reckoned, refuse_too_many, size_of
from retrieval.sql.found import ROW, FoundRows
from retrieval.sql.grouped import GroupPlan
from retrieval.sql.outputs import Order, Output, in_utc
from retrieval.sql.parameters import DEFAULT_ROWS
from retrieval.sql.plan import SqlPlan
from retrieval.sql.rowwise import RowPlan
from retrieval.stopwatch import Stopwatch
from retrieval.version import OpenVersion

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The rows that a statement is about, ``read`` of them, best first if ``search`` found them.

    ``rows`` may be the first ones alone, as many as are shown.
    """

    rows: FoundRows
    read: int
    search: Plan | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """The ``table`` of groups of ``read`` rows, whose ``keys`` are None where they are many."""

    table: pl.DataFrame
    read: int
    keys: list[Key] | None
    search: Plan | None = None


class StatementRun(ABC):
    """One statement under way, whose rows lie here or elsewhere."""

    def __init__(self, version: OpenVersion, plan: SqlPlan, sight: Sight, deadline: float | None) -> None:
        self.version = version
        self.plan = plan
        self.sight = sight
        self.deadline = deadline

    @abstractmethod
    def find(self, embedder: QueryEmbedder | None) -> Found:
        """Return the rows that the statement is about; of one that shows rows, the first ones may do."""

    @abstractmethod
    def loaded(
        self, rows: FoundRows, columns: Collection[str], *, fields: Collection[str] = (), passages: bool = False
    ) -> FoundRows:
        """Return the same rows with what is read of them at hand: keys, ``columns``, text ``fields``, ``passages``."""

    def groups(self, plan: GroupPlan, embedder: QueryEmbedder | None, watch: Stopwatch) -> Groups:
        """Return the groups."""
        found = self.find(embedder)
        watch.lap("find")
        rows = self.loaded(found.rows, plan.reads)
        table = self.grouped(rows, plan, {name: each.whole(name) for name, each in plan.aggregates.items()})
        keys = self.keys(rows.each()) if self.has_keys(len(rows)) else None
        return Groups(table=table, read=found.read, keys=keys, search=found.search)

    def has_keys(self, read: int) -> bool:
        """Whether an answer of groups has the keys of the ``read`` rows that they are made of."""
        return read <= KEYS_KEPT

    def answer(self, embedder: QueryEmbedder | None, watch: Stopwatch) -> SqlAnswer:
        """Return the answer."""
        self.check_time()
        select = self.plan.select
        if isinstance(select, GroupPlan):
            groups = self.groups(select, embedder, watch)
            shown, truncated = self._shown_groups(groups.table, select)
            about: Groups | Found = groups
            keys = groups.keys
        else:
            found = about = self.find(embedder)
            watch.lap("find")
            shown, keys, truncated = self._shown_rows(found.rows, select)
        watch.lap("select")
        return SqlAnswer(
            columns=tuple(
                SqlColumn(name=output.name, type=output.type, masked=output.source in self.sight.masks)
                for output in select.outputs
            ),
            rows=list(zip(*shown, strict=True)),
            keys=keys,
            truncated=truncated,
            read=about.read,
            search=about.search,
            masked=tuple(sorted(self.sight.masks)),
            closed_policies=tuple(self.sight.troubles),
            took_ms=watch.total(),
        )

    def _shown_rows(self, rows: FoundRows, plan: RowPlan) -> tuple[Values, list[Key], bool]:
        """Return the values to show, by column, the rows' keys, and whether there are more."""
        numbers = self.ordered(rows, plan, self.cut)
        rows = rows.take(numbers[: self._wanted])
        refuse_too_many(len(rows), len(plan.outputs))
        names = plan.shows - self._redacted
        rows = self.loaded(
            rows,
            names,
            fields={output.source for output in plan.outputs if output.reading == "text"} - self._redacted,
            passages=any(output.reading == "passage" for output in plan.outputs),
        )
        each, budget = rows.each(), Budget()
        read = self.frame(rows, names)
        for name in plan.shows - self.sight.masks.keys():
            budget.spend(size_of(read[name]))
        shown = [self._shown(output, read, each, budget) for output in plan.outputs]
        return shown, self.keys(each), self._is_cut(len(numbers))

    def grouped(self, rows: FoundRows, plan: GroupPlan, aggregates: Mapping[str, pl.Expr]) -> pl.DataFrame:
        """Return the table of groups of ``rows`` with ``aggregates`` of their arguments."""
        over = {**plan.keys, **plan.arguments}
        refuse_too_many(len(rows), len(over) + len(plan.reads))
        read = reckoned(self.frame(rows, plan.reads), over, ROW)
        self.check_time()
        return grouped(read, list(plan.keys), aggregates)

    def _shown_groups(self, groups: pl.DataFrame, plan: GroupPlan) -> tuple[Values, bool]:
        """Return the values to show, by column, and whether there are more."""
        refuse_too_many(groups.height, len(plan.outputs) + len(plan.order))
        self.check_time()
        if plan.having is not None:
            groups = groups.filter(reckoned(groups, {_HAVING: plan.having})[_HAVING])
        numbers = first_groups(groups, plan.keys, plan.order, self.cut)
        groups, budget = groups[numbers[: self._wanted]], Budget()
        return [self._value(output, groups, budget) for output in plan.outputs], self._is_cut(len(numbers))

    def ordered(self, rows: FoundRows, plan: RowPlan, cut: slice) -> Positions:
        """Return the numbers of the rows of ``cut`` in the order that is asked for; without one, best first or by key.

        Raises FilterError.
        """
        if len(rows) < 2 or (rows.is_ranked and not plan.order):
            return np.arange(len(rows))[cut]
        keys = self.version.spec.key
        refuse_too_many(len(rows), len(plan.order) + len(plan.orders))
        names = plan.orders | set(keys)
        found: Positions = ordered(self.frame(self.loaded(rows, names), names), plan.order, keys, ROW, cut=cut)
        self.check_time()
        return found

    @property
    def _wanted(self) -> int:
        return DEFAULT_ROWS if self.plan.limit is None else self.plan.limit

    @property
    def cut(self) -> slice:
        """The part that is asked for; without LIMIT one more, to know whether there are more."""
        start = self.plan.offset
        return slice(start, start + self._wanted + (self.plan.limit is None))

    def _is_cut(self, n: int) -> bool:
        """Whether an answer stops unasked before the end of ``n`` rows."""
        return self.plan.limit is None and n > self._wanted

    @property
    def _redacted(self) -> set[str]:
        """The columns of which nothing is shown, so that nothing of them is read either."""
        return {name for name, mask in self.sight.masks.items() if mask == "redact"}

    def frame(self, rows: FoundRows, names: Collection[str]) -> pl.DataFrame:
        """Return stored columns of rows that have them at hand; raises FilterError for too many."""
        refuse_too_many(len(rows), len(names))
        return rows.frame(names, self.plan.columns.by_name, self.check_time)

    def keys(self, each: Sequence[tuple[Chunks, int]]) -> list[Key]:
        """Return the keys of rows that are at hand."""
        spec = self.version.spec
        return [key for segment, position in each for key in keys_of(segment, spec, [position])]

    def _shown(
        self, output: Output, read: pl.DataFrame, each: Sequence[tuple[Chunks, int]], budget: Budget
    ) -> list[Any]:
        """Return an output's values; what masked ones are says nothing of their size."""
        if output.reading == "value":
            return self._value(output, read, budget)
        if output.source in self._redacted:
            return [None] * len(each)
        mask = self.sight.masks.get(output.source)
        if output.reading == "column" and mask is None:
            return self._sized(in_utc(read[output.source]), budget)
        if output.reading == "column":
            values: Iterable[Any] = read[output.source].to_list()
        else:
            values = (self._text(output, segment, position) for segment, position in each)
        shown = []
        for value in values:
            self.check_time()
            text: Any = value if mask is None else self.sight.value(output.source, value)
            budget.spend(CELL_BYTES + (len(text.encode(errors="surrogatepass")) if text else 0))
            shown.append(text)
        return shown

    def _text(self, output: Output, segment: Chunks, position: int) -> str | None:
        if output.reading == "passage":
            return passage(segment, self.version.spec, position, self.sight.hidden_text)
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
        check_deadline(self.deadline, "while the statement ran", "give it more time, or fewer rows")


def first_groups(groups: pl.DataFrame, keys: Collection[str], order: Sequence[Order], cut: slice) -> Positions:
    """Return the numbers of the groups of ``cut`` in the order that is asked for, then by ``keys``."""
    numbers: Positions = ordered(groups.with_row_index(_NUMBER), order, list(keys), _NUMBER, cut=cut)
    return numbers
