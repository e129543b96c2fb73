"""A Snowflake table or view as a source: a batch read at one time, then windows of its changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType
from pyspark.sql.utils import is_remote

from connectors import snowflake_batches
from connectors.contract import POLL_SECONDS, ChangeBatch, Head, Position, Reads
from connectors.errors import BatchLost, SourceError
from connectors.session import for_large_batches
from connectors.snowflake_reader import ACTION, FORMAT, Follow
from connectors.snowflake_session import Session, SignIn
from connectors.snowflake_signal import ChangeSignal
from connectors.snowflake_sql import at, quoted
from connectors.snowflake_stream import SnowflakeStream, contract_rows, register, translated
from connectors.snowflake_table import SECOND, Facts, SnowflakeTable

TRAIL_SECONDS = 2.0
"""How far a window's end stays behind the server's clock, so that a commit that is late to be seen is inside."""
REFRESH_SECONDS = 3600.0
REFRESH_SHARE = 0.25
"""A quiet table's position is moved on when it is an hour old, or this share of the table's retention."""
MAX_ROWS = 1_000_000
"""What a window is cut down to, if it can be: how many rows a micro-batch should have at most."""


class SnowflakeSource:
    """Implements :class:`connectors.contract.Source` over a Snowflake table or view ``DB.SCHEMA.TABLE``.

    ``columns`` are those of the table that its DataFrames have, under these names; ``paths`` gives some of them as
    places inside semi-structured columns (``{"owner": "attributes:owner.name"}``). A version is a time in microseconds
    since 1970 UTC, by the server's clock; a batch's rows all have the version and time of its window's end. Reading
    moves nothing on the server, so that any window can be read again. A continuous stream asks the server at most
    every ``poll_seconds``.
    """

    def __init__(
        self,
        spark: SparkSession,
        table: str,
        columns: Sequence[str],
        *,
        sign_in: SignIn | None = None,
        paths: Mapping[str, str] | None = None,
        trail_seconds: float = TRAIL_SECONDS,
        refresh_seconds: float = REFRESH_SECONDS,
        poll_seconds: float = 1.0,
        max_rows: int = MAX_ROWS,
    ) -> None:
        if is_remote():
            raise SourceError("a Snowflake source needs a classic Spark session: Spark Connect hides a stream's files")
        self._spark = spark
        self._columns = tuple(columns)
        self._session = Session(sign_in or SignIn(), table)
        self._table = SnowflakeTable(self._session, table, paths)
        self._trail, self._refresh, self._poll = trail_seconds, refresh_seconds, poll_seconds
        self._max_rows = max_rows
        self._signal = ChangeSignal()
        self._lock = threading.Lock()
        self._snapshot: tuple[tuple[str, str], str, str] | None = None

    def head(self) -> Head:
        """Return the time up to which everything is surely visible: two statements that need no warehouse."""
        return self._table.head(self._trail)

    def reads(self) -> Reads:
        """Return ``changes`` where the table keeps some, and ``snapshots`` where it does not; up to ten seconds old."""
        facts = self._table.recent_facts()
        return "changes" if facts.tracked and facts.travels else "snapshots"

    def require_followable(self) -> None:
        """Return: what keeps no changes is compared by snapshots."""

    def has_nothing_after(self, position: Position) -> bool:
        """Say whether ``position`` has all that the table's token stands for: one statement, or two after a change.

        A table that keeps no changes may have no token either (one of a shared database): then nobody knows.
        """
        with self._lock:
            try:
                token = self._table.token()
            except SourceError as error:
                if type(error) is not SourceError or self.reads() == "changes":
                    raise
                return False
            if self._signal.is_news(token):
                self._signal.note(token, self._session.clock())
            return self._signal.waiting(position.version) is None

    def retention_seconds(self) -> float | None:
        """Return the table's retention for time travel; None for a view, whose tables have their own."""
        return self._table.retention_seconds(self._table.recent_facts())

    def schema(self) -> StructType:
        """Return the table's columns, ours among them under our names; see :meth:`SnowflakeTable.schema`."""
        return self._table.schema(self._columns)

    def snapshot(self, position: Position) -> DataFrame:
        """Return every row at exactly ``position``, each as an ``upsert`` of that version.

        The query runs once, now; what is done with the frame fetches its result. A table that has no time travel (one
        of a shared database) is read as it is now, which is later than ``position``.
        """
        facts = self._table.require_epoch(position)
        layout = self._table.layout(self._columns)
        query, query_id = self._ran(f"SELECT {layout.select} FROM ", facts, position.version)
        spark = for_large_batches(self._spark)
        register(spark)
        reader = spark.read.format(FORMAT).schema(layout.schema).options(**self._session.sign_in.options())
        with translated(self._table.named):
            rows = reader.options(named=self._table.named, query=query, queryid=query_id).load()
            return contract_rows(rows, list(self._columns), position.version, action=False)

    def stream(
        self,
        start: Position,
        handle: Callable[[ChangeBatch], None],
        *,
        continuous: bool,
        interval_seconds: float = POLL_SECONDS,
        stop: Callable[[], bool] | None = None,
        until: Position | None = None,
    ) -> None:
        """Call ``handle`` with the windows of changes after ``start``, as the contract says.

        Raises before reading: :class:`SourceNotFound`, :class:`SourceRecreated`, :class:`ChangesUnavailable`,
        :class:`HistoryExpired` and :class:`SchemaMismatch`. A window whose result is lost while it is handled is
        planned anew, and ``handle`` is called again with it.
        """
        facts = self._checked(start)
        layout = self._table.layout(self._columns)
        goal = None if continuous else (until or self.head().position).version
        if goal is not None and goal <= start.version:
            return
        follow = Follow(
            named=self._table.named,
            table=facts.sql,
            select=f"{layout.select}, METADATA$ACTION AS {quoted(ACTION)}",
            start=start,
            trail=round(self._trail * SECOND),
            refresh=round(self._refresh_seconds(facts) * SECOND),
            max_rows=self._max_rows,
            goal=goal,
        )
        spark = self._spark if continuous else for_large_batches(self._spark)
        stream = SnowflakeStream(spark, self._session.sign_in, layout.schema, follow, handle, self._learn)
        self._run(stream, max(interval_seconds, self._poll) if continuous else None, stop)

    def _run(self, stream: SnowflakeStream, interval: float | None, stop: Callable[[], bool] | None) -> None:
        """Run ``stream``, again whenever a batch of a window was lost, unless that is the window that was lost last."""
        lost_at = -1
        while True:
            try:
                return stream.read(interval_seconds=interval, stop=stop)
            except BatchLost:
                if stream.position.version == lost_at:
                    raise
                lost_at = stream.position.version
                self._checked(stream.position)

    def _checked(self, start: Position) -> Facts:
        facts = self._table.require_epoch(start)
        self._table.require_tracking(facts)
        self._table.require_history(facts, start.version)
        return facts

    def _refresh_seconds(self, facts: Facts) -> float:
        kept = self._table.retention_seconds(facts)
        return self._refresh if kept is None else min(self._refresh, kept * REFRESH_SHARE)

    def _ran(self, select: str, facts: Facts, version: int) -> tuple[str, str]:
        """Return the query that was run in the end, and its id; the last one is not run twice."""
        then, now = select + at(facts.sql, version), select + facts.sql
        asked = (facts.epoch, then)
        if self._snapshot is None or self._snapshot[0] != asked:
            try:
                query = then if facts.travels else now
                query_id = snowflake_batches.run(self._session, query).query_id
            except SourceError as error:
                if facts.tracked or type(error) is not SourceError:
                    raise
                query, query_id = now, self._ran_now(now, error)
            self._snapshot = asked, query, query_id
        return self._snapshot[1:]

    def _ran_now(self, query: str, why: SourceError) -> str:
        try:
            return snowflake_batches.run(self._session, query).query_id
        except SourceError:
            raise why from None

    def _learn(self, token: str, seen: int) -> None:
        with self._lock:
            self._signal.note(token, seen)
