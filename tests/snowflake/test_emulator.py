from __future__ import annotations

from tests.snowflake.server import SnowflakeServer


def test_changes_between_two_moments(snowflake: SnowflakeServer, schema: str) -> None:
    snowflake.execute("CREATE TABLE t (id INT, name VARCHAR) CHANGE_TRACKING = TRUE")
    snowflake.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    ((start,),) = snowflake.execute("SELECT CURRENT_TIMESTAMP()")
    snowflake.execute("UPDATE t SET name = 'B' WHERE id = 2")
    snowflake.execute("DELETE FROM t WHERE id = 1")

    assert sorted(
        snowflake.execute(
            "SELECT id, name, METADATA$ACTION, METADATA$ISUPDATE FROM t CHANGES(INFORMATION => DEFAULT) "
            f"AT(TIMESTAMP => '{start.isoformat()}'::TIMESTAMP_LTZ)"
        )
    ) == [(1, "a", "DELETE", False), (2, "B", "INSERT", True), (2, "b", "DELETE", True)]
