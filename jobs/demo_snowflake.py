"""The demo's table in an emulated Snowflake account: the one that a checkout's tests start."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from indexer.spec import SourceSpec
from jobs.errors import CommandError
from jobs.stdlib_docs import DocRow

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

DATABASE, SCHEMA, TABLE = "GREBE", "DEMO", "STDLIB"
SIGN_IN = ("account", "user", "password", "host", "port", "protocol")
NO_EMULATOR = (
    "the emulated Snowflake account comes with a checkout alone: run `make demo ARGS='--source snowflake'` in one, or "
    "let a collection follow a table of a real account (`grebe init` and `kind: snowflake` in its spec)"
)


class SnowflakeDemo:
    """Implements :class:`jobs.demo_table.DemoTable` over ``connection``, whose parameters are by question mark."""

    described = "a table of the account, change tracking on, by Snowflake's connector"
    # A Snowflake ARRAY is indexed as its JSON.
    with_parameter = ("parameters LIKE :name", {"name": '%"timeout"%'})

    def __init__(self, connection: SnowflakeConnection) -> None:
        self._connection = connection
        self.place = f"{DATABASE}.{SCHEMA}.{TABLE}"
        self.source = SourceSpec(kind="snowflake", table=self.place)

    def write(self, rows: Sequence[DocRow]) -> None:
        """Create the table with ``rows``, which the connector binds as arrays."""
        for statement in (
            f"CREATE DATABASE {DATABASE}",
            f"CREATE SCHEMA {DATABASE}.{SCHEMA}",
            f"CREATE TABLE {self.place} (id VARCHAR NOT NULL, name VARCHAR, module VARCHAR, kind VARCHAR, "
            "signature VARCHAR, parameters ARRAY, summary VARCHAR, docstring VARCHAR) CHANGE_TRACKING = TRUE",
        ):
            self.execute(statement)
        values = [tuple({**asdict(row), "parameters": json.dumps(row.parameters)}.values()) for row in rows]
        with self._connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {self.place} SELECT ?, ?, ?, ?, ?, PARSE_JSON(?)::ARRAY, ?, ?", values)

    def execute(self, sql: str) -> datetime:
        """Run a statement, which commits by itself, and return when its answer came."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
        return datetime.now(UTC)


@contextmanager
def emulated_demo() -> Iterator[SnowflakeDemo]:
    """Run an emulated account, and let whatever this process starts sign in to it, as long as the block runs.

    Raises :class:`jobs.errors.CommandError` where there is none, or it does not start.
    """
    try:
        from tests.snowflake.server import snowflake_server
    except ModuleNotFoundError as error:
        raise CommandError(NO_EMULATOR) from error
    with ExitStack() as stack:
        try:
            account = stack.enter_context(snowflake_server())
        except RuntimeError as error:
            raise CommandError(str(error)) from error
        stack.enter_context(signed_in(account.connection_parameters()))
        yield SnowflakeDemo(stack.enter_context(account.connect(paramstyle="qmark")))


@contextmanager
def signed_in(parameters: Mapping[str, Any]) -> Iterator[None]:
    """Have the environment say these of the connector's ``parameters`` and nothing else of Snowflake's."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("SNOWFLAKE_"):
            del os.environ[name]
    os.environ.update({f"SNOWFLAKE_{name.upper()}": str(parameters[name]) for name in SIGN_IN})
    os.environ["SNOWFLAKE_DISABLE_PLATFORM_DETECTION"] = "true"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
