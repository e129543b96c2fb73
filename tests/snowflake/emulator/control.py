"""The control address: one verb each for what a test may do to the service."""

from __future__ import annotations

from typing import Any

from tests.snowflake.emulator.account import Account
from tests.snowflake.emulator.engine import Engine
from tests.snowflake.emulator.faults import DropChunks, FailNext, Faults
from tests.snowflake.emulator.naming import table_name
from tests.snowflake.emulator.results import Results


class Control:
    """Carries out ``/_control/VERB`` with its JSON arguments."""

    def __init__(self, engine: Engine, faults: Faults, results: Results, account: Account) -> None:
        self._engine = engine
        self._faults = faults
        self._results = results
        self._account = account

    def do(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Carry out one verb."""
        act = getattr(self, f"_{verb.replace('-', '_')}", None)
        if act is None:
            raise ValueError(f"no control named {verb}")
        return act(**arguments)

    def _ready(self) -> bool:
        return True

    def _reset(self) -> None:
        """No more faults, records, late commits or clock ahead; data and sessions stay."""
        self._faults.reset()
        self._engine.commit_delay_s = 0

    def _records(self) -> dict[str, Any]:
        return self._faults.records()

    def _now(self) -> int:
        return self._engine.clock.now_us()

    def _advance_clock(self, seconds: float) -> None:
        self._engine.clock.advance(seconds)

    def _expire_history(self, table: str) -> None:
        """Forget all of a table's past, as if it were older than its retention."""
        with self._engine.lock:
            name = table_name(table)
            self._engine.catalog.table((name.catalog, name.db, name.name)).kept_since_us = self._engine.clock.now_us()

    def _delay_commits(self, seconds: float) -> None:
        self._engine.commit_delay_s = seconds

    def _rows_per_chunk(self, rows: int) -> None:
        with self._faults.lock:
            self._faults.rows_per_chunk = rows

    def _compress(self, on: bool) -> None:
        with self._faults.lock:
            self._faults.compress = on

    def _seconds_per_statement(self, seconds: float) -> None:
        with self._faults.lock:
            self._faults.seconds_per_statement = seconds

    def _fail_next(self, **ordered: Any) -> None:
        with self._faults.lock:
            self._faults.fail_next.append(FailNext(**ordered))

    def _drop_chunks(self, after_bytes: int, requests: int) -> None:
        with self._faults.lock:
            self._faults.drop_chunks = DropChunks(after_bytes, requests)

    def _refuse_logins(self, times: int) -> None:
        with self._faults.lock:
            self._faults.refuse_logins = times

    def _http_errors(self, status: int, requests: int) -> None:
        with self._faults.lock:
            self._faults.http_status, self._faults.http_requests = status, requests

    def _expire_addresses(self) -> None:
        self._results.expire_addresses()

    def _expire_results(self) -> None:
        self._results.expire_results()

    def _expire_tokens(self, master: bool = False) -> None:
        self._account.expire_tokens(master=master)

    def _end_sessions(self) -> None:
        self._account.end_sessions()
