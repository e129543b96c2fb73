"""Masks: what stands in an answer for a value that its caller may not see."""

from __future__ import annotations

import hmac
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256

from indexer.spec import Mask


def masked(value: object, mask: Mask, key: bytes | None) -> str | None:
    """Return ``value`` behind ``mask``: nothing, or its HMAC-SHA256 (64 hex digits) under ``key``.

    Equal values have equal hashes in every column and collection, numbers whatever their type, so that masked columns
    can still be joined. NULL stays NULL. Without a key there is no hash that could not be guessed by trying values, so
    nothing is shown.

    >>> masked("rome", "redact", b"k") is None
    True
    >>> masked(7, "hash", b"k") == masked(Decimal("7.00"), "hash", b"k") != masked("7", "hash", b"k")
    True
    """
    if mask == "redact" or key is None or value is None:
        return None
    return hmac.new(key, canonical(value).encode(errors="surrogatepass"), sha256).hexdigest()


def canonical(value: object) -> str:
    """Return one text for all values that are equal, and different ones for others.

    >>> [canonical(value) for value in (True, 1, 1.0, -0.0, 0.1, "1", b"1", [1, None])]
    ['bool:True', 'number:1', 'number:1', 'number:0', 'number:0.1', 'str:1', 'bytes:31', 'list:[8:number:1,5:null:]']
    """
    match value:
        case None:
            return "null:"
        case bool():
            return f"bool:{value}"
        case int() | float() | Decimal():
            return f"number:{_number(Decimal(repr(value)) if isinstance(value, float) else Decimal(value))}"
        case bytes():
            return f"bytes:{value.hex()}"
        case datetime():
            return (
                f"datetime:{(value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)).isoformat()}"
            )
        case date():
            return f"date:{value.isoformat()}"
        case list():
            return f"list:[{','.join(f'{len(part)}:{part}' for part in map(canonical, value))}]"
        case _:
            return f"{type(value).__name__}:{value!s}"


def _number(value: Decimal) -> str:
    if not value.is_finite():
        return str(value)
    return format(value.normalize(), "f") if value else "0"
