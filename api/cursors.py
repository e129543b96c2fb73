"""Cursors: what names the next page of an answer, opaque to callers and of use to the one who got it.

A cursor holds the version that its pages are of, when the first of them was asked for, and where the next one begins,
and a MAC over these, the caller and the question: so nobody reads a version by it that was not served to them, or goes
on with another's. The key is derived from the store's, which all servers have. Where nobody has to say who they are,
whoever reaches the server may read the store, and nothing is secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from api.identity.access import Access
from api.models.requests import FIRST_PAGE, PagedBody
from retrieval.policies import Caller
from retrieval.request import Page
from retrieval.version import OpenVersion

_NO_KEY = b"whoever asks"
_MAC_BYTES = 16


class Cursor(BaseModel):
    """Where a page begins: in the catalog's ``version``, whose commit is ``commit``.

    ``began`` is when the first page was asked for, in seconds since 1970. Where the page begins at an ``offset``,
    ``sight`` says of which rows (:func:`sight_digest`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    commit: str
    began: float
    offset: int = 0
    after: str | None = None
    sight: str | None = None

    @property
    def page(self) -> Page:
        """The page."""
        return Page(offset=self.offset, after=self.after)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pages:
    """The pages of one caller's question about one collection; ``cursor`` is where one begins that is not the first."""

    seal: bytes
    began: float
    cursor: Cursor | None

    @classmethod
    def asked_for(cls, body: PagedBody, name: str, access: Access, now: float) -> Pages | None:
        """Return the pages that ``body`` asks for at ``now``; None if it asks for none.

        Raises ValueError for a cursor that is not one of this caller's and this question's.
        """
        if body.cursor is None:
            return None
        seal = _seal(body, name, access)
        if body.cursor == FIRST_PAGE:
            return cls(seal=seal, began=now, cursor=None)
        cursor = _read(body.cursor, seal)
        return cls(seal=seal, began=cursor.began, cursor=cursor)

    @property
    def page(self) -> Page:
        """The page that is asked for."""
        return Page() if self.cursor is None else self.cursor.page

    @property
    def now(self) -> datetime:
        """The time that the question goes by on every page."""
        return datetime.fromtimestamp(self.began, UTC)

    def next(self, version: int, commit: str, page: Page, sight: str | None) -> str:
        """Return the cursor of ``page``."""
        cursor = Cursor(
            version=version, commit=commit, began=self.began, offset=page.offset, after=page.after, sight=sight
        )
        data = cursor.model_dump_json(exclude_defaults=True).encode()
        return base64.urlsafe_b64encode(_mac(self.seal, data) + data).decode().rstrip("=")


def sight_digest(version: OpenVersion, caller: Caller) -> str:
    """Return what tells the rows that ``caller`` sees of ``version`` from those under other policies or claims."""
    seen = [version.policies_digest, sorted(caller.roles), dict(caller.claims), caller.unrestricted]
    return hashlib.sha256(json.dumps(seen, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _read(text: str, seal: bytes) -> Cursor:
    sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    mac, data = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(seal, data)):
        raise ValueError("the cursor is another's")
    try:
        return Cursor.model_validate_json(data)
    except ValidationError as error:
        raise ValueError("the cursor is of another release") from error


def _seal(body: PagedBody, name: str, access: Access) -> bytes:
    """Return the key of the MACs of one question's cursors."""
    asked = [name, access.principal.id, body.question]
    key = access.caller.hash_key or _NO_KEY
    return hmac.digest(key, b"cursor:" + json.dumps(asked, sort_keys=True).encode(), hashlib.sha256)


def _mac(seal: bytes, data: bytes) -> bytes:
    return hmac.digest(seal, data, hashlib.sha256)[:_MAC_BYTES]
