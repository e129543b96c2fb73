"""The Spark data source over Snowflake: a query's rows as a batch, a table's windows of changes as a stream.

It runs in processes of Spark's own: the planner beside the driver, which signs in there, and the tasks, which fetch.
Its options name how to sign in and hold no secret. See :mod:`connectors.snowflake_source` for what uses it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, cast

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceReader, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

from connectors import snowflake_batches as batches
from connectors.contract import Position
from connectors.errors import SourceError
from connectors.snowflake_session import Session, SignIn
from connectors.snowflake_signal import ChangeSignal
from connectors.snowflake_sql import changes, readable_at
from connectors.snowflake_table import SECOND, SnowflakeTable

FORMAT = "grebe_snowflake"
ACTION = "_action"
"""The stream's last column: METADATA$ACTION, which is INSERT or DELETE."""

SHORTEST_WINDOW = SECOND
"""A window is not halved below this, in microseconds, however many rows it has."""


class SnowflakeDataSource(DataSource):
    """``spark.read`` runs the option ``query``; ``spark.readStream`` follows the options of a :class:`Follow`."""

    @classmethod
    def name(cls) -> str:
        """Return the name that ``format`` takes."""
        return FORMAT

    def reader(self, schema: StructType) -> DataSourceReader:
        """Return the reader of one query."""
        return SnowflakeBatchReader(self.options, schema)

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: N802 - Spark's name
        """Return the reader of windows of changes."""
        return SnowflakeStreamReader(self.options, schema)


class _Fetching:
    """What both readers' tasks do."""

    def __init__(self, options: Mapping[str, str], schema: StructType) -> None:
        self.schema = schema
        self.named = options["named"]
        self.sign_in = SignIn.of(options)

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Yield the rows of one batch; of none, where there was nothing to plan."""
        if isinstance(partition, batches.BatchPartition):
            yield from batches.fetch(partition, self.schema, self.sign_in, self.named)


class SnowflakeBatchReader(_Fetching, DataSourceReader):
    """The result of the option ``query``, which ran as ``queryid``; run anew when the server has let go of it."""

    def __init__(self, options: MutableMapping[str, str], schema: StructType) -> None:
        super().__init__(options, schema)
        self._query, self._query_id = options["query"], options["queryid"]

    def partitions(self) -> Sequence[InputPartition]:
        """Return one partition per batch of the result."""
        with Session(self.sign_in, self.named) as session:
            try:
                result = batches.again(session, self._query_id)
            except SourceError:
                result = batches.run(session, self._query)
        return list(result.partitions)


@dataclass(frozen=True, kw_only=True)
class Follow:
    """What a stream follows: ``select`` of ``table``'s changes after ``start``, up to ``goal`` if there is one.

    ``table`` is the name in SQL, every part of it in double quotes; ``named`` is what errors call it.

    Times are in microseconds: ``trail`` is how far a window's end stays behind the server's clock; a position that is
    older than ``refresh`` is moved on although nothing has changed. ``max_rows`` is what a window is cut down to.
    """

    named: str
    table: str
    select: str
    start: Position
    trail: int
    refresh: int
    max_rows: int
    goal: int | None

    def options(self) -> dict[str, str]:
        """Return this as options of the data source."""
        values = {**self.__dict__, "start": [self.start.epoch, self.start.version]}
        return {"named": self.named, "follow": json.dumps(values)}

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Follow:
        """Return what :meth:`options` made."""
        values = json.loads(options["follow"])
        return cls(**{**values, "start": Position(*values["start"])})


Offset = dict[str, Any]
"""``version`` is a window's end. ``token`` was first seen at ``seen``, so that others can learn of it (or ``None``)."""


class SnowflakeStreamReader(_Fetching, DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Abutting windows of changes, each read when the table's token says that there is something to read."""

    def __init__(self, options: MutableMapping[str, str], schema: StructType) -> None:
        super().__init__(options, schema)
        self._follow = Follow.of(options)
        self._opened: SnowflakeTable | None = None
        self._signal = ChangeSignal()
        self._planned: dict[tuple[int, int], batches.Result | None] = {}
        self._goal: int | None = None
        self._moved_at = monotonic()
        self._caught_up = False

    def initialOffset(self) -> Offset:  # noqa: N802 - Spark's names, here and below
        """Return the position to go on from."""
        return {"epoch": self._follow.start.epoch, "version": self._follow.start.version, "token": None, "seen": None}

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802
        """Ask for at most ``max_rows`` a batch: a window with more is halved until it has no more, or is a second."""
        return ReadMaxRows(self._follow.max_rows)

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        """Read up to the goal, or to the head as it is now."""
        self._goal = self._follow.goal or self._table.head(self._follow.trail / SECOND).position.version

    def latestOffset(self, start: Offset, limit: ReadLimit) -> Offset:  # noqa: N802
        """Return the end of the next window, or ``start`` while there is nothing to read."""
        version = int(start["version"])
        end, empty = self._end(version)
        if end <= version:
            return start
        self._table.require_epoch(self._follow.start)
        if empty:
            self._planned[version, end] = None
        else:
            end = self._plan(version, end, limit)
        self._moved_at = monotonic()
        return {**start, "version": end, **self._signal.last()}

    def partitions(self, start: Offset, end: Offset) -> Sequence[InputPartition]:
        """Return one partition per batch of the window's changes."""
        window = int(start["version"]), int(end["version"])
        if window[0] == window[1]:
            return []
        if window not in self._planned:
            self._planned[window] = self._run(*window)
        result = self._planned[window]
        return [] if result is None else list(result.partitions)

    def commit(self, end: Offset) -> None:
        """Forget the windows that have been handled."""
        version = int(end["version"])
        self._planned = {window: result for window, result in self._planned.items() if window[1] > version}
        self._signal.forget(version)

    def stop(self) -> None:
        """Sign out."""
        if self._opened is not None:
            self._opened.session.close()

    @property
    def _table(self) -> SnowflakeTable:
        if self._opened is None:
            session = Session(self.sign_in, self.named)
            self._opened = SnowflakeTable(session, self._follow.table, named=self.named)
        return self._opened

    def _end(self, version: int) -> tuple[int, bool]:
        """Return where the window after ``version`` ends (or something no later), and whether it is known to be empty.

        A window is read when its end has passed the moment at which a token was first seen: not before, because what
        the token stands for may be later than the end, and the warehouse would have worked for nothing.
        """
        if self._goal is not None:
            return self._goal, False
        before = self._refreshing()
        token = self._table.token()
        if before is not None and not self._signal.is_news(token) and self._signal.waiting(version) is None:
            return readable_at(before - self._follow.trail), True  # no commit up to `before` was unknown to the token
        if self._signal.is_news(token):
            self._signal.note(token, self._table.session.clock())
        waiting = self._signal.waiting(version)
        if waiting is None:
            return version, False
        end = readable_at(self._table.session.clock() - self._follow.trail)
        ready = end >= waiting or not self._caught_up
        self._caught_up = True
        return (end if ready else version), False

    def _refreshing(self) -> int | None:
        """Return the server's clock when the position is getting old, else None."""
        age = (monotonic() - self._moved_at) * SECOND
        return self._table.session.clock() if age > self._follow.refresh else None

    def _plan(self, start: int, end: int, limit: ReadLimit) -> int:
        """Plan the window and return its end, nearer than ``end`` where that has more rows than ``limit``."""
        while True:
            result = self._run(start, end)
            narrow = end - start < 2 * SHORTEST_WINDOW
            if not isinstance(limit, ReadMaxRows) or result.rows <= limit.max_rows or narrow:
                self._planned[start, end] = result
                return end
            end = readable_at(start + (end - start) // 2)

    def _run(self, start: int, end: int) -> batches.Result:
        window = changes(self._follow.table, start, end)
        return batches.run(self._table.session, f"SELECT {self._follow.select} FROM {window}")


def version_of(offset: str) -> Offset:
    """Read the end of a micro-batch out of its offset file."""
    return cast(Offset, json.loads(offset.splitlines()[-1]))
