"""A Snowflake table's windows of changes by Structured Streaming, from a position to the caller's handler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import StringType, StructField, StructType

from connectors import errors
from connectors.columns import column
from connectors.contract import COMMITTED_AT, DELETE, OP, UPSERT, VERSION, ChangeBatch, Position
from connectors.errors import SourceError
from connectors.scratch_stream import ScratchStream
from connectors.snowflake_reader import ACTION, FORMAT, Follow, SnowflakeDataSource, version_of
from connectors.snowflake_session import SignIn, scrubbed
from connectors.snowflake_sql import moment
from connectors.told import told_by


class SnowflakeStream(ScratchStream):
    """Reads the windows of ``follow`` after ``position``; ``columns`` is the schema of what it selects.

    ``learn`` is told the token and the time at which it was first seen, as of each window.
    """

    def __init__(
        self,
        spark: SparkSession,
        sign_in: SignIn,
        columns: StructType,
        follow: Follow,
        handle: Callable[[ChangeBatch], None],
        learn: Callable[[str, int], None],
    ) -> None:
        super().__init__(follow.named, follow.start, handle)
        self._spark, self._sign_in, self._columns = spark, sign_in, columns
        self._follow, self._learn = follow, learn

    def feed(self) -> DataFrame:
        """Return the windows after ``position``."""
        follow = Follow(**{**self._follow.__dict__, "start": self.position})
        schema = StructType([*self._columns.fields, StructField(ACTION, StringType())])
        register(self._spark)
        reader = self._spark.readStream.format(FORMAT).schema(schema)
        return reader.options(**follow.options(), **self._sign_in.options()).load()

    def take(self, frame: DataFrame, offsets: str) -> None:
        """Hand on a window."""
        offset = version_of(offsets)
        if offset["version"] <= self.position.version:
            return
        end = Position(self.position.epoch, offset["version"])
        if offset["token"] is not None:
            self._learn(offset["token"], offset["seen"])
        changes = contract_rows(frame, self._columns.names, end.version, action=True)
        self.hand_on(ChangeBatch(self.position, end, moment(end.version), changes))

    def translate(self, error: BaseException) -> SourceError | None:
        """Return the error of ours that Spark hands on as text."""
        return revived(error, self.named)

    def translated(self) -> AbstractContextManager[None]:
        """Translate what starting the query raises."""
        return translated(self.named)

    def lost(self, error: Exception) -> SourceError | None:
        """Return what the handler met when it was the fetching of a batch that failed."""
        return revived(error, self.named) if isinstance(error, PySparkException) else None


def register(spark: SparkSession) -> None:
    """Make the data source known to the session."""
    spark.dataSource.register(SnowflakeDataSource)


def contract_rows(rows: DataFrame, columns: list[str], version: int, *, action: bool) -> DataFrame:
    """Turn rows as of ``version`` into those of the change contract; without ``action`` each is an upsert."""
    op = F.when(F.col(ACTION) == "DELETE", DELETE).otherwise(UPSERT) if action else F.lit(UPSERT)
    return rows.select(
        *(column(name) for name in columns),
        op.alias(OP),
        F.lit(version).cast("long").alias(VERSION),
        F.lit(moment(version)).alias(COMMITTED_AT),
    )


def revived(error: BaseException, named: str) -> SourceError | None:
    """Return the error of ours that a Spark error tells of, or None."""
    told = told_by(error, errors)
    if told is None:
        return None
    kind = told.kind if told.kind is not None and issubclass(told.kind, SourceError) else SourceError
    return kind(told.message or f"{named}: {told.name}")


@contextmanager
def translated(named: str) -> Iterator[None]:
    """Translate what Spark raises within, without its text: that is a stack trace."""
    try:
        yield
    except PySparkException as error:
        raise revived(error, named) or SourceError(f"{named}: {scrubbed(_first_line(error))}") from None


def _first_line(error: Any) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
