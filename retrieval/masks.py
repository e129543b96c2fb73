"""Masks: what stands in an answer for a value that its caller may not see."""

from __future__ import annotations

import hmac
from hashlib import sha256

from indexer.spec import Mask


def masked(value: object, mask: Mask, key: bytes | None) -> str | None:
    """Return ``value`` behind ``mask``: nothing, or its HMAC-SHA256 (64 hex digits) under ``key``.

    Equal values of one type have equal hashes in every column and collection, so that masked columns can still be
    joined. NULL stays NULL. Without a key there is no hash that could not be guessed by trying values, so nothing is
    shown.

    >>> masked("rome", "redact", b"k") is None
    True
    >>> masked(7, "hash", b"k") == masked(7, "hash", b"k") != masked("7", "hash", b"k")
    True
    """
    if mask == "redact" or key is None or value is None:
        return None
    return hmac.new(key, f"{type(value).__name__}:{value!s}".encode(), sha256).hexdigest()
