"""The store's keys and roles, in the folder ``_control``: every change is a version of its own, numbered and kept.

``_control/<n>.json`` holds all keys and roles as of change *n*, and who made it. A change is made by creating the file
of the next number, by put-if-absent, so that of two at once one is made over the other and none is lost. Readers look
for the next number.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError
from pydantic_core import PydanticSerializationError

from api.errors import ControlError
from indexer.author import author
from indexer.errors import StoreError
from indexer.format.store import Store
from indexer.spec import RoleName

FOLDER = "_control"
EVERY_COLLECTION = "*"
_NUMBERED = re.compile(rf"{FOLDER}/(\d{{20}})\.json")

Action = Literal["search", "sql", "read", "monitor", "admin"]
"""``search``: searching. ``sql``: SELECT statements. ``read``: rows by their key. ``monitor``: counts, freshness and
metrics. ``admin``: all of these, and the spec with its policies. Policies apply to every one of them."""

Text = Annotated[str, Strict()]
Whole = Annotated[int, Strict()]
Truth = Annotated[bool, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Claim = Truth | Whole | Number | Text | list[Truth] | list[Whole] | list[Number] | list[Text]
"""What a policy can ask for: a value that a filter can bind."""

MAX_KEYS = 10_000
"""Every server parses all of them with each change, in a third of a second; more callers than these have tokens."""
KEPT_AFTER = timedelta(days=90)
"""For so long a key that opens nothing any more is still listed."""
RELIST_SECONDS = 5.0
"""How often the whole folder is looked at: changes whose predecessor somebody deleted are not met by counting on."""


def _pattern(name: str) -> str:
    if not re.fullmatch(r"[a-z*][a-z0-9_*-]{0,62}", name):
        raise ValueError("use a collection's name, or a pattern of one with '*'")
    return name


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Grant(_Record):
    """``actions`` on ``collection``: its name, or a pattern in which ``*`` is any text."""

    collection: Annotated[str, AfterValidator(_pattern)]
    actions: tuple[Action, ...] = Field(min_length=1)

    @cached_property
    def _matching(self) -> re.Pattern[str]:
        return re.compile(".*".join(map(re.escape, self.collection.split("*"))))

    def gives(self, action: Action, collection: str) -> bool:
        """Say whether the grant lets its holder do ``action`` on ``collection``."""
        return (action in self.actions or "admin" in self.actions) and self.covers(collection)

    def covers(self, collection: str) -> bool:
        """Say whether the grant is about ``collection``; only ``*`` is about all of them together."""
        if "*" not in self.collection or collection == EVERY_COLLECTION:
            return self.collection == collection
        return self._matching.fullmatch(collection) is not None


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

    @property
    def over_at(self) -> datetime | None:
        """From when on the key opens nothing; None if it works until somebody revokes it."""
        return min(filter(None, (self.revoked_at, self.expires_at)), default=None)

    def works(self, now: datetime) -> bool:
        """Say whether the key opens anything at ``now``."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Control(_Record):
    """All keys and roles as of change ``version``; ``change`` says what it was."""

    version: int = 0
    changed_at: datetime | None = None
    changed_by: str = ""
    change: str = ""
    hash_key: str = Field(default_factory=lambda: secrets.token_hex(32), pattern="^[0-9a-f]{64}$", repr=False)
    roles: dict[RoleName, tuple[Grant, ...]] = {}
    keys: dict[str, ApiKey] = {}

    @property
    def hash_bytes(self) -> bytes:
        """The key of the hashes that stand for masked values."""
        return bytes.fromhex(self.hash_key)

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
        self._listed_at = -math.inf

    def read(self) -> Control | None:
        """Return the newest version; None where no key or role was ever made.

        Made for polling: two look-ups when nothing is new. Raises :class:`api.errors.ControlError`.
        """
        try:
            if self._newest is None or time.monotonic() - self._listed_at >= RELIST_SECONDS:
                self._look_at_all()
            while self._newest is not None and self._store.exists(_path(self._newest.version + 1)):
                self._newest = self._version(self._newest.version + 1)
            # A folder that is away looks like one that is empty.
            if self._newest is not None and not self._store.exists(_path(self._newest.version)):
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
            self._listed_at = -math.inf
            seen = self.read() or Control()
            record = {
                "version": seen.version + 1,
                "changed_at": datetime.now(UTC),
                "changed_by": author(),
                "change": what,
            }
            new = Control.model_validate(seen.model_dump() | record | dict(make(seen)))
            if self._put(new):
                self._newest = new
                return new

    def _put(self, new: Control) -> bool:
        """Write a version, and say whether it was written; nothing is that would not come back as it is."""
        try:
            data = new.model_dump_json().encode()
            if Control.model_validate_json(data) != new:
                raise ControlError("the change cannot be written as it is; nothing was changed")
            return self._store.put_new(_path(new.version), data)
        except PydanticSerializationError as error:
            raise ControlError(f"the change cannot be written as it is; nothing was changed: {error}") from error
        except StoreError as error:
            raise ControlError(f"the change could not be written; look whether it was made: {error}") from error

    def _look_at_all(self) -> None:
        """Take the newest version there is, if it is newer than the one that is known."""
        numbers = [int(match[1]) for match in map(_NUMBERED.fullmatch, self._store.list(FOLDER)) if match]
        known = self._newest.version if self._newest else 0
        if max(numbers, default=0) > known:
            self._newest = self._version(max(numbers))
        self._listed_at = time.monotonic()

    def _version(self, version: int) -> Control:
        try:
            control = Control.model_validate_json(self._store.get(_path(version)))
        except ValidationError as error:
            raise ControlError(
                f"{_path(version)} in {self._store.url} is not what Grebe writes, so nobody is let in; a newer version "
                "of Grebe may have written it"
            ) from error
        if control.version != version:
            raise ControlError(f"{_path(version)} in {self._store.url} is a copy of version {control.version}")
        return control


def _path(version: int) -> str:
    return f"{FOLDER}/{version:020d}.json"
