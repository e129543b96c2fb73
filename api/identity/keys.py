"""API keys: ``grebe_<id>_<secret>``, the secret 256 random bits, of which only the SHA-256 of the whole key is kept."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256

from api.identity.control import ApiKey, Claim, Control

PREFIX = "grebe_"
_KEY = re.compile(r"grebe_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODYS = sha256(secrets.token_bytes(32)).hexdigest()
"""What the key of an id that nobody has is compared with, so that it takes as long as one that somebody has."""


def is_key(token: str) -> bool:
    """Say whether ``token`` is meant to be an API key.

    >>> is_key("grebe_0123456789ab_" + 43 * "x"), is_key("eyJhbGciOi.x.y")
    (True, False)
    """
    return token.startswith(PREFIX)


def id_of(token: str) -> str | None:
    """Return the id that ``token`` names, whether there is such a key or not; None if it is no whole key.

    >>> id_of("grebe_0123456789ab_" + 43 * "x"), id_of("grebe_0123456789ab_x")
    ('0123456789ab', None)
    """
    match = _KEY.fullmatch(token)
    return match[1] if match else None


def credentials_named(authorization: Sequence[str]) -> dict[str, str]:
    """Return the id of the key that was sent, for the audit log: it says whose key was refused."""
    ids = [id_ for header in authorization if (id_ := id_of(header.rpartition(" ")[2]))]
    return {"key_id": ids[0]} if ids else {}


def new_key(
    name: str,
    roles: tuple[str, ...],
    claims: Mapping[str, Claim],
    *,
    created_at: datetime,
    expires_at: datetime | None,
) -> tuple[str, ApiKey]:
    """Return a new key, to be shown once, and what is kept of it."""
    id_ = secrets.token_hex(6)
    key = f"grebe_{id_}_{secrets.token_urlsafe(32)}"
    kept = ApiKey(
        id=id_,
        name=name,
        sha256=sha256(key.encode()).hexdigest(),
        roles=roles,
        claims=dict(claims),
        created_at=created_at,
        expires_at=expires_at,
    )
    return key, kept


def holder_of(key: str, control: Control, now: datetime) -> ApiKey | None:
    """Return what ``control`` keeps of ``key``, or None if it opens nothing at ``now``; compared in constant time."""
    kept = control.keys.get(id_of(key) or "")
    same = secrets.compare_digest(sha256(key.encode()).hexdigest(), kept.sha256 if kept else _NOBODYS)
    return kept if kept and same and kept.works(now) else None
