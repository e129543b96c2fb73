"""A schema of a real account for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import snowflake.connector

from tests.snowflake.live.real_account import LiveAccount, given
from tests.snowflake.rules import Account


@pytest.fixture
def account() -> Iterator[Account]:
    """Yield the account with a schema that the test has for itself, dropped at its end."""
    schema = f"GREBE_TEST_{uuid.uuid4().hex[:12].upper()}"
    with snowflake.connector.connect(**given()) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {schema}")
    account = LiveAccount(given(), schema)
    yield account
    account.close()
