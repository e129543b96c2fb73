"""An issuer for the tests: real keys, and a real server of its key set on a free loopback port."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc.jwa import JWS_ALGORITHMS
from joserfc.jwk import Key, generate_key
from joserfc.util import urlsafe_b64encode

ISSUER = "https://login.example.com/"
NOW = 1_800_000_000.0
ALGORITHMS = {algorithm.name: algorithm for algorithm in JWS_ALGORITHMS}


class Clock:
    """A time that goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Signer:
    """One key of an issuer, and what it signs."""

    def __init__(self, kid: str, algorithm: str, key: Key) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.key = key

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half, as a key set lists it."""
        return {**self.key.as_dict(private=False), "kid": self.kid}

    def token(self, claims: dict[str, Any] | bytes | None = None, **header: Any) -> str:
        """Return a token; a ``header`` of None leaves that one out."""
        whole = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid} | header
        signed = signed_part({name: value for name, value in whole.items() if value is not None}, claims or claims_of())
        return f"{signed}.{encoded(ALGORITHMS[self.algorithm].sign(signed.encode(), self.key))}"


@cache
def signer(kid: str) -> Signer:
    """Return the signer whose id is its algorithm's name, with or without a suffix: made once, for RSA is slow."""
    algorithm = kid.partition("-")[0]
    match algorithm[:2]:
        case "RS" | "PS":
            return Signer(kid, algorithm, generate_key("RSA", 2048))
        case "ES":
            return Signer(kid, algorithm, generate_key("EC", "P-256" if algorithm == "ES256" else "P-384"))
        case _:
            return Signer(kid, algorithm, generate_key("OKP", "Ed25519"))


def claims_of(**changed: Any) -> dict[str, Any]:
    """Return claims that are in order but for what is ``changed``; None leaves a claim out."""
    claims = {"iss": ISSUER, "aud": "grebe", "sub": "alice", "exp": NOW + 600, "iat": NOW} | changed
    return {name: value for name, value in claims.items() if value is not None}


def signed_part(header: dict[str, Any], claims: dict[str, Any] | bytes) -> str:
    """Return the first two parts of a token."""
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return f"{encoded(json.dumps(header).encode())}.{encoded(body)}"


def encoded(content: bytes) -> str:
    """Return ``content`` in base64 as tokens write it."""
    return urlsafe_b64encode(content).decode()


def key_set(*signers: Signer) -> bytes:
    """Return the key set of ``signers``."""
    return json.dumps({"keys": [signer.jwk for signer in signers]}).encode()


class KeyServer:
    """Serves ``body`` with ``status``, or whatever ``answer`` writes; ``asked`` lists the paths that were asked for."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.url = f"{address}/keys"
        self.body = b""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.answer: Callable[[BaseHTTPRequestHandler], None] = self._answer
        self.asked: list[str] = []

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        moved = request.path != "/keys"
        request.send_response(302 if moved else self.status)
        for name, value in (self.headers if moved else {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(self.body)))
        request.end_headers()
        request.wfile.write(self.body)


@contextmanager
def key_server(*signers: Signer) -> Iterator[KeyServer]:
    """Serve the key set of ``signers`` at ``/keys``; any other path is a redirect with the server's ``headers``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            with suppress(ConnectionError):  # who asked may have had enough
                served.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = KeyServer(f"http://127.0.0.1:{listening.server_address[1]}")
    served.body = key_set(*signers)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
