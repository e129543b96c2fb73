"""Which issuers can be configured."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from api.identity.issuers import IssuerSettings

PLAIN: dict[str, Any] = {"issuer": "https://idp", "audience": "grebe", "jwks": "https://idp/keys"}


def test_only_what_cannot_be_guessed_must_be_given() -> None:
    settings = IssuerSettings(**PLAIN)

    assert (settings.algorithms, settings.roles_claim, settings.leeway_seconds) == (("RS256",), "roles", 30)
    assert settings.audiences == {"grebe"}
    assert IssuerSettings(**PLAIN | {"audience": ["a", "b"]}).audiences == {"a", "b"}


@pytest.mark.parametrize(
    "jwks", ["https://idp/keys?p=1", "http://localhost:1/k", "http://127.0.0.1/k", "http://[::1]:8/k", "keys.json"]
)
def test_keys_come_from_https_from_this_machine_or_from_a_file(jwks: str) -> None:
    assert IssuerSettings(**PLAIN | {"jwks": jwks}).jwks == jwks


@pytest.mark.parametrize(
    "jwks", ["http://idp/keys", "ftp://idp/keys", "file:///keys", "https://", "http://127.0.0.1.a/"]
)
def test_keys_that_others_could_change_on_their_way_are_refused(jwks: str) -> None:
    with pytest.raises(ValidationError, match="is neither an https:// address nor the path of a file"):
        IssuerSettings(**PLAIN | {"jwks": jwks})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"jwks": "https://user:secret@idp/keys"}, "without a user's name and password"),
        ({"jwks": ""}, "at least 1 character"),
        ({"algorithms": []}, "at least 1 item"),
        ({"algorithms": ["none"]}, "Input should be 'RS256'"),
        ({"algorithms": ["RS256", "HS256"]}, "Input should be 'RS256'"),
        ({"audience": ""}, "at least 1 character"),
        ({"audience": []}, "at least 1 item"),
        ({"audience": None}, "valid string"),
        ({"leeway_seconds": 301}, "less than or equal to 300"),
        ({"leeway_seconds": -1}, "greater than or equal to 0"),
        ({"leeway_seconds": float("nan")}, "less than or equal to 300"),
        ({"keys": 1}, "Extra inputs"),
    ],
)
def test_a_wrong_setting_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        IssuerSettings(**PLAIN | given)
