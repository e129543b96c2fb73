"""A bucket and an emulated Snowflake account, as the rooms' own tests have them."""

from tests.connectors.signing_in import sign_in
from tests.indexer.conftest import s3_endpoint, s3_store
from tests.snowflake.conftest import schema, snowflake, snowflake_account

__all__ = ["s3_endpoint", "s3_store", "schema", "sign_in", "snowflake", "snowflake_account"]
