"""A query's result in batches: planned where a session is, fetched as Arrow where the tasks are.

A batch's address and key live in the serialised task that fetches it and nowhere else: not in a plan's text, an error
or a file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql.datasource import InputPartition
from snowflake.connector.errors import Error, InternalError, OperationalError
from snowflake.connector.result_batch import IterTableStructure, IterUnit, ResultBatch

from connectors.errors import BatchLost, SourceError
from connectors.snowflake_session import Session, SignIn, translate
from connectors.snowflake_types import spark_batches

if TYPE_CHECKING:
    from pyspark.sql.types import StructType
    from snowflake.connector.cursor import SnowflakeCursor


PAUSES_SECONDS = (0.2, 1.0)
"""How long to wait before the second and the third time that a batch is fetched."""
REFUSED = "non-successful HTTP status"
"""How the connector says that the store answered and said no: the address has expired, as a rule."""


class BatchPartition(InputPartition):
    """One batch of the result of the query ``query_id``: its ``index``-th, of ``of``."""

    def __init__(self, batch: ResultBatch, query_id: str, index: int, of: int) -> None:
        self.batch, self.query_id, self.index, self.of = batch, query_id, index, of

    def __repr__(self) -> str:
        return f"BatchPartition({self.query_id}, {self.index + 1} of {self.of})"


@dataclass(frozen=True)
class Result:
    """A query's result: its id, how many rows it has, and the batches that they are in."""

    query_id: str
    rows: int
    partitions: tuple[BatchPartition, ...]


def run(session: Session, sql: str) -> Result:
    """Run ``sql`` and return where its rows are."""
    return session.run(lambda cursor: _result(cursor.execute(sql)))


def again(session: Session, query_id: str) -> Result:
    """Return where the rows of a query are that ran before, with fresh addresses; the server keeps them for a day."""
    return session.run(lambda cursor: _result(cursor.query_result(query_id)))


def _result(cursor: SnowflakeCursor | Any) -> Result:
    batches = [batch for batch in cursor.get_result_batches() or [] if batch.rowcount]
    query_id = str(cursor.sfqid)
    found = [BatchPartition(batch, query_id, index, len(batches)) for index, batch in enumerate(batches)]
    return Result(query_id=query_id, rows=sum(batch.rowcount for batch in batches), partitions=tuple(found))


def fetch(partition: BatchPartition, schema: StructType, sign_in: SignIn, named: str) -> Iterator[pa.RecordBatch]:
    """Yield the batch's rows. It is there whole before the first is yielded, so that no row comes twice.

    A transfer that breaks is begun again; an address that no longer works is renewed, from the same query. Raises
    :class:`BatchLost` when that does not help, and :class:`SourceError` for a value that cannot be read.
    """
    try:
        tables = _patiently(partition.batch)
    except (OperationalError, InternalError) as error:
        tables = _renewed(partition, sign_in, named, translate(error, named))
    except Error as error:
        raise translate(error, named) from None
    for table in tables:
        yield from spark_batches(table, schema)


def _renewed(partition: BatchPartition, sign_in: SignIn, named: str, first: SourceError) -> list[pa.Table]:
    try:
        with Session(sign_in, named) as session:
            fresh = again(session, partition.query_id)
            if len(fresh.partitions) != partition.of:
                raise BatchLost(f"{named}: the result of query {partition.query_id} comes in other batches than before")
            batch = fresh.partitions[partition.index].batch
            return session.fetch(lambda connection: _patiently(batch, connection))
    except BatchLost:
        raise
    except SourceError as error:
        raise BatchLost(
            f"{named}: batch {partition.index + 1} of {partition.of} of query {partition.query_id} cannot be fetched "
            f"({first}), and no fresh address of it either ({error})"
        ) from None


def _patiently(batch: ResultBatch, connection: Any = None) -> list[pa.Table]:
    """Fetch the tables of ``batch``, again when the transfer broke: the connector itself does not try twice."""
    for pause in PAUSES_SECONDS:
        try:
            return _tables(batch, connection)
        except (OperationalError, InternalError) as error:
            if REFUSED in str(error):
                raise
            time.sleep(pause)
    return _tables(batch, connection)


def _tables(batch: ResultBatch, connection: Any) -> list[pa.Table]:
    """Fetch the tables of ``batch``; what it yields instead of one, because a value would not convert, is raised."""
    found: list[pa.Table] = []
    for item in batch.create_iter(
        connection=connection,
        iter_unit=IterUnit.TABLE_UNIT,
        structure=IterTableStructure.ARROW,
        number_to_decimal=True,
        force_microsecond_precision=True,
    ):
        if isinstance(item, Exception):
            raise item
        if item is not None:
            found.append(item)
    return found
