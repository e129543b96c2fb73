"""Identity: from a request's credentials to what it may do, by the store's keys and roles as they are now."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from api.errors import TokenRefused
from api.identity.access import NOBODY_IN_PARTICULAR, Access, Principal
from api.identity.control import ApiKey, Control, ControlTable
from api.identity.keys import holder_of, id_of, is_key
from api.identity.tokens import Tokens
from api.logs import Logger
from api.problems import IDENTITY_UNAVAILABLE, RETRY_AFTER, UNAUTHENTICATED, Problem
from api.settings import IdentitySettings
from indexer.format.store import Store
from retrieval.policies import Caller

POLL_SECONDS = 0.5
"""A revocation holds everywhere within two seconds: this, the look-up and the requests under way fit into them."""
STOP_SECONDS = 10.0

KEY_PREFIX = "key:"

_NO_ROLES = Control()
_MISSING = {"WWW-Authenticate": 'Bearer realm="grebe"'}
_REFUSED = {"WWW-Authenticate": 'Bearer realm="grebe", error="invalid_token"'}


class Identity:
    """Reads the keys and roles of ``store`` again and again between :meth:`start` and :meth:`stop`.

    It is configured once the store has had a key, and where the settings require it or name issuers of tokens. Else
    everybody is :data:`api.identity.access.ANONYMOUS` and may do everything: the server is to be reached from its own
    machine only.
    """

    def __init__(self, store: Store, settings: IdentitySettings, *, log: Logger) -> None:
        self._table = ControlTable(store)
        self._required = settings.names_callers
        self._trust_seconds = settings.trust_seconds
        self._log = log
        self._tokens = Tokens(settings.issuers, report=self._report)
        self._control: Control | None = None
        self._read_at: float | None = None
        self._failing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="identity", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._tokens.start()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._tokens.stop()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def is_fresh(self) -> bool:
        """Whether the keys and roles were read lately enough to let anybody in."""
        return self._read_at is not None and time.monotonic() - self._read_at <= self._trust_seconds

    @property
    def is_configured(self) -> bool:
        """Whether a caller has to say who it is; that is not known before the keys and roles were read once."""
        return self._required or self._read_at is None or bool(self._control and self._control.keys)

    def read(self) -> None:
        """Read the keys and roles now; raises :class:`api.errors.ControlError`."""
        asked_at = time.monotonic()
        self._control = self._table.read()
        self._read_at = asked_at

    async def access_of(self, authorization: Sequence[str]) -> Access:
        """Return what a request with these Authorization headers may do; raises the 401, or the 503 of what is old."""
        self._require_fresh()
        if not self.is_configured:
            if any(is_key(sent.partition(" ")[2].strip()) for sent in authorization):
                raise _refused("the key is not known, or not yet: one that was just made works within two seconds")
            return NOBODY_IN_PARTICULAR
        principal = await self._principal(authorization)
        return Access(principal=principal, control=self._roles)

    def renewed(self, access: Access) -> Access:
        """Return what the caller of ``access`` may do now, which may be less; raises as :meth:`access_of` does.

        For a request that has waited: the key may have been revoked meanwhile, and the roles be others.
        """
        self._require_fresh()
        principal = access.principal
        if principal.kind == "anonymous":
            if self.is_configured:
                raise _anonymous()
            return access
        if principal.kind == "key":
            principal = self._holder(self._roles.keys.get(principal.id.removeprefix(KEY_PREFIX)))
        return Access(principal=principal, control=self._roles)

    @property
    def _roles(self) -> Control:
        return self._control or _NO_ROLES

    def _require_fresh(self) -> None:
        if not self.is_fresh:
            raise Problem(IDENTITY_UNAVAILABLE, "the keys and roles could not be read", headers=RETRY_AFTER)

    async def _principal(self, authorization: Sequence[str]) -> Principal:
        scheme, _, rest = (authorization[0] if len(authorization) == 1 else "").partition(" ")
        token = rest.strip()
        if scheme.lower() != "bearer" or not token:
            raise _anonymous() if len(authorization) < 2 else _refused("the request has several Authorization headers")
        if is_key(token):
            if id_of(token) is None:
                raise _refused("that is not a whole API key; copy it again")
            return self._holder(holder_of(token, self._roles, datetime.now(UTC)))
        if "." not in token:
            raise _refused("that is neither an API key, which begins with grebe_, nor a token of an issuer")
        try:
            verified = await self._tokens.verify(token)
        except TokenRefused as error:
            raise _refused(str(error)) from error
        caller = Caller(roles=verified.roles, claims=verified.claims, hash_key=self._roles.hash_bytes)
        return Principal(
            kind="token", id=f"token:{verified.issuer}#{verified.subject}", name=verified.subject, caller=caller
        )

    def _holder(self, key: ApiKey | None) -> Principal:
        if key is None or not key.works(datetime.now(UTC)):
            raise _refused("the key is not known, has expired or was revoked")
        caller = Caller(roles=frozenset(key.roles), claims=key.claims, hash_key=self._roles.hash_bytes)
        return Principal(kind="key", id=f"{KEY_PREFIX}{key.id}", name=key.name, caller=caller)

    def _report(self, issuer: str, error: Exception) -> None:
        self._log.error("an issuer's keys cannot be read", issuer=issuer, exc_info=error)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.read()
                self._failing = False
            except Exception as error:  # whatever it is: what was known grows old, and is looked for again
                if not self._failing:  # once for each time that the store is away
                    self._log.error("keys and roles cannot be read", exc_info=error)
                self._failing = True
            self._stopping.wait(POLL_SECONDS)


def _anonymous() -> Problem:
    return Problem(
        UNAUTHENTICATED,
        "the request has no bearer credentials: send 'Authorization: Bearer KEY'",
        headers=_MISSING,
        denied=True,
    )


def _refused(detail: str) -> Problem:
    return Problem(UNAUTHENTICATED, detail, headers=_REFUSED, denied=True)
