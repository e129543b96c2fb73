"""A session with Snowflake: signing in as the connector does it, one query tag, and its errors in our terms.

What signs in is in ``connections.toml`` or the environment of the process that signs in, and stays there: a
:class:`SignIn` only names it. The connector's errors are translated here alone, and *without* the original as cause:
that one may hold an address with its signature, and Spark prints causes on executors' terminals.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import snowflake.connector
from snowflake.connector.errors import Error, InterfaceError, ReauthenticationRequest

from connectors.errors import HistoryExpired, SchemaMismatch, SignInFailed, SourceError, SourceNotFound

if TYPE_CHECKING:
    from snowflake.connector.cursor import SnowflakeCursor

T = TypeVar("T")

OPTION = "signin."
"""What the names of a SignIn's parts begin with among a data source's options."""

TAG_LENGTH = 200
CLOCK = "SELECT DATE_PART(EPOCH_MICROSECOND, CURRENT_TIMESTAMP())"

FROM_ENVIRONMENT = {
    "SNOWFLAKE_ACCOUNT": "account",
    "SNOWFLAKE_AUTHENTICATOR": "authenticator",
    "SNOWFLAKE_DATABASE": "database",
    "SNOWFLAKE_HOST": "host",
    "SNOWFLAKE_OAUTH_CLIENT_ID": "oauth_client_id",
    "SNOWFLAKE_OAUTH_CLIENT_SECRET": "oauth_client_secret",
    "SNOWFLAKE_OAUTH_SCOPE": "oauth_scope",
    "SNOWFLAKE_OAUTH_TOKEN_REQUEST_URL": "oauth_token_request_url",
    "SNOWFLAKE_PASSWORD": "password",
    "SNOWFLAKE_PORT": "port",
    "SNOWFLAKE_PRIVATE_KEY_FILE": "private_key_file",
    "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": "private_key_password",
    "SNOWFLAKE_PRIVATE_KEY_PATH": "private_key_file",
    "SNOWFLAKE_PRIVATE_KEY_RAW": "private_key",
    "SNOWFLAKE_PROTOCOL": "protocol",
    "SNOWFLAKE_ROLE": "role",
    "SNOWFLAKE_SCHEMA": "schema",
    "SNOWFLAKE_TOKEN": "token",
    "SNOWFLAKE_TOKEN_FILE_PATH": "token_file_path",
    "SNOWFLAKE_USER": "user",
    "SNOWFLAKE_WAREHOUSE": "warehouse",
    "SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER": "workload_identity_provider",
}
"""Parameters of the connector's that the environment gives, under the names that Snowflake's own command uses."""


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """How to sign in, without anything secret, so that it may be in a Spark plan.

    ``connection`` is a name in ``connections.toml`` (of ``connections_file``, or of where the connector looks). Without
    it the environment's ``SNOWFLAKE_ACCOUNT`` and its like count, and without those the connector's default
    connection. ``role`` and ``warehouse`` win over what either says.
    """

    connection: str | None = None
    connections_file: str | None = None
    role: str | None = None
    warehouse: str | None = None
    tag: str = "grebe"

    def options(self) -> dict[str, str]:
        """Return the parts that are given as options of a Spark data source."""
        return {OPTION + name.replace("_", ""): value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of(cls, options: Mapping[str, str]) -> SignIn:
        """Return what :meth:`options` made."""
        names = {OPTION + name.replace("_", ""): name for name in cls.__dataclass_fields__}
        return cls(**{name: options[option] for option, name in names.items() if option in options})

    def parameters(self, environment: Mapping[str, str]) -> dict[str, Any]:
        """Return the connector's parameters. They may hold secrets: they go to the connector and nowhere else."""
        given: dict[str, Any] = {}
        if self.connection is None and {"SNOWFLAKE_ACCOUNT", "SNOWFLAKE_HOST"} & environment.keys():
            given = {name: environment[key] for key, name in FROM_ENVIRONMENT.items() if environment.get(key)}
            if "port" in given:
                given["port"] = int(given["port"])
        else:
            default = environment.get("SNOWFLAKE_DEFAULT_CONNECTION_NAME", "default")
            given["connection_name"] = self.connection or default
        if self.connections_file:
            given["connections_file_path"] = self.connections_file
        given |= {name: value for name, value in (("role", self.role), ("warehouse", self.warehouse)) if value}
        return given | {
            "application": "Grebe",
            "session_parameters": {"QUERY_TAG": self.tag[:TAG_LENGTH], "TIMEZONE": "UTC"},
            # Both said outright, because the connector warns of a default that will change. Nothing runs on after us.
            "server_session_keep_alive": False,
            "enable_server_session_keep_alive_auto_detection": False,
            "auto_cleanup": False,
        }


class Session:
    """One connection, opened when it is first needed and again when the server has forgotten it.

    ``named`` is what errors are about. Every statement is a read, so that any can be run again. Threads may share it.
    """

    def __init__(self, sign_in: SignIn, named: str) -> None:
        self.sign_in = sign_in
        self.named = named
        self._lock = threading.Lock()
        self._connection: Any = None

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of ``sql``."""
        return self._read(lambda cursor: list(cursor.execute(sql).fetchall()))

    def value(self, sql: str) -> Any:
        """Return the one value of ``sql``."""
        return self.rows(sql)[0][0]

    def records(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of ``sql`` by column."""

        def read(cursor: SnowflakeCursor) -> list[dict[str, Any]]:
            cursor.execute(sql)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        return self._read(read)

    def clock(self) -> int:
        """Return the server's clock in microseconds since 1970 UTC."""
        return int(self.value(CLOCK))

    def run(self, read: Callable[[SnowflakeCursor], T]) -> T:
        """Return what ``read`` makes of a new cursor; it may be called twice."""
        return self._read(read)

    def fetch(self, read: Callable[[Any], T]) -> T:
        """Return what ``read`` makes of the connection itself."""
        return self._read(lambda cursor: read(cursor.connection))

    def close(self) -> None:
        """Sign out; the next statement signs in again."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            atexit.unregister(self.close)
            try:
                connection.close(retry=False)
            except Error:
                return  # the server forgets the session by itself

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, read: Callable[[SnowflakeCursor], T]) -> T:
        try:
            try:
                return self._once(read)
            except Error as error:
                if not _signed_out(error):
                    raise
                self.close()
                return self._once(read)
        except Error as error:
            raise translate(error, self.named) from None

    def _once(self, read: Callable[[SnowflakeCursor], T]) -> T:
        with self._opened().cursor() as cursor:
            return read(cursor)

    def _opened(self) -> Any:
        with self._lock:
            if self._connection is None:
                self._connection = snowflake.connector.connect(**self.sign_in.parameters(os.environ))
                atexit.register(self.close)
            return self._connection


def _signed_out(error: Error) -> bool:
    return isinstance(error, ReauthenticationRequest) or error.errno in SESSION_GONE


SESSION_GONE = {250002, 390104, 390110, 390111, 390112, 390114, 390115}
"""The connection is closed, or its session or its tokens are unknown to the server or have expired."""

SIGN_IN_FAILED = {250001, 251001, 251005, 251006, 251007, 390100, 390101, 390103, 390144, 390186, 390189, 390195}
NOT_FOUND = {2003, 2043, 3001, 3040, 90105}
NO_WAREHOUSE = {606, 609}

_TOO_OLD = ("time travel data is not available", "beyond the allowed time travel period")
_UNTRACKED = ("change tracking is not enabled", "change tracking was not enabled", "change data is not available")


def translate(error: BaseException, named: str) -> SourceError:
    """Return what an error of the connector's means in our terms; its text has no address and no key."""
    said = scrubbed(str(error))
    text, code = said.lower(), getattr(error, "errno", None)
    if code == 707 or any(sign in text for sign in _TOO_OLD):
        return HistoryExpired(f"{named}: {said}; a sync compares the whole table and goes on from there")
    if code == 91930 or any(sign in text for sign in _UNTRACKED):
        return HistoryExpired(
            f"{named}: change tracking was off for a part of what is to be read; a sync compares the whole table "
            f"and goes on from there ({said})"
        )
    if code in SIGN_IN_FAILED or (isinstance(error, InterfaceError) and code != 252005):
        return SignInFailed(
            f"{named}: signing in to Snowflake failed: {said}. Grebe signs in as the connector does: by the source's "
            "'connection' in connections.toml, by SNOWFLAKE_ACCOUNT and its like in the environment, or by the default "
            "connection"
        )
    if code in NOT_FOUND or "does not exist or not authorized" in text:
        return SourceNotFound(
            f"{named} does not exist, or the role may not read it: {said}. The role needs USAGE on the database, the "
            "schema and the warehouse, and SELECT on the table (docs/snowflake.md has the grants)"
        )
    if code in NO_WAREHOUSE:
        return SourceError(f"{named}: no warehouse runs the query: {said}. Name one as the source's 'warehouse'")
    if code == 904:
        return SchemaMismatch(f"{named}: {said}")
    return SourceError(f"{named}: {said}")


_ADDRESS = re.compile(r"(https?://)(?:[^/\s\"'()<>?@]*@)?([^/\s\"'()<>?]+)[^\s\"'()<>]*")
_SIGNED = re.compile(
    r"(?i)\b(x-amz-[a-z-]+|signature|sig|token|password|passcode|private_key|qrmk|sse-c[a-z-]*)\b([\"']?\s*[=:]\s*)\S+"
)


def scrubbed(text: str) -> str:
    """Return ``text`` with every address cut down to its host and every value of a key left out.

    >>> scrubbed("error sending request for url (https://b.s3.amazonaws.com/x/1?X-Amz-Signature=abc): token=12")
    'error sending request for url (https://b.s3.amazonaws.com): token=…'
    """
    return _SIGNED.sub(r"\1\2…", _ADDRESS.sub(r"\1\2", text)).strip()
