"""Sign-in, tokens and statements: what the service answers to each request, as JSON."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tests.snowflake.emulator.engine import Engine
from tests.snowflake.emulator.failure import SqlFailure, result_expired, statement_not_found
from tests.snowflake.emulator.faults import Faults, Login, Seen
from tests.snowflake.emulator.naming import given
from tests.snowflake.emulator.results import Results
from tests.snowflake.emulator.session import Session

Reply = dict[str, Any]

SESSION_VALID_S, MASTER_VALID_S = 3600, 14400

# Snowflake's own codes (snowflake-connector-python, "network": the first makes it renew, the others sign in or fail).
TOKEN_EXPIRED, SESSION_GONE, TOKEN_INVALID, MASTER_EXPIRED = "390112", "390111", "390104", "390114"
LOGIN_FAILED = "390100"

_HOW = {
    "": "PASSWORD",
    "SNOWFLAKE": "PASSWORD",
    "USERNAME_PASSWORD_MFA": "PASSWORD",
    "SNOWFLAKE_JWT": "KEY_PAIR",
    "OAUTH": "OAUTH",
    "PROGRAMMATIC_ACCESS_TOKEN": "PROGRAMMATIC_ACCESS_TOKEN",
}


class Refused(Exception):
    """A request that the service turns down before any statement runs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass
class SignedIn:
    """A client's session with its two tokens: one for requests, the master one to renew it."""

    session: Session
    id: int
    token: str
    master: str
    lock: threading.Lock
    gone: bool = False


class Account:
    """The emulated account: sessions by token, results by query id."""

    def __init__(self, engine: Engine, faults: Faults, results: Results) -> None:
        self._engine = engine
        self._faults = faults
        self._results = results
        self._by_token: dict[str, SignedIn] = {}
        self._by_master: dict[str, SignedIn] = {}
        self._expired: set[str] = set()
        self._ids = itertools.count(1001)

    def sign_in(self, names: dict[str, str], body: dict[str, Any]) -> Reply:
        """Open a session for a client that shows any credential of a kind that we know."""
        data = body["data"]
        how = _HOW.get(str(data.get("AUTHENTICATOR") or "").upper())
        credential = data.get("PASSWORD") or data.get("TOKEN") or data.get("PASSCODE")
        with self._faults.lock:
            refused = self._faults.refuse_logins > 0
            self._faults.refuse_logins = max(0, self._faults.refuse_logins - 1)
        if how is None or not credential or refused:
            raise Refused(LOGIN_FAILED, "Incorrect username or password was specified.")
        parameters = data.get("SESSION_PARAMETERS") or {}
        user = str(data.get("LOGIN_NAME") or "").upper()
        with self._faults.lock:
            client = f"{data.get('CLIENT_APP_ID')} {data.get('CLIENT_APP_VERSION')}"
            self._faults.logins.append(Login(how, user, client, parameters))
        database, schema = names.get("databaseName"), names.get("schemaName")
        with self._engine.lock:
            session = Session(
                self._engine, given(database) if database else None, given(schema) if schema else None, user
            )
        session.role = names.get("roleName", "").upper() or session.role
        session.warehouse = names.get("warehouse", "").upper() or None
        for name, value in parameters.items():
            session.set_parameter(name, str(value))
        signed = SignedIn(session, next(self._ids), *_tokens(), threading.Lock())
        self._by_token[signed.token] = self._by_master[signed.master] = signed
        return {
            "token": signed.token,
            "masterToken": signed.master,
            "validityInSeconds": SESSION_VALID_S,
            "masterValidityInSeconds": MASTER_VALID_S,
            "sessionId": signed.id,
            "displayUserName": user,
            "serverVersion": "9.40.0",
            "parameters": self._parameters(session),
            "sessionInfo": {
                "databaseName": session.database,
                "schemaName": session.schema,
                "warehouseName": session.warehouse,
                "roleName": session.role,
            },
        }

    def renew(self, body: dict[str, Any], authorization: str | None) -> Reply:
        """Give a new session token for the master token."""
        master = _token_of(authorization)
        signed = self._by_master.get(master)
        if signed is None or master in self._expired:
            raise Refused(MASTER_EXPIRED, "Authentication token has expired. The user must authenticate again.")
        if signed.gone:
            raise Refused(SESSION_GONE, "Session no longer exists. New login required to access the service.")
        self._by_token.pop(signed.token, None)
        signed.token = secrets.token_urlsafe(32)
        self._by_token[signed.token] = signed
        return {
            "sessionToken": signed.token,
            "masterToken": signed.master,
            "validityInSecondsST": SESSION_VALID_S,
            "validityInSecondsMT": MASTER_VALID_S,
            "sessionId": signed.id,
        }

    def sign_out(self, authorization: str | None) -> None:
        """Close a session."""
        signed = self.signed_in(authorization)
        signed.gone = True
        with signed.lock:
            signed.session.close()
        self._by_token.pop(signed.token, None)
        self._by_master.pop(signed.master, None)

    def signed_in(self, authorization: str | None) -> SignedIn:
        """Return the session that a request belongs to."""
        token = _token_of(authorization)
        signed = self._by_token.get(token)
        if signed is None:
            raise Refused(TOKEN_INVALID, "Authentication token is invalid. The user must authenticate again.")
        if signed.gone:
            raise Refused(SESSION_GONE, "Session no longer exists. New login required to access the service.")
        if token in self._expired:
            raise Refused(TOKEN_EXPIRED, "Authentication token has expired. The user must authenticate again.")
        return signed

    def execute(self, authorization: str | None, body: dict[str, Any], address: str) -> Reply:
        """Run a statement and keep its result."""
        signed = self.signed_in(authorization)
        sql, session = str(body["sqlText"]), signed.session
        query_id = str(uuid.uuid4())
        tag = (body.get("parameters") or {}).get("QUERY_TAG") or session.parameters.get("QUERY_TAG")
        with self._faults.lock:
            self._faults.seen.append(Seen(query_id, sql, session.user, signed.id, tag))
            wait_s = self._faults.seconds_per_statement
        time.sleep(wait_s)
        if ordered := self._faults.failure(sql):
            raise _with_id(SqlFailure(ordered.code, ordered.sqlstate, ordered.message), query_id)
        with signed.lock:
            try:
                answer = session.execute(
                    sql, query_id, body.get("bindings"), describe_only=bool(body.get("describeOnly"))
                )
            except SqlFailure as failure:
                raise _with_id(failure, query_id) from None
            base = {
                "parameters": self._parameters(session),
                "finalDatabaseName": session.database,
                "finalSchemaName": session.schema,
                "finalWarehouseName": session.warehouse,
                "finalRoleName": session.role,
                "arrayBindSupported": True,
                "version": 1,
            }
        self._results.add(query_id, answer, self._faults.rows_per_chunk, base)
        data = self._results.answer(query_id, address)
        assert data is not None
        return data

    def result(self, authorization: str | None, query_id: str, address: str) -> Reply:
        """Return a finished query's result again."""
        self.signed_in(authorization)
        data = self._results.answer(query_id, address)
        if data is None:
            finished = self._results.finished(query_id)
            raise _with_id(result_expired(query_id) if finished else statement_not_found(query_id), query_id)
        return data

    def status(self, authorization: str | None, query_id: str) -> Reply:
        """Return a query's state as the monitoring address tells it."""
        signed = self.signed_in(authorization)
        if not self._results.finished(query_id):
            return {"queries": []}
        return {"queries": [{"id": query_id, "status": "SUCCESS", "state": "SUCCEEDED", "sessionId": signed.id}]}

    def load(self, table: str, stream: bytes) -> int:
        """Insert the rows of an Arrow stream into a table, in one commit."""
        with self._engine.lock:
            session = Session(self._engine, None, None, "LOADER")
            count = session.load(table, pa.ipc.open_stream(stream).read_all())
            session.close()
            return count

    def expire_tokens(self, *, master: bool = False) -> None:
        """Every session token given so far has expired, and the master tokens too if asked."""
        self._expired |= set(self._by_token) | (set(self._by_master) if master else set())

    def end_sessions(self) -> None:
        """Every session is gone, as if an administrator had ended it."""
        for signed in self._by_token.values():
            signed.gone = True

    def _parameters(self, session: Session) -> list[dict[str, Any]]:
        named: dict[str, Any] = {
            "TIMEZONE": session.time_zone,
            "TIMESTAMP_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF3 TZHTZM",
            "TIMESTAMP_NTZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF3",
            "TIMESTAMP_LTZ_OUTPUT_FORMAT": "",
            "TIMESTAMP_TZ_OUTPUT_FORMAT": "",
            "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",
            "TIME_OUTPUT_FORMAT": "HH24:MI:SS",
            "BINARY_OUTPUT_FORMAT": "HEX",
            "AUTOCOMMIT": session.parameters.get("AUTOCOMMIT", "true").lower() == "true",
            "CLIENT_TELEMETRY_ENABLED": False,
            "CLIENT_SESSION_KEEP_ALIVE": False,
            "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY": 3600,
            "CLIENT_PREFETCH_THREADS": 4,
            "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD": 0,
        }
        return [{"name": name, "value": value} for name, value in named.items()]


def _tokens() -> tuple[str, str]:
    return secrets.token_urlsafe(32), secrets.token_urlsafe(32)


def _token_of(authorization: str | None) -> str:
    """From ``Snowflake Token="…"``."""
    return (authorization or "").partition('Token="')[2].rstrip('"')


def _with_id(failure: SqlFailure, query_id: str) -> SqlFailure:
    failure.query_id = query_id
    return failure
