"""Azurite, Microsoft's own emulator of Azure's blob storage: real requests, signed and checked as Azure does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The emulator's one account and its key, which its documentation names: no secret."""
INSTALLED = Path(__file__).parents[1] / ".emulators" / "node_modules" / ".bin"
STARTS_WITHIN_SECONDS = 60.0


@contextmanager
def azurite(folder: Path) -> Iterator[str]:
    """Run the emulator with its log in ``folder`` and yield its address; skip the test where it is not installed."""
    program = shutil.which("azurite-blob", path=f"{INSTALLED}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None or shutil.which("node") is None:
        pytest.skip("Azurite is not installed: `make emulators`, which needs Node.js and npm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    # Newer clients than the emulator are answered all the same, and nobody is told of the tests.
    quietly = ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    with (folder / "azurite.log").open("wb") as log:
        server = subprocess.Popen([program, *options, *quietly], cwd=folder, stdout=log, stderr=log)
    try:
        _wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def environment_of(address: str) -> Mapping[str, str]:
    """Return the variables with which a client finds the emulator at ``address``.

    Told that it is one, delta-rs does without what the emulator lacks: listings that begin at a name.
    """
    return {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": address}


def make_container(address: str, name: str) -> None:
    """Make a container, by a request that is signed with the account's key."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    # The method, eleven headers that are not sent, those that are, and what is asked for.
    signed = "\n".join(["PUT", *[""] * 11, *(f"{key}:{value}" for key, value in sorted(headers.items()))])
    signed += f"\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)).decode()
    headers |= {"Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": "0"}
    url = f"{address}/{ACCOUNT}/{name}?restype=container"
    urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=10).close()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + STARTS_WITHIN_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if server.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return
