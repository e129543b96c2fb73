"""Reading key sets: what is taken, from where, and how often."""

from __future__ import annotations

import http.client
import io
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from joserfc.jwk import generate_key
from joserfc.util import int_to_base64

from api.identity.issuers import IssuerSettings
from api.identity.jwks import MAX_BYTES, KeySet, SameHostRedirects, read, signing_keys
from tests.api.conftest import until
from tests.api.identity.issuing import ISSUER, KeyServer, key_server, key_set, signer

EC = signer("ES256").jwk
RSA = signer("RS256").jwk


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with key_server(signer("ES256")) as served:
        yield served


def small_rsa() -> dict[str, str]:
    numbers = generate_private_key(65537, 1024).public_key().public_numbers()
    return {"kty": "RSA", "n": int_to_base64(numbers.n), "e": int_to_base64(numbers.e)}


def set_of(*entries: object) -> bytes:
    return json.dumps({"keys": entries}).encode()


def test_keys_are_found_by_their_id_or_thumbprint() -> None:
    nameless = {name: value for name, value in EC.items() if name != "kid"}

    assert list(signing_keys(set_of(EC, RSA))) == ["ES256", "RS256"]
    assert list(signing_keys(set_of(nameless))) == [signer("ES256").key.thumbprint()]


def test_of_two_keys_with_one_id_the_first_is_taken() -> None:
    assert signing_keys(set_of(EC, RSA | {"kid": "ES256"}))["ES256"].key_type == "EC"


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        RSA | {"use": "enc"},
        RSA | {"key_ops": ["encrypt"]},
        generate_key("RSA", 2048).as_dict(private=True),
        generate_key("EC", "P-256").as_dict(private=True),
        generate_key("EC", "secp256k1").as_dict(private=False),
        generate_key("OKP", "X25519").as_dict(private=False),
        small_rsa(),
        RSA | {"n": "!"},
        EC | {"y": EC["x"]},
        EC | {"kid": 7},
        {"kty": "AKP", "pub": "x"},
        {"kty": ["RSA"]},
        {},
        "a key",
        None,
    ],
)
def test_what_cannot_check_signatures_of_the_issuer_alone_is_left_out(entry: Any) -> None:
    other = {**entry, "kid": entry.get("kid", "other")} if isinstance(entry, dict) else entry

    assert list(signing_keys(set_of(other, signer("EdDSA").jwk))) == ["EdDSA"]


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"{}", b'{"keys": {}}', b"<html>"])
def test_what_is_no_key_set_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting value|utf-8"):
        signing_keys(body)


def test_a_set_is_read_over_http_and_from_a_file(server: KeyServer, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(server.body)

    assert read(server.url) == read(str(file)) == server.body


def test_a_set_that_is_too_large_or_not_there_is_refused(server: KeyServer, tmp_path: Path) -> None:
    server.body = b" " * (MAX_BYTES + 1)
    with pytest.raises(ValueError, match="larger than 1048576 bytes"):
        read(server.url)
    server.status = 404
    with pytest.raises(HTTPError, match="404"):
        read(server.url)
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "none"))


def test_a_set_that_comes_byte_by_byte_is_not_waited_for(server: KeyServer) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(20):
            request.wfile.write(b" ")
            time.sleep(0.02)

    server.answer = drip
    with pytest.raises(TimeoutError, match=r"longer than 0\.1 s"):
        read(server.url, timeout_seconds=0.1)


def test_a_redirect_is_followed_on_the_same_host_only(server: KeyServer) -> None:
    server.headers = {"Location": "/keys"}
    assert read(f"{server.address}/moved") == server.body

    for elsewhere in (server.url.replace("127.0.0.1", "localhost"), "file:///etc/hosts", "ftp://127.0.0.1/"):
        server.headers = {"Location": elsewhere}
        with pytest.raises(HTTPError, match=r"redirect|Found"):
            read(f"{server.address}/moved")
    assert server.asked.count("/keys") == 1


def test_a_redirect_away_from_https_is_not_followed() -> None:
    def follow(target: str) -> Request | None:
        request = Request("https://idp/keys")
        return SameHostRedirects().redirect_request(request, io.BytesIO(), 302, "", http.client.HTTPMessage(), target)

    with pytest.raises(HTTPError, match="away from https") as error:
        follow("http://idp/keys")
    error.value.close()
    assert follow("https://idp/new") is not None


def test_an_address_of_this_machine_is_asked_without_a_proxy(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert read(server.url) == server.body


def key_set_at(jwks: str, **options: Any) -> KeySet:
    settings = IssuerSettings(issuer=ISSUER, audience="grebe", jwks=jwks)
    return KeySet(settings, **{"report": lambda *_: None} | options)


def test_keys_are_read_again_and_again_and_are_kept_through_one_reported_outage(server: KeyServer) -> None:
    reports: list[tuple[str, str]] = []
    keys = key_set_at(
        server.url, refresh_seconds=0.02, report=lambda issuer, error: reports.append((issuer, str(error)))
    )
    keys.start()
    until(lambda: list(keys.keys) == ["ES256"])
    server.body = key_set(signer("ES256"), signer("EdDSA"))
    until(lambda: list(keys.keys) == ["ES256", "EdDSA"])

    server.status = 503
    asked = len(server.asked)
    until(lambda: len(server.asked) > asked + 3)
    assert list(keys.keys) == ["ES256", "EdDSA"]
    assert reports == [(ISSUER, "HTTP Error 503: Service Unavailable")]

    server.status = 200
    server.body = key_set(signer("EdDSA"))
    until(lambda: list(keys.keys) == ["EdDSA"])
    server.status = 500
    until(lambda: len(reports) == 2)
    keys.stop()


def test_an_issuer_that_withdraws_its_keys_is_heeded_and_reported(server: KeyServer) -> None:
    reports: list[str] = []
    keys = key_set_at(server.url, refresh_seconds=0.02, report=lambda _, error: reports.append(str(error)))
    keys.start()
    until(lambda: list(keys.keys) == ["ES256"])
    server.body = set_of()
    until(lambda: not keys.keys)
    keys.stop()

    assert reports == ["the key set holds no key that can check a signature"]


def test_a_server_that_is_back_is_found_by_a_retry(server: KeyServer) -> None:
    server.status = 503
    keys = key_set_at(server.url)
    keys.start()
    until(lambda: server.asked == ["/keys"])
    server.status = 200
    until(lambda: list(keys.keys) == ["ES256"])
    keys.stop()

    assert server.asked == ["/keys"] * 2


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(key_set(signer("ES256")))
    keys = key_set_at(str(file))
    keys.start()
    until(lambda: list(keys.keys) == ["ES256"])
    file.write_bytes(key_set(signer("EdDSA")))
    until(lambda: list(keys.keys) == ["EdDSA"], seconds=5)
    file.unlink()
    file.write_bytes(key_set(signer("ES256")))
    until(lambda: list(keys.keys) == ["ES256"], seconds=5)
    keys.stop()
