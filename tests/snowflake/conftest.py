"""One emulated Snowflake account for the run, a database and schema of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.snowflake.rules")

from tests.snowflake.rules import Account  # noqa: E402
from tests.snowflake.server import EmulatedAccount, SnowflakeServer, snowflake_server  # noqa: E402

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def snowflake_account() -> Iterator[SnowflakeServer]:
    with snowflake_server() as server:
        yield server


@pytest.fixture
def snowflake(snowflake_account: SnowflakeServer) -> Iterator[SnowflakeServer]:
    """Yield the account without faults or records of other tests."""
    snowflake_account.reset()
    yield snowflake_account
    snowflake_account.reset()


@pytest.fixture
def schema(snowflake: SnowflakeServer) -> Iterator[str]:
    """Yield a new, empty schema as DATABASE.SCHEMA; the server's own connection is in it."""
    database = f"TEST_{next(_numbers)}"
    snowflake.execute(f"CREATE DATABASE {database}")
    snowflake.execute(f"CREATE SCHEMA {database}.S")
    yield f"{database}.S"
    snowflake.reset()
    snowflake.execute(f"DROP DATABASE {database}")


@pytest.fixture
def account(snowflake: SnowflakeServer, schema: str) -> Account:
    """Return the account as the rules see it."""
    return EmulatedAccount(snowflake, schema)
