"""Tokens that are taken, and attacks that are not."""

from __future__ import annotations

import asyncio
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import RSAKey

from api.errors import SettingsError, TokenRefused
from api.identity.issuers import IssuerSettings
from api.identity.jwks import Report
from api.identity.tokens import MAX_TOKEN_CHARS, Tokens, VerifiedToken, roles_of
from tests.api.conftest import WAIT_SECONDS
from tests.api.identity.issuing import (
    ISSUER,
    NOW,
    Clock,
    KeyServer,
    Signer,
    claims_of,
    encoded,
    key_server,
    key_set,
    signed_part,
    signer,
)

OTHER_ISSUER = "https://other.example.com"
KEYS = [signer(kid) for kid in ("RS256", "PS256", "ES256", "ES384-key", "EdDSA")]
MALFORMED = "the token is malformed; expected a signed JWT in its compact form"
WRONG_ALGORITHM = "the token's algorithm is not one that is configured for its issuer"
UNFIT_ALGORITHM = "the token's algorithm does not fit its key"
WRONG_SIGNATURE = "the token's signature is wrong"
UNKNOWN_KEY = "the token's key is not one that its issuer has published"
OUT_OF_REACH = "the keys of the token's issuer are out of reach at the moment; try again in a minute"
WRONG_AUDIENCE = "the token is for another audience"
EXPIRED = "the token has expired"
NO_NAME = "the token names nobody; expected a `sub`"


def issuer_settings(jwks: object, **changed: Any) -> IssuerSettings:
    plain = {
        "issuer": ISSUER,
        "audience": ("grebe", "search"),
        "jwks": str(jwks),
        "algorithms": ("RS256", "PS256", "ES256", "EdDSA"),
    }
    return IssuerSettings.model_validate(plain | changed)


@contextmanager
def running(
    *issuers: IssuerSettings, report: Report = lambda *_: None, monotonic: Callable[[], float] | None = None
) -> Iterator[Tokens]:
    tokens = Tokens(issuers, report=report, now=lambda: NOW, monotonic=monotonic or Clock())
    tokens.start()
    yield tokens
    tokens.stop()


def verify(tokens: Tokens, token: str) -> VerifiedToken:
    return asyncio.run(tokens.verify(token))


def refusal(tokens: Tokens, token: str) -> str:
    with pytest.raises(TokenRefused) as error:
        verify(tokens, token)
    return str(error.value)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    """The tokens of two issuers with a file of keys each."""
    root = tmp_path_factory.mktemp("keys")
    (root / "one.json").write_bytes(key_set(*KEYS))
    (root / "other.json").write_bytes(key_set(signer("ES256-other")))
    one, other = issuer_settings(root / "one.json"), issuer_settings(root / "other.json", issuer=OTHER_ISSUER)
    with running(one, other) as tokens:
        yield tokens


@pytest.mark.parametrize("kid", ["RS256", "PS256", "ES256", "EdDSA"])
def test_a_token_of_a_configured_issuer_is_taken(tokens: Tokens, kid: str) -> None:
    claims = {"roles": ["reader"], "tenant": "acme", "level": 3, "share": 0.5, "staff": True, "teams": ["a", 1]}
    left_out = {"address": {"city": "Bern"}, "nothing": None, "nested": [["a"]], "huge": 2**70}

    found = verify(tokens, signer(kid).token(claims_of(**claims | left_out)))

    assert (found.issuer, found.subject, found.roles) == (ISSUER, "alice", frozenset({"reader"}))
    assert found.claims == claims_of(**claims)


def test_an_audience_of_several_is_enough(tokens: Tokens) -> None:
    assert verify(tokens, signer("ES256").token(claims_of(aud=["account", "search"]))).subject == "alice"


def test_clocks_may_be_off_by_the_leeway(tokens: Tokens) -> None:
    claims = claims_of(exp=NOW - 29, nbf=NOW + 30, iat=NOW + 30)

    assert verify(tokens, signer("ES256").token(claims)).subject == "alice"


def test_a_token_that_names_no_key_is_checked_by_the_only_one(tokens: Tokens) -> None:
    only = signer("ES256-other").token(claims_of(iss=OTHER_ISSUER), kid=None)

    assert verify(tokens, only).issuer == OTHER_ISSUER
    assert refusal(tokens, signer("ES256").token(kid=None)) == UNKNOWN_KEY


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("jwk", signer("ES256-thief").jwk),
        ("jku", "https://thief.example.com/keys"),
        ("x5u", "https://thief.example.com/certificate"),
        ("x5c", ["A" * 4000]),
        ("nonce", "unknown to us"),
        ("typ", "at+jwt"),
    ],
)
def test_other_headers_change_nothing(tokens: Tokens, header: str, value: Any) -> None:
    thief = Signer("ES256", "ES256", signer("ES256-thief").key)

    assert verify(tokens, signer("ES256").token(**{header: value})).subject == "alice"
    assert refusal(tokens, thief.token(**{header: value})) == WRONG_SIGNATURE


def test_an_address_in_the_header_is_never_asked(tokens: Tokens) -> None:
    thief = signer("ES256-thief")
    with key_server(thief) as server:
        assert refusal(tokens, thief.token(jku=server.url, x5u=server.url)) == UNKNOWN_KEY
    assert server.asked == []


def unsigned(algorithm: str, signature: str = "") -> str:
    return f"{signed_part({'alg': algorithm, 'kid': 'RS256'}, claims_of())}.{signature}"


def signed_with_the_public_key() -> str:
    public = signer("RS256").key
    assert isinstance(public, RSAKey)
    signed = signed_part({"alg": "HS256", "kid": "RS256"}, claims_of())
    return f"{signed}.{encoded(hmac.digest(public.as_pem(private=False), signed.encode(), 'sha256'))}"


def tampered(**changed: Any) -> str:
    header, _, signature = signer("RS256").token().split(".")
    return f"{header}.{encoded(json.dumps(claims_of(**changed)).encode())}.{signature}"


def and_claim(text: str) -> bytes:
    return f"{json.dumps(claims_of())[:-1]}, {text}}}".encode()


def mixed(header: str, claims: str, signature: str) -> str:
    return f"{header.split('.')[0]}.{claims.split('.')[1]}.{signature.split('.')[2]}"


TOKEN = signer("ES256").token()
ATTACKS: dict[str, tuple[str, str]] = {
    "alg none": (unsigned("none"), WRONG_ALGORITHM),
    "alg None": (unsigned("None"), WRONG_ALGORITHM),
    "alg none with a signature": (unsigned("none", "AAAA"), WRONG_ALGORITHM),
    "no alg": (signer("ES256").token(alg=None), WRONG_ALGORITHM),
    "alg a list": (signer("ES256").token(alg=["ES256"]), WRONG_ALGORITHM),
    "HS256 with the public key": (signed_with_the_public_key(), WRONG_ALGORITHM),
    "an algorithm not configured": (Signer("RS256", "RS512", signer("RS256").key).token(), WRONG_ALGORITHM),
    "ES256 and an RSA key": (signer("ES256").token(kid="RS256"), UNFIT_ALGORITHM),
    "RS256 and an EC key": (signer("RS256").token(kid="ES256"), UNFIT_ALGORITHM),
    "EdDSA and an EC key": (signer("EdDSA").token(kid="ES256"), UNFIT_ALGORITHM),
    "ES256 and a key of another curve": (signer("ES256").token(kid="ES384-key"), UNFIT_ALGORITHM),
    "PS256 of an RS256 signature": (signer("RS256").token(alg="PS256"), WRONG_SIGNATURE),
    "no signature": (TOKEN.rpartition(".")[0] + ".", WRONG_SIGNATURE),
    "no RS256 signature": (signer("RS256").token().rpartition(".")[0] + ".", WRONG_SIGNATURE),
    "a short EdDSA signature": (signer("EdDSA").token().rpartition(".")[0] + ".AAAA", WRONG_SIGNATURE),
    "an ES256 signature of zeros": (f"{TOKEN.rpartition('.')[0]}.{encoded(bytes(64))}", WRONG_SIGNATURE),
    "another token's signature": (mixed(TOKEN, TOKEN, signer("ES256").token(claims_of(sub="bob"))), WRONG_SIGNATURE),
    "a changed subject": (tampered(sub="admin"), WRONG_SIGNATURE),
    "a later expiry": (tampered(exp=NOW + 10**6), WRONG_SIGNATURE),
    "another issuer's key": (signer("ES256-other").token(), UNKNOWN_KEY),
    "another issuer's key under this one's id": (signer("ES256-other").token(kid="ES256"), WRONG_SIGNATURE),
    "another issuer's name": (signer("ES256").token(claims_of(iss=OTHER_ISSUER)), UNKNOWN_KEY),
    "a path as the key's id": (signer("ES256").token(kid="../../dev/null"), UNKNOWN_KEY),
    "a number as the key's id": (
        signer("ES256").token(kid=7),
        "the token is malformed; expected its `kid` to be text",
    ),
    "an extension": (
        signer("ES256").token(crit=["b64"], b64=False),
        "the token demands an extension (`crit`); none is known here",
    ),
    "five parts": (f"{TOKEN}.AA.AA", "the token is encrypted; expected one that is signed only"),
    "a giant": (TOKEN + "A" * MAX_TOKEN_CHARS, "the token is longer than 16384 characters"),
    "nothing": ("", MALFORMED),
    "two parts": (TOKEN.rpartition(".")[0], MALFORMED),
    "four parts": (f"{TOKEN}.", MALFORMED),
    "dots": ("..", MALFORMED),
    "garbage": ("ключ.🔑.\udc80", MALFORMED),
    "padding": (f"{TOKEN}=", MALFORMED),
    "a line's end": (f"{TOKEN}\n", MALFORMED),
    "a list for a header": (f"{encoded(b'[]')}.{TOKEN.partition('.')[2]}", MALFORMED),
    "a nested token": (signer("ES256").token(TOKEN.encode()), MALFORMED),
    "claims in UTF-16": (signer("ES256").token(json.dumps(claims_of()).encode("utf-16")), MALFORMED),
    "deep nesting": (signer("ES256").token(b"[" * 9000), MALFORMED),
    "a subject twice": (signer("ES256").token(and_claim('"sub": "admin"')), MALFORMED),
    "a nested name twice": (signer("ES256").token(and_claim('"x": {"a": 1, "a": 2}')), MALFORMED),
    "half a surrogate pair": (signer("ES256").token(claims_of(sub="\ud800")), MALFORMED),
    "an expiry of NaN": (signer("ES256").token(claims_of(exp=float("nan"))), MALFORMED),
    "an infinite expiry": (signer("ES256").token(claims_of(exp=float("inf"))), MALFORMED),
    "an expiry beyond floats": (
        signer("ES256").token(json.dumps(claims_of()).replace(str(NOW + 600), "1e999").encode()),
        MALFORMED,
    ),
    "an expiry of 400 digits": (
        signer("ES256").token(claims_of(exp=10**400)),
        "the token is malformed; expected its `exp` to be seconds since 1970",
    ),
    "an expiry in words": (
        signer("ES256").token(claims_of(exp="tomorrow")),
        "the token is malformed; expected its `exp` to be seconds since 1970",
    ),
    "true for an nbf": (
        signer("ES256").token(claims_of(nbf=True)),
        "the token is malformed; expected its `nbf` to be seconds since 1970",
    ),
    "no expiry": (signer("ES256").token(claims_of(exp=None)), "the token never expires; expected an `exp`"),
    "expired": (signer("ES256").token(claims_of(exp=NOW - 30)), EXPIRED),
    "not yet valid": (
        signer("ES256").token(claims_of(nbf=NOW + 31)),
        "the token is not valid yet; its `nbf` lies in the future",
    ),
    "issued tomorrow": (
        signer("ES256").token(claims_of(iat=NOW + 86_400)),
        "the token is not valid yet; its `iat` lies in the future",
    ),
    "an unknown issuer": (
        signer("ES256").token(claims_of(iss=ISSUER.rstrip("/"))),
        "the token's issuer is not one that this server trusts",
    ),
    "a list of issuers": (
        signer("ES256").token(claims_of(iss=[ISSUER])),
        "the token's issuer is not one that this server trusts",
    ),
    "another audience": (signer("ES256").token(claims_of(aud="grebe2")), WRONG_AUDIENCE),
    "a longer list of other audiences": (signer("ES256").token(claims_of(aud=["a", 1, ["grebe"]])), WRONG_AUDIENCE),
    "an audience that holds ours": (signer("ES256").token(claims_of(aud={"grebe": 1})), WRONG_AUDIENCE),
    "no audience": (signer("ES256").token(claims_of(aud=None)), WRONG_AUDIENCE),
    "no subject": (signer("ES256").token(claims_of(sub=None)), NO_NAME),
    "an empty subject": (signer("ES256").token(claims_of(sub="")), NO_NAME),
    "a number for a subject": (signer("ES256").token(claims_of(sub=7)), NO_NAME),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_with_its_sentence(tokens: Tokens, attack: str) -> None:
    token, sentence = ATTACKS[attack]

    assert refusal(tokens, token) == sentence


def test_a_key_made_for_one_algorithm_checks_no_other(tmp_path: Path) -> None:
    key = signer("RS256")
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key.jwk | {"alg": "RS256", "use": "sig"}]}))
    with running(issuer_settings(tmp_path / "keys.json")) as tokens:
        assert verify(tokens, key.token()).subject == "alice"
        assert refusal(tokens, Signer("RS256", "PS256", key.key).token()) == UNFIT_ALGORITHM


@pytest.mark.parametrize(
    ("claims", "name", "roles"),
    [
        ({"roles": ["a", "b", "a", 1, None]}, "roles", {"a", "b"}),
        ({"scope": " read  write "}, "scope", {"read", "write"}),
        ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", {"a"}),
        (
            {"https://example.com/roles": ["a"], "https://example": {"com/roles": ["b"]}},
            "https://example.com/roles",
            {"a"},
        ),
        ({"a.b": None, "a": {"b": ["nested"]}}, "a.b", set()),
        ({"roles": {"admin": True}}, "roles", set()),
        ({"roles": 1}, "roles.admin", set()),
        ({}, "roles", set()),
    ],
)
def test_roles_are_a_list_or_words_of_a_claim_or_of_one_inside(
    claims: dict[str, object], name: str, roles: set[str]
) -> None:
    assert roles_of(claims, name) == roles


def test_the_configured_claim_lists_the_roles(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(key_set(signer("EdDSA")))
    with running(issuer_settings(tmp_path / "keys.json", roles_claim="realm_access.roles")) as tokens:
        found = verify(tokens, signer("EdDSA").token(claims_of(roles=["no"], realm_access={"roles": ["yes"]})))
    assert found.roles == {"yes"}


def test_an_issuer_that_is_configured_twice_is_a_mistake() -> None:
    with pytest.raises(SettingsError, match="is configured twice; give its audiences as a list"):
        Tokens([issuer_settings("a"), issuer_settings("b")], report=print)


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with key_server(signer("ES256")) as served:
        yield served


def test_a_new_key_is_found_the_old_one_works_on_and_a_removed_one_stops(server: KeyServer) -> None:
    clock, old, new = Clock(), signer("ES256"), signer("ES256-new")
    with running(issuer_settings(server.url), monotonic=clock) as tokens:
        assert verify(tokens, old.token()).subject == "alice"
        server.body = key_set(old, new)
        clock.seconds += 30
        assert verify(tokens, new.token()).subject == "alice"
        assert verify(tokens, old.token()).subject == "alice"
        server.body = key_set(new)
        clock.seconds += 30
        assert refusal(tokens, signer("ES256-other").token()) == UNKNOWN_KEY
        assert refusal(tokens, old.token()) == UNKNOWN_KEY
        assert verify(tokens, new.token()).subject == "alice"
    assert len(server.asked) == 3


def test_made_up_keys_make_one_fetch_in_thirty_seconds(server: KeyServer) -> None:
    clock = Clock()

    async def flood(tokens: Tokens) -> set[str]:
        asked = (tokens.verify(signer("ES256").token(kid=f"made-up-{number}")) for number in range(100))
        return {str(error) for error in await asyncio.gather(*asked, return_exceptions=True)}

    with running(issuer_settings(server.url), monotonic=clock) as tokens:
        for fetches, seconds in ((1, 0.0), (1, 29.9), (2, 0.1), (2, 29.9), (3, 0.1)):
            clock.seconds += seconds
            assert asyncio.run(flood(tokens)) == {UNKNOWN_KEY}
            assert len(server.asked) == fetches


def test_keys_are_kept_while_the_issuer_is_down(server: KeyServer) -> None:
    clock = Clock()
    reports: list[str] = []

    def report(issuer: str, error: Exception) -> None:
        reports.append(f"{issuer}: {error}")

    with running(issuer_settings(server.url), monotonic=clock, report=report) as tokens:
        assert verify(tokens, signer("ES256").token()).subject == "alice"
        server.status = 503
        for _ in range(2):
            clock.seconds += 30
            assert refusal(tokens, signer("ES256-new").token()) == UNKNOWN_KEY
        assert verify(tokens, signer("ES256").token()).subject == "alice"
    assert len(server.asked) == 3
    assert reports == [f"{ISSUER}: HTTP Error 503: Service Unavailable"]


def test_an_issuer_that_is_down_at_the_start_is_taken_when_it_is_back(server: KeyServer) -> None:
    clock = Clock()
    server.status = 503
    with running(issuer_settings(server.url), monotonic=clock) as tokens:
        assert refusal(tokens, signer("ES256").token()) == OUT_OF_REACH
        server.status = 200
        clock.seconds += 30
        assert verify(tokens, signer("ES256").token()).subject == "alice"


def test_waiting_for_keys_holds_up_no_one_else_and_ends(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.identity.jwks.ASK_WAIT_SECONDS", 0.2)
    clock, answered = Clock(), threading.Event()

    def hold(request: BaseHTTPRequestHandler) -> None:
        answered.wait(WAIT_SECONDS)
        request.send_error(503)

    async def scenario(tokens: Tokens) -> None:
        clock.seconds += 30
        waiting = [asyncio.create_task(tokens.verify(signer("ES256-new").token())) for _ in range(3)]
        await asyncio.sleep(0)
        assert (await tokens.verify(signer("ES256").token())).subject == "alice"
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, TokenRefused, TokenRefused]

    with running(issuer_settings(server.url), monotonic=clock) as tokens:
        assert verify(tokens, signer("ES256").token()).subject == "alice"
        server.answer = hold
        asyncio.run(scenario(tokens))
        answered.set()


@settings(derandomize=True, deadline=None, max_examples=300)
@given(token=st.text(max_size=60) | st.text("eyJ0In.=_-", max_size=60))
def test_any_text_is_refused(tokens: Tokens, token: str) -> None:
    refusal(tokens, token)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(
    token=st.sampled_from([signer(kid).token() for kid in ("RS256", "PS256", "ES256", "EdDSA")]),
    at=st.integers(0, 600),
    length=st.integers(0, 3) | st.just(600),
    put=st.text("AQgw.eyJ=+é", max_size=3),
)
def test_a_token_that_is_changed_anywhere_is_refused(
    tokens: Tokens, token: str, at: int, length: int, put: str
) -> None:
    changed = token[:at] + put + token[at + length :]
    if changed != token:
        refusal(tokens, changed)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "b64", "jwk", "x"]), json_values, max_size=2),
    claims=st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "roles"]), json_values, max_size=2
    ),
)
def test_whatever_is_signed_is_taken_or_refused(tokens: Tokens, header: dict[str, Any], claims: dict[str, Any]) -> None:
    try:
        found = verify(tokens, signer("EdDSA").token(claims_of(**claims), **header))
    except TokenRefused:
        return
    assert (found.issuer, bool(found.subject)) == (ISSUER, True)
