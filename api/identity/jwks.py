"""The keys of one issuer, kept fresh by a thread of their own.

The thread reads the issuer's JSON Web Key Set (RFC 7517) and then puts the new keys in place by setting one reference.
A set that cannot be read leaves the old keys in place, is reported, and is tried again ever more slowly.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import queue
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from types import MappingProxyType
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key
from joserfc.util import base64_to_int

from api.identity.issuers import IssuerSettings, is_url

REFRESH_SECONDS = 600.0
FILE_REFRESH_SECONDS = 1.0
"""Reading a small file costs next to nothing, so who takes a key out of it need not wait."""
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0
ASK_SECONDS = 30.0
"""Who sends made-up key ids makes the server ask the issuer no more often than this."""
ASK_WAIT_SECONDS = 2.0
FETCH_SECONDS = 5.0
MAX_BYTES = 1 << 20
CHUNK_BYTES = 1 << 16
MIN_RSA_BITS = 2048
"""RFC 7518, section 3.3."""
SIGNING_CURVES = frozenset({"P-256", "P-384", "P-521", "Ed25519", "Ed448"})

Keys = Mapping[str, Key]
Report = Callable[[str, Exception], object]
"""Called with the issuer and what failed when an outage of its keys begins, on the thread that reads them."""


class KeySet:
    """The keys with which one issuer signs; ``keys`` holds those known now by their id, never changed in place."""

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        report: Report,
        monotonic: Callable[[], float] = time.monotonic,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        self.keys: Keys = MappingProxyType({})
        self._issuer = settings.issuer
        self._jwks = settings.jwks
        self._report = report
        self._monotonic = monotonic
        self._interval = refresh_seconds if is_url(settings.jwks) else FILE_REFRESH_SECONDS
        self._failures = 0
        self._asks: queue.SimpleQueue[Future[None] | None] = queue.SimpleQueue()
        self._asked: Future[None] = Future()
        self._ask_again_at = -float("inf")
        self._thread = threading.Thread(target=self._run, name=f"keys-{settings.issuer}", daemon=True)

    def start(self) -> None:
        """Begin to read the keys; calls of :meth:`refreshed` in the next 30 s wait for this reading."""
        self._ask()
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; a fetch under way is not waited for."""
        self._asks.put(None)

    def find(self, kid: str | None) -> Key | None:
        """Return the key with the id ``kid``, or the only key there is for a token that names none."""
        keys = self.keys
        if kid is not None:
            return keys.get(kid)
        return next(iter(keys.values())) if len(keys) == 1 else None

    async def refreshed(self) -> None:
        """Wait until the keys were read anew, for two seconds at most; of calls within 30 s only the first reads."""
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(self._ask()), ASK_WAIT_SECONDS)

    def _ask(self) -> Future[None]:
        if self._monotonic() >= self._ask_again_at:
            self._ask_again_at = self._monotonic() + ASK_SECONDS
            self._asked = Future()
            self._asked.set_running_or_notify_cancel()  # so that who gives up does not cancel it for the others
            self._asks.put(self._asked)
        return self._asked

    def _run(self) -> None:
        wait_seconds = self._interval
        while asked := self._next(wait_seconds):
            wait_seconds = self._refresh()
            asked.set_result(None)

    def _next(self, timeout_seconds: float) -> Future[None] | None:
        try:
            return self._asks.get(timeout=timeout_seconds)
        except queue.Empty:
            return Future()

    def _refresh(self) -> float:
        """Read the keys, and return after how many seconds to do so again."""
        try:
            self._take(read(self._jwks))
        except Exception as error:  # the one place that must outlive any failure: it is reported, and tried again
            self._failures += 1
            if self._failures == 1:
                self._report(self._issuer, error)
            return min(retry_seconds(self._failures), self._interval)
        self._failures = 0
        return self._interval

    def _take(self, body: bytes) -> None:
        self.keys = signing_keys(body)
        if not self.keys:  # taken all the same: an issuer that withdraws its keys means it
            raise ValueError("the key set holds no key that can check a signature")


def retry_seconds(failures: int) -> float:
    """Return how long to wait after so many ``failures`` in a row.

    >>> [retry_seconds(failures) for failures in (1, 2, 6, 7, 1000)]
    [1.0, 2.0, 32.0, 60.0, 60.0]
    """
    wait: float = FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 16)
    return min(wait, LAST_RETRY_SECONDS)


def signing_keys(body: bytes) -> Keys:
    """Return the keys of a JSON Web Key Set that can check signatures, by id; ValueError if ``body`` is no such set.

    Others are left out: a set may well hold keys for other uses and of other kinds (RFC 7517, section 5). Of several
    with one id the first is taken; one without gets its thumbprint (RFC 7638).
    """
    found = json.loads(body)
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError("expected a JSON Web Key Set: an object with a list of `keys`")
    keys: dict[str, Key] = {}
    for entry in entries:
        if key := _signing_key(entry):
            keys.setdefault(str(key.kid), key)
    return MappingProxyType(keys)


def _signing_key(entry: Any) -> Key | None:
    try:
        if entry.get("use", "sig") != "sig" or not _is_strong_and_public(entry):
            return None
        key = import_key(entry)
        key.check_key_op("verify")
        key.ensure_kid()
    except (JoseError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return key


def _is_strong_and_public(entry: Any) -> bool:
    """Return whether only the issuer can sign so that this key agrees.

    A secret (`oct`) and a private key (`d`) sign for whoever has read them here.
    """
    match entry["kty"]:
        case "RSA":
            return "d" not in entry and base64_to_int(entry["n"]).bit_length() >= MIN_RSA_BITS
        case "EC" | "OKP":
            return "d" not in entry and entry["crv"] in SIGNING_CURVES
        case _:
            return False


def read(jwks: str, timeout_seconds: float = FETCH_SECONDS) -> bytes:
    """Return what the file or the address ``jwks`` holds.

    Raises ValueError beyond a mebibyte, and OSError or HTTPException for what cannot be read or comes too slowly.
    """
    deadline = time.monotonic() + timeout_seconds
    body = bytearray()
    with _fetched(jwks, timeout_seconds) if is_url(jwks) else open(jwks, "rb") as source:
        while chunk := source.read1(CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_BYTES:
                raise ValueError(f"the key set is larger than {MAX_BYTES} bytes")
            if time.monotonic() > deadline:  # the socket's own timeout starts again with every byte that arrives
                raise TimeoutError(f"the key set took longer than {timeout_seconds} s")
    return bytes(body)


def _fetched(url: str, timeout_seconds: float) -> http.client.HTTPResponse:
    # A proxy for http:// is left out: such an address is this machine's own.
    proxies = {scheme: proxy for scheme, proxy in urllib.request.getproxies().items() if scheme == "https"}
    opener = urllib.request.build_opener(SameHostRedirects, urllib.request.ProxyHandler(proxies))
    request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "grebe"})
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=timeout_seconds)
    except HTTPError as error:
        error.close()
        raise
    return response


class SameHostRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect within one host only, and never from https:// to http://."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request to ``newurl``, or raise HTTPError."""
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.hostname != before.hostname or after.scheme not in ("https", before.scheme):
            raise HTTPError(req.full_url, code, "redirects to another host or away from https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
