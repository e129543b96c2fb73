"""What the service does around a statement, through the connector: sign-in, tokens, chunks, faults."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from datetime import time as clock
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.connector import SnowflakeConnection
from snowflake.connector.errors import DatabaseError, IntegrityError, InternalError, ProgrammingError
from snowflake.connector.result_batch import ResultBatch

from tests.snowflake.rules import now, sql
from tests.snowflake.server import EmulatedAccount, SnowflakeServer, snowflake_server

ROWS = 25


@pytest.fixture
def connection(snowflake: SnowflakeServer, schema: str) -> Iterator[SnowflakeConnection]:
    """Yield a connection to a schema with the table big, whose results come in chunks of ten rows."""
    snowflake.execute("CREATE TABLE big (id INT)")
    snowflake.execute(f"INSERT INTO big SELECT SEQ4() FROM TABLE(GENERATOR(ROWCOUNT => {ROWS}))")
    snowflake.rows_per_chunk(10)
    database, name = schema.split(".")
    with snowflake.connect(database=database, schema=name) as connection:
        yield connection


def batches(connection: SnowflakeConnection) -> tuple[str, list[ResultBatch]]:
    """Return the query id and the batches of the whole of big."""
    cursor = connection.cursor()
    cursor.execute("SELECT id FROM big")
    found = cursor.get_result_batches()
    assert found is not None
    assert cursor.sfqid is not None
    return cursor.sfqid, found


def ids(found: list[ResultBatch]) -> list[int]:
    """Return what batches hold."""
    return [key for batch in found for key in batch.to_arrow().column("ID").to_pylist()]


def ids_of_pickled(content: bytes) -> list[int]:
    """Return what pickled batches hold; in a process of its own there is no connection."""
    return ids(pickle.loads(content))


class TestSignIn:
    def test_with_a_password(self, snowflake: SnowflakeServer) -> None:
        snowflake.connect(session_parameters={"QUERY_TAG": "grebe", "TIMEZONE": "UTC"}).close()

        (login,) = snowflake.logins()
        assert (login.how, login.user) == ("PASSWORD", "GREBE")
        assert (login.parameters["QUERY_TAG"], login.parameters["TIMEZONE"]) == ("grebe", "UTC")

    @pytest.mark.parametrize(
        ("how", "credential"),
        [
            ("OAUTH", {"authenticator": "oauth", "token": "any"}),
            ("PROGRAMMATIC_ACCESS_TOKEN", {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": "any"}),
        ],
    )
    def test_with_a_token(self, snowflake: SnowflakeServer, how: str, credential: dict[str, str]) -> None:
        snowflake.connect(password=None, **credential).close()

        assert [login.how for login in snowflake.logins()] == [how]

    def test_with_a_key_pair(self, snowflake: SnowflakeServer) -> None:
        key = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        snowflake.connect(password=None, private_key=key).close()

        assert [login.how for login in snowflake.logins()] == ["KEY_PAIR"]

    def test_refused(self, snowflake: SnowflakeServer) -> None:
        snowflake.refuse_logins(1)

        with pytest.raises(DatabaseError, match="Incorrect username or password") as raised:
            snowflake.connect()
        assert (raised.value.errno, raised.value.sqlstate) == (390100, "28000")
        snowflake.connect().close()


class TestTokens:
    def test_an_expired_session_token_is_renewed(self, snowflake: SnowflakeServer, connection: Any) -> None:
        snowflake.expire_tokens()

        assert connection.cursor().execute("SELECT 1").fetchall() == [(1,)]
        assert len(snowflake.logins()) == 2  # the server's own and this one: neither signed in again

    def test_an_expired_master_token_ends_the_session(self, snowflake: SnowflakeServer, connection: Any) -> None:
        snowflake.expire_tokens(master=True)

        with pytest.raises(DatabaseError) as raised:
            connection.cursor().execute("SELECT 1")
        assert raised.value.errno == 390114
        snowflake.close()

    def test_a_session_that_is_gone(self, snowflake: SnowflakeServer, connection: Any) -> None:
        snowflake.end_sessions()

        with pytest.raises(ProgrammingError) as raised:
            connection.cursor().execute("SELECT 1")
        assert raised.value.errno == 390111
        snowflake.close()


class TestChunks:
    def test_a_result_in_several_batches(self, connection: SnowflakeConnection) -> None:
        _, found = batches(connection)

        assert [batch.rowcount for batch in found] == [10, 10, 5]
        assert sorted(ids(found)) == list(range(ROWS))

    def test_batches_in_another_process(self, connection: SnowflakeConnection) -> None:
        """Their addresses need no connection (Python connector, "Retrieving results in batches")."""
        content = pickle.dumps(batches(connection)[1])
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
            assert sorted(pool.submit(ids_of_pickled, content).result()) == list(range(ROWS))

    def test_an_address_expires_and_its_query_gives_a_new_one(
        self, snowflake: SnowflakeServer, connection: SnowflakeConnection
    ) -> None:
        query_id, found = batches(connection)
        snowflake.expire_addresses()
        with pytest.raises(InternalError, match="non-successful HTTP status"):
            found[1].to_arrow()

        cursor = connection.cursor()
        cursor.get_results_from_sfqid(query_id)
        renewed = cursor.get_result_batches()
        assert renewed is not None
        assert sorted(ids(renewed)) == list(range(ROWS))

    def test_another_session_may_ask_for_the_result(
        self, snowflake: SnowflakeServer, connection: SnowflakeConnection
    ) -> None:
        query_id, _ = batches(connection)
        with snowflake.connect() as other, other.cursor() as cursor:
            cursor.get_results_from_sfqid(query_id)
            assert sorted(cursor.fetchall()) == [(key,) for key in range(ROWS)]

    def test_a_result_expires(self, snowflake: SnowflakeServer, connection: SnowflakeConnection) -> None:
        query_id, found = batches(connection)
        snowflake.expire_results()
        with pytest.raises(InternalError, match="non-successful HTTP status"):
            found[1].to_arrow()

        cursor = connection.cursor()
        cursor.get_results_from_sfqid(query_id)
        with pytest.raises(ProgrammingError, match="has expired") as raised:
            cursor.fetchall()
        assert (raised.value.errno, raised.value.sqlstate) == (612, "02000")

    @pytest.mark.parametrize("compressed", [True, False])
    def test_a_connection_drops_in_the_middle_of_a_chunk(
        self, snowflake: SnowflakeServer, connection: SnowflakeConnection, compressed: bool
    ) -> None:
        _, found = batches(connection)
        snowflake.compress_chunks(compressed)
        snowflake.drop_chunks(1, after_bytes=100)

        with pytest.raises(InternalError, match="end of file before message length reached"):
            found[1].to_arrow()
        assert found[1].to_arrow().num_rows == 10
        assert snowflake.chunk_requests() == 2

    def test_all_chunks_have_the_types_of_the_first(self, snowflake: SnowflakeServer, connection: Any) -> None:
        snowflake.execute("INSERT INTO big VALUES (123456789012345678901234567890)")

        assert {str(batch.to_arrow().schema.field("ID").type) for batch in batches(connection)[1]} == {
            "decimal128(38, 0)"
        }
        assert len(connection.cursor().execute("SELECT * FROM big").fetchall()) == ROWS + 1

    def test_cut_anywhere_hold_the_same_values(self, snowflake: SnowflakeServer, schema: str) -> None:
        columns = "k INT, n NUMBER(38, 0), m NUMBER(9, 2), f FLOAT, s VARCHAR, at TIMESTAMP_LTZ, a3 TIMESTAMP_NTZ(3)"
        snowflake.execute(f"CREATE TABLE t ({columns}, ti TIME, b BINARY, v VECTOR(FLOAT, 2))")
        stamp = datetime(1969, 12, 31, 23, 59, 59, 123000)  # noqa: DTZ001
        full = {
            "n": pa.array([-(2**100)] * 5, pa.decimal128(38)),
            "m": pa.array([Decimal("-1.25")] * 5),
            "f": pa.array([0.5] * 5),
            "s": pa.array(["ä"] * 5),
            "at": pa.array([stamp.replace(tzinfo=UTC)] * 5),
            "a3": pa.array([stamp] * 5, pa.timestamp("us")),
            "ti": pa.array([clock(1, 2, 3, 4)] * 5, pa.time64("us")),
            "b": pa.array([b"\x00\xff"] * 5),
            "v": pa.array([[0.5, -1.5]] * 5, pa.list_(pa.float32(), 2)),
        }
        snowflake.load(f"{schema}.T", pa.table({"k": range(5), **full}))
        snowflake.load(f"{schema}.T", pa.table({"k": range(5, 10)}))
        whole = snowflake.execute("SELECT * FROM t ORDER BY k % 5, k")
        snowflake.rows_per_chunk(3)

        assert snowflake.execute("SELECT * FROM t ORDER BY k % 5, k") == whole
        values = (-(2**100), Decimal("-1.25"), 0.5, "ä", stamp.replace(tzinfo=UTC), stamp)
        assert whole[0] == (0, *values, clock(1, 2, 3, 4), b"\x00\xff", [0.5, -1.5])
        assert [row[1:] for row in whole[1::2]] == [(None,) * 9] * 5

    def test_no_rows(self, connection: SnowflakeConnection) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT id FROM big WHERE id < 0")

        assert [batch.to_arrow() for batch in cursor.get_result_batches() or []] == [None]
        whole = cursor.fetch_arrow_all(force_return_table=True)
        assert whole is not None
        assert whole.column_names == ["ID"]


class TestStatements:
    def test_are_recorded_with_their_tag(self, snowflake: SnowflakeServer, connection: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("ALTER SESSION SET QUERY_TAG = 'grebe sync'")
        cursor.execute("SELECT 1")

        seen = snowflake.statements()[-1]
        assert (seen.sql, seen.query_tag, seen.query_id) == ("SELECT 1", "grebe sync", cursor.sfqid)

    def test_fail_when_told(self, snowflake: SnowflakeServer, connection: Any) -> None:
        snowflake.fail_next(604, "57014", "canceled", containing="changes(")

        assert connection.cursor().execute("SELECT 1").fetchall() == [(1,)]
        with pytest.raises(ProgrammingError, match="canceled") as raised:
            connection.cursor().execute("SELECT 'CHANGES('")
        assert (raised.value.errno, raised.value.sqlstate) == (604, "57014")
        assert connection.cursor().execute("SELECT 'CHANGES('").fetchall() == [("CHANGES(",)]

    def test_are_sent_again_when_the_service_is_overloaded(self, snowflake: SnowflakeServer, connection: Any) -> None:
        snowflake.http_errors(503, 1)

        assert connection.cursor().execute("SELECT 1").fetchall() == [(1,)]

    def test_commit_when_told_without_autocommit(self, snowflake: SnowflakeServer, connection: Any) -> None:
        connection.autocommit(False)
        connection.cursor().execute("DELETE FROM big")
        connection.rollback()
        connection.cursor().execute("DELETE FROM big WHERE id < 10")

        count = "SELECT COUNT(*) FROM big"
        assert snowflake.execute(count) == [(ROWS,)]
        connection.commit()
        assert snowflake.execute(count) == [(ROWS - 10,)]

    def test_that_fail_in_a_transaction_end_it_here(self, snowflake: SnowflakeServer, schema: str) -> None:
        """Snowflake would go on; the emulator can't, and says so rather than lose rows in silence."""
        snowflake.execute("CREATE TABLE t (id INT NOT NULL)")
        snowflake.execute("BEGIN")
        snowflake.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(IntegrityError) as raised:
            snowflake.execute("INSERT INTO t VALUES (NULL)")
        assert (raised.value.errno, raised.value.sqlstate) == (100072, "22000")
        with pytest.raises(ProgrammingError, match="after a statement failed in it"):
            snowflake.execute("COMMIT")
        snowflake.execute("ROLLBACK")
        assert snowflake.execute("SELECT * FROM t") == []

    def test_wait_for_no_lock(self, snowflake: SnowflakeServer, connection: Any) -> None:
        """A row that another transaction has changed is error 000625, at once instead of after a wait."""
        connection.cursor().execute("BEGIN")
        connection.cursor().execute("UPDATE big SET id = -1 WHERE id = 1")
        with pytest.raises(ProgrammingError) as raised:
            snowflake.execute("UPDATE big SET id = -2 WHERE id = 1")
        assert raised.value.errno == 625

    def test_take_as_long_as_told(self, snowflake: SnowflakeServer, connection: Any) -> None:
        snowflake.seconds_per_statement(0.3)
        start = time.monotonic()
        connection.cursor().execute("SELECT 1")

        assert time.monotonic() - start > 0.3

    def test_with_bound_values(self, snowflake: SnowflakeServer, schema: str) -> None:
        row = (
            1,
            "a'b",
            0.5,
            True,
            date(2020, 1, 2),
            clock(1, 2, 3, 4),
            datetime(2020, 1, 1, 0, 0, 0, 5),  # noqa: DTZ001
            datetime(2020, 1, 1, tzinfo=UTC),
            b"\xff\x00",
            Decimal("1.25"),
        )
        snowflake.execute(
            f"CREATE TABLE {schema}.t (i INT, s VARCHAR, f FLOAT, b BOOLEAN, d DATE, ti TIME, tn TIMESTAMP_NTZ, "
            "tl TIMESTAMP_LTZ, bi BINARY, m NUMBER(9, 2))"
        )
        insert = f"INSERT INTO {schema}.t VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        # the connector binds an aware datetime as TIMESTAMP_NTZ in UTC, which means that only in a session in UTC
        session = {"TIMEZONE": "UTC"}
        with snowflake.connect(paramstyle="qmark", session_parameters=session) as connection:
            cursor = connection.cursor()
            cursor.execute(insert, row)
            cursor.executemany(insert, [row, row])

        assert snowflake.execute(f"SELECT * FROM {schema}.t") == [row] * 3

    def test_in_the_background(self, connection: SnowflakeConnection) -> None:
        cursor = connection.cursor()
        query_id = cursor.execute_async("SELECT COUNT(*) FROM big")["queryId"]
        assert query_id is not None
        cursor.get_results_from_sfqid(query_id)

        assert cursor.fetchall() == [(ROWS,)]

    def test_the_emulators_limits_are_its_own_error(self, snowflake: SnowflakeServer, schema: str) -> None:
        with pytest.raises(ProgrammingError, match="emulator of Grebe's tests does not support"):
            snowflake.execute("EXPLAIN SELECT 1")


class TestTime:
    def test_history_can_expire(self, snowflake: SnowflakeServer, schema: str) -> None:
        account = EmulatedAccount(snowflake, schema)
        snowflake.execute("CREATE TABLE t (id INT) CHANGE_TRACKING = TRUE")
        start = now(account)
        snowflake.expire_history(f"{schema}.T")

        with pytest.raises(ProgrammingError) as raised:
            snowflake.execute(f"SELECT * FROM t CHANGES(INFORMATION => DEFAULT) AT(TIMESTAMP => {sql(start)})")
        assert raised.value.errno == 707
        snowflake.execute(f"SELECT * FROM t CHANGES(INFORMATION => DEFAULT) AT(TIMESTAMP => {sql(now(account))})")

    def test_retention_follows_the_clock(self) -> None:
        with snowflake_server() as server:
            server.execute("CREATE DATABASE d")
            server.execute("CREATE TABLE t (id INT) DATA_RETENTION_TIME_IN_DAYS = 2 CHANGE_TRACKING = TRUE")
            query = f"SELECT * FROM t AT(TIMESTAMP => {sql(now(EmulatedAccount(server, 'D.PUBLIC')))})"
            server.advance_clock(47 * 3600)
            assert server.execute(query) == []
            server.advance_clock(2 * 3600)
            with pytest.raises(ProgrammingError) as raised:
                server.execute(query)
        assert raised.value.errno == 707

    def test_a_late_commit_is_seen_after_its_time(self, snowflake: SnowflakeServer, schema: str) -> None:
        """A window that ends at the clock may miss a change of its own time: why END must trail it."""
        account = EmulatedAccount(snowflake, schema)
        snowflake.execute("CREATE TABLE t (id INT) CHANGE_TRACKING = TRUE")
        start = now(account)
        query = "SELECT id FROM t CHANGES(INFORMATION => DEFAULT) AT(TIMESTAMP => {}) END(TIMESTAMP => {})"
        snowflake.delay_commits(0.5)

        def write() -> None:
            with account.connect() as connection:
                connection.cursor().execute("INSERT INTO t VALUES (1)")

        writer = threading.Thread(target=write)
        writer.start()
        wait_until(lambda: any("INSERT INTO t" in seen.sql for seen in snowflake.statements()))
        time.sleep(0.1)
        until = now(account)
        early = snowflake.execute(query.format(sql(start), sql(until)))
        writer.join()

        assert (early, snowflake.execute(query.format(sql(start), sql(until)))) == ([], [(1,)])


class TestLoad:
    def test_rows_in_bulk_are_one_commit(self, snowflake: SnowflakeServer, schema: str) -> None:
        snowflake.execute("CREATE TABLE t (id INT, v VECTOR(FLOAT, 2)) CHANGE_TRACKING = TRUE")
        start = now(EmulatedAccount(snowflake, schema))
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.float32)), 2)
        snowflake.load(f"{schema}.T", pa.table({"ID": [1, 2, 3], "V": vectors}))

        assert snowflake.execute(
            f"SELECT id, v FROM t CHANGES(INFORMATION => DEFAULT) AT(TIMESTAMP => {sql(start)}) ORDER BY id"
        ) == [(1, [0.0, 1.0]), (2, [2.0, 3.0]), (3, [4.0, 5.0])]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
