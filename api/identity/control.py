"""The store's keys and roles, in the folder ``_control``: every change is a version of its own, numbered and kept.

``_control/<n>.json`` holds all keys and roles as of change *n*, and who made it. A change is made by creating the file
of the next number, by put-if-absent, so that of two at once one is made over the other and none is lost. Readers look
for the next number.
"""

from __future__ import annotations

import getpass
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from api.errors import ControlError
from indexer.errors import StoreError
from indexer.format.store import Store

FOLDER = "_control"
EVERY_COLLECTION = "*"
_NUMBERED = re.compile(rf"{FOLDER}/(\d{{20}})\.json")

Action = Literal["search", "read", "monitor", "admin"]
"""``search``: searching. ``read``: rows by their key. ``monitor``: counts, freshness and metrics. ``admin``: all of
these, and the spec with its policies. Policies apply to every one of them."""

Claim = str | int | float | bool | list[str] | list[int] | list[float]


def _role_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}", name):
        raise ValueError("use a letter or digit, then up to 127 of letters, digits and ._:@/-")
    return name


RoleName = Annotated[str, AfterValidator(_role_name)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Grant(_Record):
    """``actions`` on ``collection``: its name, or a pattern with ``*``."""

    collection: str = Field(min_length=1)
    actions: tuple[Action, ...] = Field(min_length=1)

    def gives(self, action: Action, collection: str) -> bool:
        """Say whether the grant lets its holder do ``action`` on ``collection``."""
        return (action in self.actions or "admin" in self.actions) and self.covers(collection)

    def covers(self, collection: str) -> bool:
        """Say whether the grant is about ``collection``; only ``*`` is about all of them together."""
        if collection == EVERY_COLLECTION:
            return self.collection == EVERY_COLLECTION
        return re.fullmatch(".*".join(map(re.escape, self.collection.split("*"))), collection) is not None


class ApiKey(_Record):
    """A key as it is kept: its hash, and what its holder is. The key itself was shown once."""

    id: str
    name: str = Field(min_length=1, max_length=200)
    sha256: str = Field(repr=False)
    roles: tuple[RoleName, ...] = Field(min_length=1)
    claims: dict[str, Claim] = {}
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def works(self, now: datetime) -> bool:
        """Say whether the key opens anything at ``now``."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Control(_Record):
    """All keys and roles as of change ``version``; ``change`` says what it was."""

    version: int = 0
    changed_at: datetime | None = None
    changed_by: str = ""
    change: str = ""
    hash_key: str = Field(default_factory=lambda: secrets.token_hex(32), repr=False)
    roles: dict[RoleName, tuple[Grant, ...]] = {}
    keys: dict[str, ApiKey] = {}

    def gives(self, roles: Iterable[str], action: Action, collection: str) -> bool:
        """Say whether any of ``roles`` lets its holder do ``action`` on ``collection``."""
        return any(grant.gives(action, collection) for role in roles for grant in self.roles.get(role, ()))

    def covers(self, roles: Iterable[str], collection: str) -> bool:
        """Say whether any of ``roles`` lets its holder do anything on ``collection``."""
        return any(grant.covers(collection) for role in roles for grant in self.roles.get(role, ()))


class ControlTable:
    """The ``_control`` folder of the store at its root ``store``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._newest: Control | None = None

    def read(self) -> Control | None:
        """Return the newest version; None where no key or role was ever made.

        Made for polling: two look-ups when nothing is new. Raises :class:`api.errors.ControlError`.
        """
        try:
            if self._newest is None:
                self._newest = self._listed() if self._store.exists(_path(1)) else None
                return self._newest
            while self._store.exists(_path(self._newest.version + 1)):
                self._newest = self._version(self._newest.version + 1)
            if not self._store.exists(
                _path(self._newest.version)
            ):  # a folder that is away looks like one that is empty
                raise ControlError("the store's keys and roles are not there any more")
        except StoreError as error:
            raise ControlError(f"the store's keys and roles cannot be read: {error}") from error
        return self._newest

    def change(self, what: str, make: Callable[[Control], Mapping[str, object]]) -> Control:
        """Put in place what ``make`` changes about the newest version, and return it.

        ``make`` is called again when somebody else's change came first. Raises :class:`api.errors.ControlError`, and
        whatever ``make`` does.
        """
        while True:
            seen = self.read() or Control()
            record = {
                "version": seen.version + 1,
                "changed_at": datetime.now(UTC),
                "changed_by": f"{getpass.getuser()}@{socket.gethostname()}",
                "change": what,
            }
            new = Control.model_validate(seen.model_dump() | record | dict(make(seen)))
            try:
                if self._store.put_new(_path(new.version), new.model_dump_json().encode()):
                    self._newest = new
                    return new
            except StoreError as error:
                raise ControlError(f"the change could not be written; look whether it was made: {error}") from error

    def _listed(self) -> Control:
        return self._version(
            max(int(match[1]) for path in self._store.list(FOLDER) if (match := _NUMBERED.fullmatch(path)))
        )

    def _version(self, version: int) -> Control:
        try:
            return Control.model_validate_json(self._store.get(_path(version)))
        except ValidationError as error:
            raise ControlError(
                f"{_path(version)} in {self._store.url} is not what Grebe writes, so nobody is let in; a newer version "
                "of Grebe may have written it"
            ) from error


def _path(version: int) -> str:
    return f"{FOLDER}/{version:020d}.json"
