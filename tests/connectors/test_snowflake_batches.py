"""A result's batches: fetched apart from the session, fetched again, renewed, and given up by name."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.sql.types import LongType, StringType, StructField, StructType
from snowflake.connector.errors import InterfaceError

from connectors import snowflake_batches
from connectors.errors import BatchLost, SourceError
from connectors.snowflake_batches import BatchPartition, Result, again, fetch, run
from connectors.snowflake_session import Session, SignIn
from tests.snowflake.server import SnowflakeServer

SCHEMA = StructType([StructField("n", LongType()), StructField("t", StringType())])
ROWS = 'SELECT SEQ4()::NUMBER(9, 0) AS "n", \'x\' AS "t" FROM TABLE(GENERATOR(ROWCOUNT => 2500))'


@pytest.fixture
def session(snowflake: SnowflakeServer, sign_in: SignIn) -> Iterator[Session]:
    snowflake.rows_per_chunk(1000)
    with Session(sign_in, "SHOP.PUBLIC.T") as session:
        yield session


@pytest.fixture
def result(session: Session) -> Result:
    return run(session, ROWS)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snowflake_batches, "PAUSES_SECONDS", (0.0, 0.0))


def numbers(partition: BatchPartition, sign_in: SignIn) -> list[int]:
    """Fetch a batch as a task does, from what was sent to it."""
    sent = pickle.loads(pickle.dumps(partition))
    return [n for batch in fetch(sent, SCHEMA, sign_in, "SHOP.PUBLIC.T") for n in batch["n"].to_pylist()]


def test_a_result_comes_in_batches_that_need_no_session(result: Result, session: Session, sign_in: SignIn) -> None:
    session.close()

    assert (result.rows, len(result.partitions)) == (2500, 3)
    assert [n for p in result.partitions for n in numbers(p, sign_in)] == list(range(2500))


def test_an_empty_result_has_no_batch(session: Session) -> None:
    assert run(session, f'SELECT * FROM ({ROWS}) WHERE "n" < 0').partitions == ()


def test_a_result_is_found_again_by_its_query(result: Result, session: Session, sign_in: SignIn) -> None:
    found = again(session, result.query_id)

    assert numbers(found.partitions[2], sign_in) == list(range(2000, 2500))


def test_an_expired_address_is_renewed_from_the_same_query(
    snowflake: SnowflakeServer, result: Result, sign_in: SignIn
) -> None:
    snowflake.expire_addresses()
    before = len(snowflake.statements())

    assert numbers(result.partitions[1], sign_in) == list(range(1000, 2000))
    assert len(snowflake.statements()) == before  # the query did not run again


def test_a_transfer_that_breaks_is_begun_again_without_signing_in(
    snowflake: SnowflakeServer, result: Result, sign_in: SignIn
) -> None:
    logins = len(snowflake.logins())
    snowflake.drop_chunks(2)

    assert numbers(result.partitions[1], sign_in) == list(range(1000, 2000))
    assert len(snowflake.logins()) == logins


def test_a_store_that_is_busy_is_asked_again(snowflake: SnowflakeServer, result: Result, sign_in: SignIn) -> None:
    snowflake.http_errors(503, 1)

    assert numbers(result.partitions[1], sign_in) == list(range(1000, 2000))


def test_a_batch_whose_result_is_gone_is_lost(snowflake: SnowflakeServer, result: Result, sign_in: SignIn) -> None:
    snowflake.expire_addresses()
    snowflake.expire_results()

    with pytest.raises(BatchLost, match=r"batch 2 of 3 of query .* no fresh address of it either") as caught:
        numbers(result.partitions[1], sign_in)

    assert caught.value.__cause__ is None


def test_a_batch_that_cannot_be_renewed_for_want_of_a_sign_in_is_lost(
    snowflake: SnowflakeServer, result: Result, sign_in: SignIn
) -> None:
    snowflake.expire_addresses()
    snowflake.refuse_logins(1)

    with pytest.raises(BatchLost, match="signing in to Snowflake failed"):
        numbers(result.partitions[1], sign_in)


def test_an_error_that_a_batch_yields_is_raised(result: Result, sign_in: SignIn) -> None:
    class Yields:
        def create_iter(self, **_: Any) -> Iterator[Any]:
            return iter([InterfaceError(msg="cannot convert", errno=252005)])

    partition = BatchPartition(Yields(), result.query_id, 0, 1)  # type: ignore[arg-type]

    with pytest.raises(SourceError, match="252005: cannot convert"):
        list(fetch(partition, SCHEMA, sign_in, "SHOP.PUBLIC.T"))


def test_a_value_that_does_not_fit_names_its_column(result: Result, sign_in: SignIn) -> None:
    schema = StructType([StructField("t", StringType()), StructField("n", LongType())])

    with pytest.raises(SourceError, match="column 'n' came as string and cannot be read as int64"):
        list(fetch(result.partitions[0], schema, sign_in, "SHOP.PUBLIC.T"))


def test_a_task_holds_the_address_and_says_nothing_of_it(result: Result) -> None:
    partition = result.partitions[1]

    assert b"X-Amz-Signature" in pickle.dumps(partition)
    assert repr(partition) == f"BatchPartition({result.query_id}, 2 of 3)"
