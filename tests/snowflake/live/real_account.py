"""A real account, named by the environment as Snowflake's own tools read it."""

from __future__ import annotations

import os
import time
from typing import Any

import snowflake.connector

from tests.snowflake.rules import Rows

NAMES = {
    "account": "SNOWFLAKE_ACCOUNT",
    "user": "SNOWFLAKE_USER",
    "password": "SNOWFLAKE_PASSWORD",
    "authenticator": "SNOWFLAKE_AUTHENTICATOR",
    "private_key_file": "SNOWFLAKE_PRIVATE_KEY_PATH",
    "private_key_file_pwd": "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE",
    "token": "SNOWFLAKE_TOKEN",
    "role": "SNOWFLAKE_ROLE",
    "warehouse": "SNOWFLAKE_WAREHOUSE",
    "database": "SNOWFLAKE_DATABASE",
}
REQUIRED = ("account", "user", "warehouse", "database")
SETTLE_SECONDS = 1.0
"""Commit times may differ from the session's clock by less than this."""


class LiveAccount:
    """Implements :class:`tests.snowflake.rules.Account` over a schema of a real account."""

    def __init__(self, parameters: dict[str, Any], schema: str) -> None:
        self._parameters = {**parameters, "schema": schema}
        self._connection = self.connect()

    def execute(self, sql: str) -> Rows:
        """Run a statement in the schema and return its rows."""
        with self._connection.cursor() as cursor:
            rows: Rows = cursor.execute(sql).fetchall()
            return rows

    def connect(self) -> snowflake.connector.SnowflakeConnection:
        """Open another connection to the same schema."""
        return snowflake.connector.connect(**self._parameters)

    def settle(self) -> None:
        """Let the clock move on."""
        time.sleep(SETTLE_SECONDS)

    def close(self) -> None:
        """Drop the schema."""
        self.execute(f"DROP SCHEMA {self._parameters['schema']}")
        self._connection.close()


def given() -> dict[str, Any]:
    """Return how to sign in, as far as the environment says."""
    named = {name: os.environ[variable] for name, variable in NAMES.items() if os.environ.get(variable)}
    return {
        **named,
        "enable_server_session_keep_alive_auto_detection": False,
        "session_parameters": {"TIMEZONE": "America/Los_Angeles", "QUERY_TAG": "grebe-tests"},
    }


def missing() -> list[str]:
    """Return the variables without which there is no account to ask."""
    return [NAMES[name] for name in REQUIRED if name not in given()]
