"""Starting and stopping the emulated Snowflake account, and telling it what to do wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import snowflake.connector

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "emulator" / "main.py"
START_SECONDS = 180
"""The first start on a machine installs the script's environment; later ones take about two seconds."""


@dataclass(frozen=True)
class Statement:
    """A statement that the account has seen."""

    query_id: str
    sql: str
    user: str
    session_id: int
    query_tag: str | None


@dataclass(frozen=True)
class Login:
    """A sign-in: ``how`` is PASSWORD, KEY_PAIR, OAUTH or PROGRAMMATIC_ACCESS_TOKEN."""

    how: str
    user: str
    client: str
    parameters: dict[str, Any]


class SnowflakeServer:
    """The emulated account that listens at ``address``; what is not a query is a control of the emulator."""

    def __init__(self, address: str, log: Path) -> None:
        self.address = address
        self.log = log
        self._connection: snowflake.connector.SnowflakeConnection | None = None

    def connection_parameters(self) -> dict[str, Any]:
        """Return what ``snowflake.connector.connect`` needs to sign in with a password."""
        host, port = self.address.removeprefix("http://").split(":")
        return {
            "account": "emulated",
            "user": "GREBE",
            "password": "any",
            "host": host,
            "port": int(port),
            "protocol": "http",
            # the connector warns unless it is told
            "enable_server_session_keep_alive_auto_detection": False,
        }

    def connect(self, **parameters: Any) -> snowflake.connector.SnowflakeConnection:
        """Open a connection; ``parameters`` add to or replace the usual ones."""
        return snowflake.connector.connect(**{**self.connection_parameters(), **parameters})

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement on the server's own connection and return its rows."""
        if self._connection is None:
            self._connection = self.connect()
        with self._connection.cursor() as cursor:
            rows: list[tuple[Any, ...]] = cursor.execute(sql).fetchall()
            return rows

    def close(self) -> None:
        """Close the server's own connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def reset(self) -> None:
        """End all faults and records and the server's own connection; data and the clock stay as they are."""
        self._control("reset")
        self.close()

    def now_us(self) -> int:
        """Return the account's clock, in microseconds since the epoch."""
        return int(self._control("now"))

    def advance_clock(self, seconds: float) -> None:
        """Let time pass, for retention. It never goes back: use it on a server of the test's own."""
        self._control("advance-clock", seconds=seconds)

    def expire_history(self, table: str) -> None:
        """Forget the past of ``DATABASE.SCHEMA.TABLE``, as if it were older than its retention."""
        self._control("expire-history", table=table)

    def load(self, table: str, rows: pa.Table) -> None:
        """Insert many rows into ``DATABASE.SCHEMA.TABLE`` in one commit, faster than SQL could; columns by name."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        self._post(f"load/{table}", sink.getvalue().to_pybytes())

    def rows_per_chunk(self, rows: int) -> None:
        """Cut results into chunks of so many rows, 10,000 unless set."""
        self._control("rows-per-chunk", rows=rows)

    def compress_chunks(self, on: bool) -> None:
        """Send chunks gzipped, as the service does, or as they are."""
        self._control("compress", on=on)

    def expire_addresses(self) -> None:
        """From now on the store answers HTTP 403 to the addresses given so far."""
        self._control("expire-addresses")

    def expire_results(self) -> None:
        """Forget all results: their query ids are no longer found."""
        self._control("expire-results")

    def drop_chunks(self, requests: int, after_bytes: int = 100) -> None:
        """Close the connection of the next chunk requests after so many bytes of their body."""
        self._control("drop-chunks", requests=requests, after_bytes=after_bytes)

    def expire_tokens(self, *, master: bool = False) -> None:
        """Let all session tokens expire: clients renew them, unless the master tokens have expired too."""
        self._control("expire-tokens", master=master)

    def end_sessions(self) -> None:
        """End all sessions, as an administrator may: code 390111."""
        self._control("end-sessions")

    def refuse_logins(self, times: int) -> None:
        """Refuse the next sign-ins: code 390100."""
        self._control("refuse-logins", times=times)

    def fail_next(
        self, code: int, sqlstate: str, message: str = "ordered", *, times: int = 1, containing: str = ""
    ) -> None:
        """Let the next statements whose text contains ``containing`` fail."""
        arguments = {"code": code, "sqlstate": sqlstate, "message": message, "times": times, "containing": containing}
        self._control("fail-next", **arguments)

    def http_errors(self, status: int, requests: int) -> None:
        """Answer the next requests to run a statement with an HTTP status (503, 429, …) instead."""
        self._control("http-errors", status=status, requests=requests)

    def delay_commits(self, seconds: float) -> None:
        """Let others see commits only so long after the time that the commits get."""
        self._control("delay-commits", seconds=seconds)

    def seconds_per_statement(self, seconds: float) -> None:
        """Let every statement take so much longer."""
        self._control("seconds-per-statement", seconds=seconds)

    def statements(self) -> list[Statement]:
        """Return the statements seen since the last reset."""
        return [Statement(**seen) for seen in self._control("records")["statements"]]

    def logins(self) -> list[Login]:
        """Return the sign-ins seen since the last reset."""
        return [Login(**seen) for seen in self._control("records")["logins"]]

    def chunk_requests(self) -> int:
        """Return how many chunks were asked for since the last reset."""
        return int(self._control("records")["chunk_requests"])

    def _control(self, verb: str, **arguments: Any) -> Any:
        return self._post(verb, json.dumps(arguments).encode())

    def _post(self, verb: str, body: bytes) -> Any:
        request = urllib.request.Request(f"{self.address}/_control/{verb}", body, method="POST")
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.load(reply)
        if not answer["success"]:
            raise RuntimeError(f"the Snowflake emulator refused {verb}: {answer['message']}")
        return answer["data"]


class EmulatedAccount:
    """Implements :class:`tests.snowflake.rules.Account` over a schema of the emulator."""

    def __init__(self, server: SnowflakeServer, schema: str) -> None:
        self._server = server
        self._database, self._schema = schema.split(".")

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement in the schema and return its rows."""
        return self._server.execute(sql)

    def connect(self) -> snowflake.connector.SnowflakeConnection:
        """Open another connection to the same schema."""
        return self._server.connect(database=self._database, schema=self._schema)

    def settle(self) -> None:
        """Nothing to wait for: the emulator never gives a time twice."""


@contextmanager
def snowflake_server(script: Path = SCRIPT, python: Path = Path(sys.executable)) -> Iterator[SnowflakeServer]:
    """Run an emulated account for as long as the context lasts; uv is looked for beside ``python``."""
    folder = Path(tempfile.mkdtemp(prefix="grebe-snowflake-"))
    log = folder / "emulator.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [_uv(python), "run", "--quiet", "--python", str(python), "--script", str(script)],
            cwd=ROOT,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
                "PYTHONPATH": str(ROOT),
                "PYTHONSAFEPATH": "1",
            },
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        server = SnowflakeServer(_address(process, log), log)
        yield server
        server.close()
        shutil.rmtree(folder)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("listening on "):
                return line.removeprefix("listening on ")
        time.sleep(0.02)
    raise RuntimeError(
        f"The Snowflake emulator did not start (exit code {process.poll()}). Expected: `uv run --script {SCRIPT.name}` "
        "installs its pinned packages and prints its address. Check that the package index can be reached; then run it "
        f"again. Its log:\n{log.read_text(errors='replace')[-3000:]}"
    )


def _uv(python: Path) -> str:
    beside = python.with_name("uv")
    if not beside.exists():
        raise RuntimeError(
            "The tests of Snowflake need uv beside the Python that runs them, to start the emulator in its own "
            "environment. It comes with the extra `dev`; install the project with it again."
        )
    return str(beside)
