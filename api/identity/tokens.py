"""Bearer tokens: signed JWTs (RFC 7519) of the configured issuers.

What a token says of itself chooses its issuer and nothing more: the algorithm must be one that is configured for that
issuer, and the key is looked up among the issuer's own. Addresses and keys in the header are not looked at.

What was verified is not remembered: it takes 0.1 ms (RS256) to 0.2 ms (EdDSA), where the smallest search takes 2 ms.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwa import JWS_ALGORITHMS
from joserfc.jwk import Key
from joserfc.util import urlsafe_b64decode

from api.errors import SettingsError, TokenRefused
from api.identity.issuers import IssuerSettings
from api.identity.jwks import KeySet, Report

MAX_TOKEN_CHARS = 16 * 1024
"""Twice what common servers take as a header."""

MAX_BOUND_INT = 2**63 - 1

_ALGORITHMS = {algorithm.name: algorithm for algorithm in JWS_ALGORITHMS}
# Used as they are: joserfc's registry warns at each EdDSA, and limits headers to 512 characters.


@dataclass(frozen=True, kw_only=True)
class VerifiedToken:
    """What a token says whose signature, issuer, audience and times are right.

    ``claims`` holds those that a filter can bind: text, numbers, booleans and lists of them.
    """

    issuer: str
    subject: str
    roles: frozenset[str]
    claims: Mapping[str, object]


class Tokens:
    """Verifies the tokens of ``issuers``, whose keys threads keep fresh between :meth:`start` and :meth:`stop`.

    ``report`` is called with the issuer and the error when its keys begin to be out of reach. ``now`` is the time that
    tokens are held against, ``monotonic`` the one that limits how often keys are asked for, both in seconds. Raises
    :class:`api.errors.SettingsError` if an issuer is configured twice.
    """

    def __init__(
        self,
        issuers: Iterable[IssuerSettings],
        *,
        report: Report,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._trusted: dict[str, tuple[IssuerSettings, KeySet]] = {}
        for settings in issuers:
            if settings.issuer in self._trusted:
                raise SettingsError(f"the issuer '{settings.issuer}' is configured twice; give its audiences as a list")
            self._trusted[settings.issuer] = settings, KeySet(settings, report=report, monotonic=monotonic)

    def start(self) -> None:
        """Begin to read the issuers' keys."""
        for _, keys in self._trusted.values():
            keys.start()

    def stop(self) -> None:
        """Read no more keys; those known stay."""
        for _, keys in self._trusted.values():
            keys.stop()

    async def verify(self, token: str) -> VerifiedToken:
        """Return what ``token`` says, or raise :class:`api.errors.TokenRefused`.

        One whose key is unknown waits up to two seconds for the issuer's keys to be read anew.
        """
        parsed = _Parsed.of(token)
        issuer = parsed.claims.get("iss")
        if not isinstance(issuer, str) or issuer not in self._trusted:
            raise TokenRefused("the token's issuer is not one that this server trusts")
        settings, keys = self._trusted[issuer]
        algorithm = parsed.header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in settings.algorithms:
            raise TokenRefused("the token's algorithm is not one that is configured for its issuer")
        parsed.check_signature(algorithm, await _key(keys, parsed.header.get("kid")))
        _check_audience(parsed.claims, settings.audiences)
        _check_times(parsed.claims, self._now(), settings.leeway_seconds)
        return VerifiedToken(
            issuer=issuer,
            subject=_subject(parsed.claims),
            roles=roles_of(parsed.claims, settings.roles_claim),
            claims=MappingProxyType({name: value for name, value in parsed.claims.items() if _is_bindable(value)}),
        )


@dataclass(frozen=True, kw_only=True)
class _Parsed:
    """A token taken apart; nothing of it is verified yet."""

    header: Mapping[str, object]
    claims: Mapping[str, object]
    signed: bytes
    signature: bytes

    @classmethod
    def of(cls, token: str) -> _Parsed:
        if len(token) > MAX_TOKEN_CHARS:
            raise TokenRefused(f"the token is longer than {MAX_TOKEN_CHARS} characters")
        parts = token.split(".")
        if len(parts) == 5:
            raise TokenRefused("the token is encrypted; expected one that is signed only")
        try:
            header, claims, signature = (part.encode("ascii") for part in parts)
            parsed = cls(
                header=_object(header),
                claims=_object(claims),
                signed=b".".join((header, claims)),
                signature=urlsafe_b64decode(signature),
            )
        except (ValueError, RecursionError) as error:
            raise TokenRefused("the token is malformed; expected a signed JWT in its compact form") from error
        if "crit" in parsed.header:
            raise TokenRefused("the token demands an extension (`crit`); none is known here")
        return parsed

    def check_signature(self, algorithm: str, key: Key) -> None:
        verifier = _ALGORITHMS[algorithm]
        try:
            verifier.check_key(key)
        except JoseError as error:
            raise TokenRefused("the token's algorithm does not fit its key") from error
        if not verifier.verify(self.signed, self.signature, key):
            raise TokenRefused("the token's signature is wrong")


def _object(part: bytes) -> dict[str, object]:
    """Return the JSON object that ``part`` encodes.

    ValueError for anything that two readers could read differently: a name that stands twice, a number that JSON does
    not know or that is too large, and text that is no Unicode.
    """
    text = urlsafe_b64decode(part).decode("utf-8")
    found = _JSON.decode(text)
    if not isinstance(found, dict):
        raise ValueError("expected an object")
    if "\\u" in text:  # half of a surrogate pair can come by an escape only
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if abs(number) < float("inf"):
        return number
    raise ValueError("expected a finite number")


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)


async def _key(keys: KeySet, kid: object) -> Key:
    if kid is not None and not isinstance(kid, str):
        raise TokenRefused("the token is malformed; expected its `kid` to be text")
    key = keys.find(kid)
    if key is None:
        await keys.refreshed()
        key = keys.find(kid)
    if key is not None:
        return key
    if not keys.keys:
        raise TokenRefused("the keys of the token's issuer are out of reach at the moment; try again in a minute")
    raise TokenRefused("the token's key is not one that its issuer has published")


def _check_audience(claims: Mapping[str, object], audiences: frozenset[str]) -> None:
    named = claims.get("aud")
    if not any(name in audiences for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)):
        raise TokenRefused("the token is for another audience")


def _check_times(claims: Mapping[str, object], now: float, leeway_seconds: float) -> None:
    expires_at = _time(claims, "exp")
    if expires_at is None:
        raise TokenRefused("the token never expires; expected an `exp`")
    if expires_at + leeway_seconds <= now:
        raise TokenRefused("the token has expired")
    for name in ("nbf", "iat"):
        begins_at = _time(claims, name)
        if begins_at is not None and begins_at - leeway_seconds > now:
            raise TokenRefused(f"the token is not valid yet; its `{name}` lies in the future")


def _time(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > MAX_BOUND_INT:
        raise TokenRefused(f"the token is malformed; expected its `{name}` to be seconds since 1970")
    return float(value)


def _subject(claims: Mapping[str, object]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise TokenRefused("the token names nobody; expected a `sub`")
    return subject


def roles_of(claims: Mapping[str, object], name: str) -> frozenset[str]:
    """Return the roles that the claim ``name`` lists, as a list or separated by spaces; none if there is no such claim.

    The whole name is tried first, since a claim may be named by a URL, and then the dotted path:

    >>> sorted(roles_of({"realm_access": {"roles": ["editor", "reader"]}}, "realm_access.roles"))
    ['editor', 'reader']
    """
    value: Any = claims.get(name)
    if name not in claims:
        value = claims
        for step in name.split("."):
            value = value.get(step) if isinstance(value, dict) else None
    roles = value.split() if isinstance(value, str) else value
    return frozenset(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else frozenset()


def _is_bindable(value: object) -> bool:
    return all(map(_is_scalar, value)) if isinstance(value, list) else _is_scalar(value)


def _is_scalar(value: object) -> bool:
    """Return whether a filter knows such values; its integers have 64 bits."""
    return isinstance(value, str | float) or (isinstance(value, int) and abs(value) <= MAX_BOUND_INT)
