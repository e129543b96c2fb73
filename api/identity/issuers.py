"""An issuer whose bearer tokens are taken, as it is configured."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.hosts import is_loopback

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures that only the issuer can make: `none` and HS*, whose key is shared, cannot be configured."""

Name = Annotated[str, Field(min_length=1)]

DEFAULT_LEEWAY_SECONDS = 30.0
"""How far two clocks that are set by NTP may reasonably be apart."""


def key_source(jwks: str) -> str:
    """Return ``jwks`` if keys may be read from there; ValueError says why not.

    >>> key_source("https://login.example.com/keys"), key_source("/etc/grebe/keys.json")
    ('https://login.example.com/keys', '/etc/grebe/keys.json')
    """
    if not is_url(jwks):
        return jwks
    parts = urlsplit(jwks)
    if parts.username is not None:
        raise ValueError("expected an address without a user's name and password: an issuer's keys are public")
    if parts.scheme == "https" and parts.hostname:
        return jwks
    if parts.scheme == "http" and is_loopback(parts.hostname or ""):
        return jwks
    raise ValueError(
        f"'{jwks}' is neither an https:// address nor the path of a file (http:// is for loopback addresses only: "
        "whoever can change the keys on their way can sign as anybody)"
    )


def is_url(jwks: str) -> bool:
    """Return whether ``jwks`` is an address and not a path."""
    return "://" in jwks


class IssuerSettings(BaseModel):
    """An issuer of bearer tokens (JWTs): which of its tokens are taken, and where its keys are.

    A token's ``iss`` must be ``issuer``, letter by letter, and one of its ``aud`` one of ``audience``. ``jwks`` is the
    address or the file of the issuer's JSON Web Key Set. ``roles_claim`` is the claim that lists the caller's roles:
    its name or, inside nested claims, its dotted path. Times may be off by ``leeway_seconds``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: Name
    audience: Name | Annotated[tuple[Name, ...], Field(min_length=1)]
    jwks: Annotated[Name, AfterValidator(key_source)]
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256",)
    roles_claim: Name = "roles"
    leeway_seconds: float = Field(default=DEFAULT_LEEWAY_SECONDS, ge=0, le=300)

    @property
    def audiences(self) -> frozenset[str]:
        """The audiences of which a token must name one."""
        return frozenset([self.audience] if isinstance(self.audience, str) else self.audience)
