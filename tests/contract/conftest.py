"""The emulated Snowflake account, and how Spark's processes sign in to it."""

from tests.connectors.signing_in import sign_in
from tests.snowflake.conftest import schema, snowflake, snowflake_account

__all__ = ["schema", "sign_in", "snowflake", "snowflake_account"]
