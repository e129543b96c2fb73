"""A browser, and two servers: one, a process, that asks nobody who they are, and one with keys and policies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from api.identity.administration import create_key, grant
from api.identity.control import ControlTable
from indexer.apply import apply
from tests.api.conftest import client_of, settings_for, until
from tests.api.library import Library, book

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = """<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"""
EXPECTED = "Failed to load resource: the server responded with a status of 4"
WAIT_MS = 8_000


@dataclass(frozen=True)
class Served:
    """A server's address, its collection ``books``, and its keys by name."""

    url: str
    books: Library
    keys: dict[str, str]


@contextmanager
def process(root: Path) -> Iterator[Callable[[], str]]:
    """Run ``grebe serve`` over the store under ``root`` on a free port; its address is there once it is ready."""
    environment = {**os.environ, "GREBE_DRAIN_SECONDS": "0", "GREBE_CACHE": str(root / "cache")}
    command = [sys.executable, "-m", "jobs", "serve", "--store", str(root / "store"), "--port", "0"]
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    def address() -> str:
        assert server.stderr is not None
        url = next(match[0] for line in server.stderr if (match := re.search(r"http://127\.0\.0\.1:\d+", line)))
        until(lambda: _is_ready(url))
        return url

    try:
        yield address
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5):
            return True
    except OSError:
        return False


def _open_collections(url: str) -> int:
    with urllib.request.urlopen(f"{url}/v1/collections", timeout=5) as answer:
        return sum(line["state"] == "open" for line in json.load(answer)["collections"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """``books``, ``pairs`` (a composite key), ``diary`` (shelves are dates) and ``waiting`` (for somebody's word)."""
    root = tmp_path_factory.mktemp("console")
    with process(root) as address:  # it starts while its collections are made, and finds them
        books = Library(root)
        hostile = book(666, title=f"Otter {HOSTILE}", body=f"{HOSTILE} an otter " * 9, shelf=HOSTILE)
        books.commit(3, [*(book(number) for number in range(19)), hostile, book(20, shelf=None)])
        Library(root, "pairs", composite=True).commit(1, [*(book(n) for n in range(4)), book(5, shelf=HOSTILE)])
        first = date(2026, 1, 1)
        days = [book(number, shelf=str(first + timedelta(days=number % 40))) for number in range(1050)]
        Library(root, "diary").commit(1, days)
        waiting = Library(root, "waiting")
        waiting.commit(7, [book(number) for number in range(10)], at=datetime.now(UTC) - timedelta(hours=2))
        waiting.hold("mass_delete", 8, deletes=8, rows=10)
        waiting.beat(7, datetime.now(UTC) - timedelta(hours=2), retention_seconds=3 * 3600.0)
        url = address()
        until(lambda: _open_collections(url) == 4)
        yield Served(url, books, {})


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """``books``, of which ``short`` sees a part, some of it masked, and ``secret``, of which it knows nothing."""
    root = tmp_path_factory.mktemp("governed-console")
    books = Library(root)
    books.commit(1, [book(number) for number in range(20)])
    policies = [{"role": "short", "rows": "pages < :most", "masks": {"shelf": "hash", "body": "redact"}}]
    apply(books.store, type(books.spec).model_validate(books.spec.model_dump() | {"policies": policies}))
    Library(root, "secret").commit(1, [book(1)])
    table = ControlTable(books.store)
    grant(table, "short", "books", ["search", "read"])
    key, _ = create_key(table, "short", roles=["short"], claims={"most": 50})
    with client_of(settings_for(root)) as client:
        yield Served(str(client.base_url).rstrip("/"), books, {"short": key})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, if this machine has it."""
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its sandbox wants rights that a container, where tests run as root, does not have.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser's profile for one test, in which nothing may break the page's own policy or fail."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(WAIT_MS)
    context.add_init_script("addEventListener('securitypolicyviolation', (e) => console.error(e.violatedDirective))")
    wrong: list[str] = []
    context.on("console", lambda said: wrong.extend([said.text] if said.type in ("error", "warning") else []))
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    yield context
    context.close()
    assert [text for text in wrong if not text.startswith(EXPECTED)] == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A wide page."""
    page = context.new_page()
    page.set_viewport_size({"width": 1280, "height": 800})
    return page


def added(rows: Any) -> list[float]:
    """Return the last numbers of a table's rows."""
    return [float(text) for text in rows.locator("td:last-child").all_inner_texts()]
