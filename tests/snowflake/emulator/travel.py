"""Time travel: a table as it was at a moment, and the net changes between two.

Snowflake docs, SQL reference, "AT | BEFORE" and "CHANGES"; user guide, "Introduction to streams" (metadata columns).
"""

from __future__ import annotations

from tests.snowflake.emulator.clock import MS
from tests.snowflake.emulator.column import Column, ColumnType
from tests.snowflake.emulator.failure import beyond_time_travel, change_tracking_missing, future_data, unsupported
from tests.snowflake.emulator.naming import quoted
from tests.snowflake.emulator.table import Table

METADATA = [
    Column("METADATA$ACTION", ColumnType("TEXT", length=6)),
    Column("METADATA$ISUPDATE", ColumnType("BOOLEAN")),
    Column("METADATA$ROW_ID", ColumnType("TEXT", length=40)),
]


def as_of(table: Table, at_us: int, now_us: int, *, before: bool = False) -> str:
    """Return a query for the rows at a moment, changes made at exactly that moment included unless ``before``.

    "AT: the request is inclusive of any changes made by a statement or transaction with a timestamp equal to the
    specified parameter."
    """
    require_history(table, at_us, now_us)
    until = at_us - MS if before else at_us
    return f"SELECT {table.select_list('v.')} FROM ({_alive(table, until)}) AS v"


def changes(table: Table, after_us: int, until_us: int, now_us: int, *, append_only: bool = False) -> str:
    """Return a query for the net changes after one moment up to and including another.

    DEFAULT compares inserted and deleted rows "to provide the row level delta": a row is known by its METADATA$ROW_ID;
    what was inserted and deleted in between is gone, an update is a DELETE and an INSERT with METADATA$ISUPDATE true,
    and a row whose values are at the end what they were at the start is no change. (The documentation leaves the last
    open for a single update to the same values; ``tests/snowflake/live`` asks the real service.) A row deleted and
    inserted anew is another row. APPEND_ONLY returns appended rows only, even those deleted since: "no join is
    performed".
    """
    require_history(table, after_us, now_us)
    require_history(table, until_us, now_us)
    if until_us < after_us:
        raise unsupported("an END before its AT")
    if table.tracked_since_us is None or after_us < table.tracked_since_us:
        raise change_tracking_missing(table.full_name)
    row_id = f"left(sha256('{table.number}:' || _rid), 40)"
    columns = table.select_list()
    if append_only:
        return f"""
            SELECT {columns}, 'INSERT' AS "METADATA$ACTION", FALSE AS "METADATA$ISUPDATE",
                   {row_id} AS "METADATA$ROW_ID"
            FROM {table.log} JOIN {table.commits} f ON f.txn = _from
            WHERE _new AND f.us > {after_us} AND f.us <= {until_us}"""
    same = " AND ".join(f"b.{quoted(n)} IS NOT DISTINCT FROM a.{quoted(n)}" for n in table.names())
    before = f"""
        SELECT v.* FROM {table.log} v JOIN {table.commits} f ON f.txn = v._from JOIN {table.commits} t ON t.txn = v._to
        WHERE f.us <= {after_us} AND t.us > {after_us} AND t.us <= {until_us}"""
    after = f"SELECT v.* FROM ({_alive(table, until_us)}) v WHERE v._began > {after_us}"
    delta = f"""
        WITH was AS ({before}), now AS ({after}),
             same AS (SELECT b._rid FROM was b JOIN now a ON a._rid = b._rid WHERE {same})"""
    return f"""
        {delta}
        SELECT {columns}, 'DELETE' AS "METADATA$ACTION", _rid IN (SELECT _rid FROM now) AS "METADATA$ISUPDATE",
               {row_id} AS "METADATA$ROW_ID"
        FROM was WHERE _rid NOT IN (SELECT _rid FROM same)
        UNION ALL
        SELECT {columns}, 'INSERT', _rid IN (SELECT _rid FROM was), {row_id}
        FROM now WHERE _rid NOT IN (SELECT _rid FROM same)"""


def require_history(table: Table, at_us: int, now_us: int) -> None:
    """Raise unless the moment is within the table's life, its retention and the present.

    "If the specified Time Travel time is at or before the point in time when the object was created, the statement
    fails" ("AT | BEFORE", usage notes); DATA_RETENTION_TIME_IN_DAYS says how long after.
    """
    if at_us > now_us:
        raise future_data(table.name)
    if not table.remembers(at_us, now_us):
        raise beyond_time_travel(table.name)


def _alive(table: Table, at_us: int) -> str:
    return f"""
        SELECT v.*, f.us AS _began
        FROM {table.log} v
        JOIN {table.commits} f ON f.txn = v._from AND f.us <= {at_us}
        LEFT JOIN {table.commits} t ON t.txn = v._to
        WHERE t.us IS NULL OR t.us > {at_us}"""
