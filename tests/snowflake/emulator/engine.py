"""What all sessions share: the data, the catalog, the clock and the lock that one statement at a time holds."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from fakesnow import macros
from fakesnow.instance import FakeSnow

from tests.snowflake.emulator.clock import Clock
from tests.snowflake.emulator.column import Column
from tests.snowflake.emulator.table import Catalog

# Statement types as the connector knows them (snowflake-connector-python, "constants", and the JDBC driver's list).
SELECT, INSERT, UPDATE, DELETE, MERGE = 0x1000, 0x3100, 0x3200, 0x3300, 0x3400
USE, SHOW, DESCRIBE, TRANSACTION, DDL, OTHER = 0x4300, 0x4400, 0x4500, 0x5000, 0x6000, 0x0000


@dataclass(frozen=True)
class Answer:
    """A statement's result; ``text`` ones go as JSON, as the service sends all but queries."""

    rows: pa.Table
    columns: list[Column]
    statement_type: int
    text: bool = True


@dataclass
class Engine:
    """The state of the emulated account."""

    clock: Clock = field(default_factory=Clock)
    catalog: Catalog = field(default_factory=Catalog)
    lock: threading.Condition = field(default_factory=threading.Condition)
    retention_days: float = 1
    commit_delay_s: float = 0
    committed_us: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For each query id: the clock before it began and when it committed, for AT(STATEMENT => …)."""

    def __post_init__(self) -> None:
        self.fake = FakeSnow(create_database_on_connect=False, create_schema_on_connect=False)
        # fakesnow's macros, for sessions without a current database
        self.fake.duck_conn.execute(macros.creation_sql("memory"))
        self._transactions = 0

    def transaction(self) -> int:
        """Return a transaction's number."""
        with self.lock:
            self._transactions += 1
            return self._transactions

    def connection(self) -> Any:
        """Return a fakesnow connection of its own, without a current database."""
        return self.fake.connect()
