"""Where a secret may be: in connections.toml and in serialised tasks. Looked for everywhere else."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from connectors.contract import ChangeBatch
from connectors.session import scratch_dir
from connectors.snowflake_batches import again
from connectors.snowflake_session import Session, SignIn
from connectors.snowflake_stream import revived
from tests.connectors.signing_in import connections_file
from tests.connectors.tables import SnowflakeTableInAccount
from tests.snowflake.server import SnowflakeServer

PASSWORD = "canary-d41d8cd9"
ROWS = 2_500


@pytest.fixture
def table(
    spark: SparkSession, snowflake: SnowflakeServer, schema: str, tmp_path: Path
) -> Iterator[SnowflakeTableInAccount]:
    snowflake.rows_per_chunk(1_000)
    file = connections_file(tmp_path, snowflake.connection_parameters() | {"password": PASSWORD})
    sign_in = SignIn(connection="emulated", connections_file=str(file), tag="grebe canary")
    table = SnowflakeTableInAccount(spark, snowflake, schema, sign_in)
    yield table
    assert snowflake.logins()


def fill(table: SnowflakeTableInAccount) -> None:
    table.sql(f"INSERT INTO {table.name} SELECT SEQ4(), 'x' FROM TABLE(GENERATOR(ROWCOUNT => {ROWS}))")


def secrets_of(table: SnowflakeTableInAccount, query_id: str) -> list[str]:
    """Return what must be nowhere: the password, and the key of a result, which all of its addresses share."""
    with Session(table.sign_in, table.name) as session:
        chunk = str(again(session, query_id).partitions[1].batch._chunk)
    (key,) = set(re.findall(r'"([A-Za-z0-9+/]{43}=)"', chunk))
    return [PASSWORD, key, "X-Amz-Signature"]


def plan_of(frame: DataFrame) -> str:
    return str(frame._jdf.queryExecution().toString())


def files() -> str:
    """Return all that Spark keeps on disk by now: its log, its checkpoints, its warehouse."""
    texts = []
    for path in scratch_dir().rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # Spark clears up meanwhile
            texts.append(path.read_text(errors="replace"))
    return "".join(texts)


def told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_nothing_secret_is_in_a_plan_an_error_a_log_or_a_file(
    table: SnowflakeTableInAccount, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    start = table.source.head().position
    fill(table)
    source = table.reopened()
    rows = source.snapshot(source.head().position)
    assert source._snapshot is not None
    secrets = secrets_of(table, source._snapshot[2])
    seen = [plan_of(rows), files()]

    table.server.drop_chunks(100)  # every fetch fails, with the address in the connector's hands
    with pytest.raises(Exception, match="cannot be fetched") as of_a_task:
        rows.collect()
    table.server.drop_chunks(0)
    seen += [told(of_a_task.value), told(revived(of_a_task.value, "t") or ValueError())]

    def handle(batch: ChangeBatch) -> None:
        seen.extend([plan_of(batch.changes), files()])
        table.server.drop_chunks(100)
        batch.changes.collect()

    with pytest.raises(Exception, match="cannot be fetched") as of_a_stream:
        source.stream(start, handle, continuous=False)
    table.server.drop_chunks(0)
    seen += [told(of_a_stream.value), files()]

    table.server.refuse_logins(5)
    refused = table.reopened(sign_in=replace(table.sign_in, tag="another"))
    with pytest.raises(Exception, match="signing in") as of_a_sign_in:
        refused.head()
    with contextlib.suppress(Exception):
        rows.collect()
    table.server.refuse_logins(0)
    out = capfd.readouterr()
    seen += [told(of_a_sign_in.value), files(), caplog.text, out.out, out.err, repr(table.sign_in), repr(source)]

    assert [secret for secret in secrets for text in seen if secret in text] == []
