"""What Snowflake promises about time, changes, names and types: one suite for the emulated and for a real account.

Each rule names the page of Snowflake's documentation that states it. Tables are created in the schema that the fixture
``account`` is in.
"""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Protocol

import pyarrow as pa
import pytest
from snowflake.connector import SnowflakeConnection
from snowflake.connector.cursor import SnowflakeCursor
from snowflake.connector.errors import ProgrammingError

Rows = list[tuple[Any, ...]]

TIME_TRAVEL_MISSING = (707, "02000")
TRACKING_MISSING = (91930, "2F003")
NO_SUCH_OBJECT = (2003, "42S02")

MILLISECOND = timedelta(milliseconds=1)


class Account(Protocol):
    """An account with a schema of the test's own."""

    def execute(self, sql: str) -> Rows:
        """Run a statement in the schema and return its rows."""

    def connect(self) -> SnowflakeConnection:
        """Open another connection to the same schema."""

    def settle(self) -> None:
        """Wait until a commit made now and one made next can't be of one time."""


def now(account: Account) -> datetime:
    """Return a moment of the account's clock that what was committed is before, and what comes is after."""
    account.settle()
    ((moment,),) = account.execute("SELECT CURRENT_TIMESTAMP()")
    account.settle()
    assert isinstance(moment, datetime)
    return moment


def whole(moment: datetime) -> datetime:
    """Return a moment without what is less than a millisecond."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def sql(moment: datetime) -> str:
    """Return a moment as SQL."""
    return f"'{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} +0000'::TIMESTAMP_LTZ"


def changes(
    account: Account, after: datetime, until: datetime | None = None, *, table: str = "t", kind: str = "DEFAULT"
) -> Rows:
    """Return the changes between two moments: columns, action and whether it is half of an update, sorted."""
    end = f" END(TIMESTAMP => {sql(until)})" if until else ""
    rows = account.execute(
        f'SELECT * EXCLUDE "METADATA$ROW_ID" FROM {table} CHANGES(INFORMATION => {kind}) '
        f"AT(TIMESTAMP => {sql(after)}){end}"
    )
    return sorted(rows, key=repr)


def failure(account: Account, statement: str) -> tuple[int | None, str | None]:
    """Return the code and SQLSTATE that a statement fails with."""
    with pytest.raises(ProgrammingError) as raised:
        account.execute(statement)
    return raised.value.errno, raised.value.sqlstate


def tracked(account: Account, *rows: tuple[int, str]) -> datetime:
    """Create the table t (id, name) with change tracking and these rows; return the moment after."""
    account.execute("CREATE OR REPLACE TABLE t (id INT, name VARCHAR) CHANGE_TRACKING = TRUE")
    if rows:
        insert(account, *rows)
    return now(account)


def insert(account: Account, *rows: tuple[int, str]) -> None:
    """Commit rows to t."""
    account.execute(f"INSERT INTO t VALUES {', '.join(f'({key}, {name!r})' for key, name in rows)}")


class ChangeRules:
    """Snowflake docs, SQL reference, "CHANGES", and user guide, "Introduction to streams"."""

    def test_inserts_updates_and_deletes(self, account: Account) -> None:
        """An update is a DELETE and an INSERT with METADATA$ISUPDATE true ("Introduction to streams", columns)."""
        start = tracked(account, (1, "a"), (2, "b"))
        account.execute("DELETE FROM t WHERE id = 1")
        account.execute("UPDATE t SET name = 'B' WHERE id = 2")
        insert(account, (3, "c"))

        assert changes(account, start) == [
            (1, "a", "DELETE", False),
            (2, "B", "INSERT", True),
            (2, "b", "DELETE", True),
            (3, "c", "INSERT", False),
        ]

    def test_a_row_keeps_its_id_through_updates(self, account: Account) -> None:
        """METADATA$ROW_ID is unique to a row and stays ("Introduction to streams", stream columns)."""
        start = tracked(account, (1, "a"), (2, "b"))
        account.execute("UPDATE t SET id = 10, name = 'A' WHERE id = 1")
        query = 'SELECT "METADATA$ROW_ID" FROM t CHANGES(INFORMATION => DEFAULT) AT(TIMESTAMP => {})'
        first = account.execute(query.format(sql(start)))
        middle = now(account)
        account.execute("UPDATE t SET name = 'AA' WHERE id = 10")

        assert len(first) == 2
        assert {*first, *account.execute(query.format(sql(middle)))} == {first[0]}

    def test_what_came_and_went_is_no_change(self, account: Account) -> None:
        """A row inserted and then deleted between the two points is not in the delta ("CHANGES", DEFAULT)."""
        start = tracked(account, (1, "a"))
        insert(account, (2, "b"))
        account.execute("UPDATE t SET name = 'B' WHERE id = 2")
        account.execute("DELETE FROM t WHERE id = 2")

        assert changes(account, start) == []

    def test_an_insert_and_its_updates_are_one_insert(self, account: Account) -> None:
        start = tracked(account)
        insert(account, (1, "a"))
        account.execute("UPDATE t SET name = 'b' WHERE id = 1")
        account.execute("UPDATE t SET id = 2 WHERE id = 1")

        assert changes(account, start) == [(2, "b", "INSERT", False)]

    def test_several_updates_are_one(self, account: Account) -> None:
        start = tracked(account, (1, "a"))
        account.execute("UPDATE t SET name = 'b' WHERE id = 1")
        account.execute("UPDATE t SET name = 'c' WHERE id = 1")

        assert changes(account, start) == [(1, "a", "DELETE", True), (1, "c", "INSERT", True)]

    def test_updates_and_a_delete_delete_the_first_version(self, account: Account) -> None:
        start = tracked(account, (1, "a"))
        account.execute("UPDATE t SET name = 'b' WHERE id = 1")
        account.execute("DELETE FROM t WHERE id = 1")

        assert changes(account, start) == [(1, "a", "DELETE", False)]

    def test_an_update_there_and_back_is_no_change(self, account: Account) -> None:
        """The delta compares inserted and deleted rows ("CHANGES", DEFAULT)."""
        start = tracked(account, (1, "a"))
        account.execute("UPDATE t SET name = 'b' WHERE id = 1")
        account.execute("UPDATE t SET name = 'a' WHERE id = 1")

        assert changes(account, start) == []

    def test_an_update_to_the_same_values_is_at_most_a_pair_of_equals(self, account: Account) -> None:
        """No page says whether it shows; a reader must do with both."""
        start = tracked(account, (1, "a"))
        account.execute("UPDATE t SET name = 'a' WHERE id = 1")

        assert changes(account, start) in ([], [(1, "a", "DELETE", True), (1, "a", "INSERT", True)])

    def test_a_row_deleted_and_inserted_again_is_two_rows(self, account: Account) -> None:
        """What makes an update is the row's id, not its values ("Introduction to streams", stream columns)."""
        start = tracked(account, (1, "a"))
        account.execute("DELETE FROM t WHERE id = 1")
        insert(account, (1, "a"))

        assert changes(account, start) == [(1, "a", "DELETE", False), (1, "a", "INSERT", False)]

    def test_truncate_deletes_every_row(self, account: Account) -> None:
        """DEFAULT returns "inserts, updates, and deletes (including table truncates)" ("CHANGES")."""
        start = tracked(account, (1, "a"), (2, "b"))
        account.execute("TRUNCATE TABLE t")

        assert changes(account, start) == [(1, "a", "DELETE", False), (2, "b", "DELETE", False)]

    def test_overwrite_deletes_every_row_and_inserts_the_new(self, account: Account) -> None:
        """INSERT OVERWRITE truncates and inserts in one transaction (SQL reference, "INSERT")."""
        start = tracked(account, (1, "a"))
        account.execute("INSERT OVERWRITE INTO t SELECT 2, 'b'")

        assert changes(account, start) == [(1, "a", "DELETE", False), (2, "b", "INSERT", False)]

    def test_merge_comes_as_what_it_did(self, account: Account) -> None:
        start = tracked(account, (1, "a"), (2, "b"), (3, "c"))
        account.execute("""
            MERGE INTO t USING (SELECT * FROM VALUES (1, NULL), (2, 'B'), (9, 'i') AS v (id, name)) s ON t.id = s.id
            WHEN MATCHED AND s.name IS NULL THEN DELETE
            WHEN MATCHED THEN UPDATE SET name = s.name
            WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name)
        """)

        assert changes(account, start) == [
            (1, "a", "DELETE", False),
            (2, "B", "INSERT", True),
            (2, "b", "DELETE", True),
            (9, "i", "INSERT", False),
        ]

    def test_append_only_gives_every_inserted_row(self, account: Account) -> None:
        """APPEND_ONLY "returns appended rows only; therefore no join is performed" ("CHANGES")."""
        start = tracked(account, (1, "a"))
        insert(account, (2, "b"), (3, "c"))
        account.execute("DELETE FROM t WHERE id IN (1, 2)")

        assert changes(account, start, kind="APPEND_ONLY") == [(2, "b", "INSERT", False), (3, "c", "INSERT", False)]

    def test_the_examples_of_the_page(self, account: Account) -> None:
        """ "CHANGES", examples: both of the first two, with the results that the page prints."""
        account.execute("CREATE TABLE t1 (id NUMBER(8) NOT NULL, c1 VARCHAR(255) DEFAULT NULL)")
        account.execute("ALTER TABLE t1 SET CHANGE_TRACKING = TRUE")
        account.settle()
        account.execute("SET ts1 = (SELECT CURRENT_TIMESTAMP())")
        account.execute("INSERT INTO t1 (id, c1) VALUES (1, 'red'), (2, 'blue'), (3, 'green')")
        account.settle()
        account.execute("SET ts2 = (SELECT CURRENT_TIMESTAMP())")
        account.settle()
        account.execute("DELETE FROM t1 WHERE id = 3")
        account.execute("SET last_query_id = (SELECT LAST_QUERY_ID())")
        account.execute("UPDATE t1 SET c1 = 'purple' WHERE id = 2")
        columns = 'id, c1, "METADATA$ACTION", "METADATA$ISUPDATE"'
        rows = "FROM t1 CHANGES(INFORMATION => {}) AT(TIMESTAMP => $ts1)"
        create = "CREATE TABLE {} (c1 VARCHAR(255) DEFAULT NULL) AS SELECT c1 {} END({})"
        account.execute(create.format("t2", rows.format("APPEND_ONLY"), "TIMESTAMP => $ts2"))
        account.execute(create.format("t3", rows.format("DEFAULT"), "STATEMENT => $last_query_id"))

        assert sorted(account.execute(f"SELECT {columns} {rows.format('DEFAULT')}")) == [
            (1, "red", "INSERT", False),
            (2, "purple", "INSERT", False),
        ]
        assert sorted(account.execute(f"SELECT {columns} {rows.format('APPEND_ONLY')}")) == [
            (1, "red", "INSERT", False),
            (2, "blue", "INSERT", False),
            (3, "green", "INSERT", False),
        ]
        assert sorted(account.execute("SELECT * FROM t2")) == [("blue",), ("green",), ("red",)]
        assert sorted(account.execute("SELECT * FROM t3")) == [("blue",), ("red",)]

    def test_without_end_the_interval_ends_now(self, account: Account) -> None:
        start = tracked(account, (1, "a"))
        insert(account, (2, "b"))
        until = now(account)
        insert(account, (3, "c"))

        assert changes(account, start, until) == [(2, "b", "INSERT", False)]
        assert changes(account, start) == [(2, "b", "INSERT", False), (3, "c", "INSERT", False)]

    def test_tracking_that_was_never_enabled(self, account: Account) -> None:
        """Error 091930 (2F003) (user guide, "Dynamic tables", sharing: change tracking not enabled)."""
        account.execute("CREATE TABLE t (id INT)")
        start = now(account)

        statement = f"SELECT * FROM t CHANGES(INFORMATION => DEFAULT) AT(TIMESTAMP => {sql(start)})"
        assert failure(account, statement) == TRACKING_MISSING

    def test_tracking_does_not_reach_back_before_it_was_enabled(self, account: Account) -> None:
        """ "…or has been missing for the time range requested" (user guide, "Dynamic tables: error codes", 091930)."""
        account.execute("CREATE TABLE t (id INT, name VARCHAR)")
        early = now(account)
        account.execute("ALTER TABLE t SET CHANGE_TRACKING = TRUE")
        start = now(account)
        insert(account, (1, "a"))

        statement = f"SELECT * FROM t CHANGES(INFORMATION => DEFAULT) AT(TIMESTAMP => {sql(early)})"
        assert failure(account, statement) == TRACKING_MISSING
        assert changes(account, start) == [(1, "a", "INSERT", False)]

    def test_a_replaced_table_has_no_past(self, account: Account) -> None:
        """CREATE OR REPLACE drops the table and makes another (SQL reference, "CREATE TABLE", usage notes)."""
        start = tracked(account, (1, "a"))
        account.execute("CREATE OR REPLACE TABLE t (id INT, name VARCHAR) CHANGE_TRACKING = TRUE")

        statement = f"SELECT * FROM t CHANGES(INFORMATION => DEFAULT) AT(TIMESTAMP => {sql(start)})"
        assert failure(account, statement) == TIME_TRAVEL_MISSING


class BoundaryRules:
    """Where an interval begins and ends, at the time of the transaction's commit."""

    def test_a_change_at_the_end_is_in_and_at_the_start_is_out(self, account: Account) -> None:
        """ "The results are inclusive of the end marker" ("CHANGES"), and AT is inclusive, so its state has the change.

        The moment of the commit is found by halving: the first one at which an interval that ends there has the change.
        """
        start = tracked(account)
        insert(account, (1, "a"))
        earlier, commit = whole(start), whole(now(account)) + MILLISECOND
        account.settle()
        while commit - earlier > MILLISECOND:
            middle = earlier + (commit - earlier) // MILLISECOND // 2 * MILLISECOND
            if changes(account, start, middle):
                commit = middle
            else:
                earlier = middle
        inserted = [(1, "a", "INSERT", False)]

        assert (changes(account, start, earlier), changes(account, start, commit)) == ([], inserted)
        assert (changes(account, earlier), changes(account, commit)) == (inserted, [])

    def test_abutting_windows_have_every_change_once(self, account: Account) -> None:
        """Each window's END is the next one's AT: together they give what one window would."""
        start = tracked(account)
        cuts = [start]
        for key in range(5):
            insert(account, (key, "a"))
            cuts.append(commit_time(account) if key % 2 else now(account))
        cuts.append(now(account))
        windows = [changes(account, after, until) for after, until in itertools.pairwise(cuts)]

        assert [row[0] for window in windows for row in window] == [0, 1, 2, 3, 4]

    def test_a_transaction_is_at_the_time_of_its_commit(self, account: Account) -> None:
        """A transaction's changes are seen together, once committed (user guide, "Transactions")."""
        start = tracked(account)
        account.execute("BEGIN")
        insert(account, (1, "a"))
        with account.connect() as other, other.cursor() as cursor:
            between = cursor.execute("SELECT CURRENT_TIMESTAMP()").fetchall()[0][0]
        account.execute("UPDATE t SET name = 'b' WHERE id = 1")
        insert(account, (2, "c"))
        account.execute("COMMIT")

        assert changes(account, start, between) == []
        assert changes(account, between) == [(1, "b", "INSERT", False), (2, "c", "INSERT", False)]

    def test_what_is_rolled_back_never_was(self, account: Account) -> None:
        start = tracked(account, (1, "a"))
        account.execute("BEGIN")
        account.execute("DELETE FROM t")
        insert(account, (2, "b"))
        account.execute("ROLLBACK")

        assert changes(account, start) == []
        assert account.execute("SELECT * FROM t") == [(1, "a")]

    def test_uncommitted_rows_are_seen_by_their_own_session_only(self, account: Account) -> None:
        """READ COMMITTED (user guide, "Transactions", isolation level)."""
        tracked(account)
        account.execute("BEGIN")
        insert(account, (1, "a"))
        with account.connect() as other, other.cursor() as cursor:
            assert cursor.execute("SELECT * FROM t").fetchall() == []
        assert account.execute("SELECT * FROM t") == [(1, "a")]
        account.execute("COMMIT")


class TimeTravelRules:
    """Snowflake docs, SQL reference, "AT | BEFORE"; user guide, "Understanding & using Time Travel"."""

    def test_a_table_as_it_was(self, account: Account) -> None:
        """AT is inclusive of changes with a timestamp equal to the parameter."""
        first = tracked(account, (1, "a"))
        account.execute("UPDATE t SET name = 'b'")
        second = now(account)
        account.execute("DELETE FROM t")

        assert account.execute(f"SELECT * FROM t AT(TIMESTAMP => {sql(first)})") == [(1, "a")]
        assert account.execute(f"SELECT * FROM t AT(TIMESTAMP => {sql(second)})") == [(1, "b")]
        assert account.execute("SELECT * FROM t") == []

    def test_before_a_statement(self, account: Account) -> None:
        """BEFORE(STATEMENT) is the state right before it, AT(STATEMENT) with it."""
        tracked(account, (1, "a"))
        with account.connect() as connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM t")
            query_id = cursor.sfqid

        assert account.execute(f"SELECT * FROM t BEFORE(STATEMENT => '{query_id}')") == [(1, "a")]
        assert account.execute(f"SELECT * FROM t AT(STATEMENT => '{query_id}')") == []

    def test_before_the_creation(self, account: Account) -> None:
        """Error 000707 (02000) ("AT | BEFORE", examples)."""
        early = now(account)
        account.execute("CREATE TABLE t (id INT)")

        assert failure(account, f"SELECT * FROM t AT(TIMESTAMP => {sql(early)})") == TIME_TRAVEL_MISSING

    def test_beyond_the_retention(self, account: Account) -> None:
        tracked(account, (1, "a"))

        statement = "SELECT * FROM t AT(TIMESTAMP => DATEADD(day, -100, CURRENT_TIMESTAMP()))"
        assert failure(account, statement) == TIME_TRAVEL_MISSING
        statement = (
            "SELECT * FROM t CHANGES(INFORMATION => DEFAULT) AT(TIMESTAMP => DATEADD(day, -100, CURRENT_TIMESTAMP()))"
        )
        assert failure(account, statement) == TIME_TRAVEL_MISSING

    def test_a_timestamp_without_a_zone_is_in_utc(self, account: Account) -> None:
        """Not in the session's ("AT | BEFORE", parameters and "Using the AT TIMESTAMP parameter")."""
        moment = tracked(account, (1, "a"))
        insert(account, (2, "b"))
        local = f"'{moment.astimezone(UTC).replace(tzinfo=None)}'"

        for stamp in (f"{local}::TIMESTAMP", f"{local}::TIMESTAMP_NTZ", local):
            assert account.execute(f"SELECT * FROM t AT(TIMESTAMP => {stamp})") == [(1, "a")]

    def test_the_future(self, account: Account) -> None:
        """Nobody can promise what is not yet committed; no page gives the error's number."""
        start = tracked(account)
        later = sql(start + timedelta(hours=1))
        with pytest.raises(ProgrammingError, match="Future data is not yet available for table T"):
            account.execute(f"SELECT * FROM t AT(TIMESTAMP => {later})")
        with pytest.raises(ProgrammingError, match="Future data is not yet available for table T"):
            changes(account, start, start + timedelta(hours=1))

    def test_moments_are_milliseconds(self, account: Account) -> None:
        """ "The smallest time resolution for TIMESTAMP is milliseconds" ("AT | BEFORE", usage notes)."""
        start = tracked(account)
        insert(account, (1, "a"))
        commit = commit_time(account)

        assert commit.microsecond % 1000 == 0
        assert changes(account, start, commit + timedelta(microseconds=999)) == [(1, "a", "INSERT", False)]

    def test_a_table_that_is_not_there(self, account: Account) -> None:
        """Error 002003 (42S02), with or without a time."""
        moment = now(account)

        assert failure(account, "SELECT * FROM nothing") == NO_SUCH_OBJECT
        assert failure(account, f"SELECT * FROM nothing AT(TIMESTAMP => {sql(moment)})") == NO_SUCH_OBJECT


class CatalogRules:
    """What an account says about its tables."""

    def test_the_last_change_grows_with_each_dml_and_with_nothing_else(self, account: Account) -> None:
        """ "For each DML operation performed … the returned value increases" ("SYSTEM$LAST_CHANGE_COMMIT_TIME")."""
        account.execute("CREATE TABLE t (id INT, name VARCHAR)")
        account.execute("CREATE VIEW v AS SELECT id FROM t")
        tokens = [last_change(account, "t")]
        for statement in ("INSERT INTO t VALUES (1, 'a')", "UPDATE t SET name = 'b'", "DELETE FROM t"):
            account.execute(statement)
            account.execute("SELECT * FROM t")
            tokens.append(last_change(account, "t"))

        assert tokens == sorted(set(tokens))
        assert last_change(account, "t") == last_change(account, "v") == tokens[-1]

    def test_show_tables(self, account: Account) -> None:
        """created_on, retention_time and change_tracking ("SHOW TABLES", output)."""
        before = now(account)
        account.execute("CREATE TABLE t_1 (id INT) CHANGE_TRACKING = TRUE DATA_RETENTION_TIME_IN_DAYS = 0")
        account.execute("CREATE TABLE u (id INT)")
        with account.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW TABLES LIKE 't%'")
            names = [column[0] for column in cursor.description or []]
            shown = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        assert [(t["name"], t["retention_time"], t["change_tracking"]) for t in shown] == [("T_1", "0", "ON")]
        assert whole(before) <= shown[0]["created_on"] < now(account)

    def test_information_schema(self, account: Account) -> None:
        """ "TABLES view": CREATED and RETENTION_TIME; another table of the same name has another CREATED."""
        query = "SELECT created, retention_time FROM information_schema.tables WHERE table_name = 'T'"
        account.execute("CREATE TABLE t (id INT) DATA_RETENTION_TIME_IN_DAYS = 1")
        ((first, retention),) = account.execute(query)
        account.settle()
        account.execute("CREATE OR REPLACE TABLE t (id INT)")
        ((second, _),) = account.execute(query)

        assert (retention, first < second) == (1, True)

    def test_describe(self, account: Account) -> None:
        """ "DESCRIBE TABLE", output."""
        account.execute('CREATE TABLE t (id INT NOT NULL, "n" NUMBER(9, 2), v VECTOR(FLOAT, 3), at TIMESTAMP_LTZ)')

        assert [row[:4] for row in account.execute("DESCRIBE TABLE t")] == [
            ("ID", "NUMBER(38,0)", "COLUMN", "N"),
            ("n", "NUMBER(9,2)", "COLUMN", "Y"),
            ("V", "VECTOR(FLOAT, 3)", "COLUMN", "Y"),
            ("AT", "TIMESTAMP_LTZ(9)", "COLUMN", "Y"),
        ]

    def test_names_fold_to_upper_case_unless_quoted(self, account: Account) -> None:
        """ "Identifier requirements": quoted identifiers are case-sensitive, unquoted ones upper-case."""
        account.execute('CREATE TABLE "t" ("id" INT, ID INT, "Two Words" INT) CHANGE_TRACKING = TRUE')
        start = now(account)
        account.execute('INSERT INTO "t" VALUES (1, 2, 3)')

        assert account.execute('SELECT id, "id", "Two Words" FROM "t"') == [(2, 1, 3)]
        assert failure(account, "SELECT * FROM t") == NO_SUCH_OBJECT
        assert failure(account, 'SELECT "Id" FROM "t"') == (904, "42000")
        assert changes(account, start, table='"t"') == [(1, 2, 3, "INSERT", False)]


EVERY_TYPE = """CREATE TABLE t (
    n NUMBER(38, 0), m NUMBER(9, 2), i INT, f FLOAT, s VARCHAR, b BOOLEAN, d DATE, ti TIME,
    tn TIMESTAMP_NTZ, tl TIMESTAMP_LTZ, tz TIMESTAMP_TZ, t3 TIMESTAMP_NTZ(3), bi BINARY,
    va VARIANT, o OBJECT, a ARRAY, v VECTOR(FLOAT, 3))"""
ONE_OF_EACH = """INSERT INTO t SELECT
    12345678901234567890123456789012345678, 1.25, 7, 0.5, 'ä', TRUE, '2020-01-02', '01:02:03.5',
    '2020-01-01 00:00:00.123456', '2020-01-01 00:00:00.5 +0200', '2020-01-01 00:00:00 +00:00',
    '2020-01-01 00:00:00.123',
    TO_BINARY('ff00', 'HEX'), PARSE_JSON('{"b": [1, 2], "a": null}'), OBJECT_CONSTRUCT('k', 1), ARRAY_CONSTRUCT(1, 'x'),
    [1, 2.5, -3]::VECTOR(FLOAT, 3)"""


class TypeRules:
    """Snowflake docs, SQL reference, "Data types", as the connector hands their values on."""

    def test_values_of_every_type(self, account: Account) -> None:
        account.execute(EVERY_TYPE)
        account.execute(ONE_OF_EACH)
        account.execute("INSERT INTO t (i) VALUES (NULL)")
        rows = account.execute("SELECT * FROM t ORDER BY n")

        assert rows[0] == (
            12345678901234567890123456789012345678,
            Decimal("1.25"),
            7,
            0.5,
            "ä",
            True,
            date(2020, 1, 2),
            time(1, 2, 3, 500000),
            datetime(2020, 1, 1, 0, 0, 0, 123456),  # noqa: DTZ001
            datetime(2019, 12, 31, 22, 0, 0, 500000, UTC),
            datetime(2020, 1, 1, tzinfo=UTC),
            datetime(2020, 1, 1, 0, 0, 0, 123000),  # noqa: DTZ001
            b"\xff\x00",
            '{\n  "a": null,\n  "b": [\n    1,\n    2\n  ]\n}',
            '{\n  "k": 1\n}',
            '[\n  1,\n  "x"\n]',
            [1.0, 2.5, -3.0],
        )
        assert rows[1] == (None,) * 17

    def test_arrow_types_of_every_type(self, account: Account) -> None:
        """An integer column's Arrow type depends on its values; NUMBER with a scale becomes a float unless told."""
        account.execute(EVERY_TYPE)
        account.execute(ONE_OF_EACH)
        with account.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT * FROM t")
            types = [str(of) for of in arrow(cursor).schema.types]
            cursor.execute("SELECT 300::INT AS i, m FROM t")
            numbers = arrow(cursor, number_to_decimal=True).schema.types

        assert types == [
            "decimal128(38, 0)",
            "double",
            "int8",
            "double",
            "string",
            "bool",
            "date32[day]",
            "time64[us]",
            "timestamp[ns]",
            "timestamp[ns, tz=America/Los_Angeles]",
            "timestamp[ns, tz=America/Los_Angeles]",
            "timestamp[ms]",
            "binary",
            "string",
            "string",
            "string",
            "fixed_size_list<: float not null>[3]",
        ]
        assert numbers == [pa.int16(), pa.decimal128(38, 2)]

    def test_paths_into_json(self, account: Account) -> None:
        """SQL reference, "GET_PATH , :" and "TO_JSON"."""
        account.execute('CREATE TABLE t AS SELECT PARSE_JSON(\'{"a": {"b": [1, 2]}}\') AS v')

        assert account.execute("SELECT v:a.b[1]::INT, GET_PATH(v, 'a.b[0]'), TO_JSON(v) FROM t") == [
            (2, "1", '{"a":{"b":[1,2]}}')
        ]


def arrow(cursor: SnowflakeCursor, *, number_to_decimal: bool = False) -> pa.Table:
    """Return a result, which has rows, as one Arrow table."""
    batches = cursor.get_result_batches() or []
    return pa.concat_tables([batch.to_arrow(number_to_decimal=number_to_decimal) for batch in batches])


def last_change(account: Account, name: str) -> int:
    """Return the token that says whether a table changed."""
    ((token,),) = account.execute(f"SELECT SYSTEM$LAST_CHANGE_COMMIT_TIME('{name}')")
    return int(token)


def commit_time(account: Account) -> datetime:
    """Return the commit time of the last change of t."""
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=last_change(account, "t") // 1000)
