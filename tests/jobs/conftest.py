"""The emulated Snowflake account."""

from tests.snowflake.conftest import snowflake, snowflake_account

__all__ = ["snowflake", "snowflake_account"]
