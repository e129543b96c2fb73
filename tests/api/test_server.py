"""A server as a process: it starts, says where it is, drains on SIGTERM and ends well."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from api.errors import SettingsError
from api.server import serve, serving
from tests.api.conftest import settings_for, until
from tests.api.library import Library, book

PROGRAM = """
import sys
from api.server import serve
from api.settings import ServeSettings
serve(
    ServeSettings.load(store=sys.argv[1], cache=sys.argv[2], port=0, drain_seconds=1, poll_interval_ms=20),
    started=lambda url: print(url, flush=True),
    ready=lambda url, collections: print("ready", flush=True),
)
print("ended", flush=True)
"""


def test_sigterm_drains_not_ready_at_once_then_requests_under_way_finish_and_the_exit_is_clean(
    library: Library, tmp_path: Path
) -> None:
    library.commit(1, [book(1)])
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(library.root), str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, timeout=60) as client:
            assert process.stdout.readline() == "ready\n"
            assert client.get("/readyz").status_code == 200
            late: list[int] = []
            body = {"query": "river", "min_version": 9, "deadline_ms": 2500}
            waiting = threading.Thread(
                target=lambda: late.append(
                    httpx.post(f"{url}/v1/collections/books/search", json=body, timeout=60).status_code
                )
            )
            waiting.start()
            until(lambda: "grebe_http_in_flight 2.0" in client.get("/metrics").text)
            process.send_signal(signal.SIGTERM)
            until(lambda: client.get("/readyz").status_code == 503)
            assert client.get("/readyz").json()["reasons"] == ["the server is shutting down"]
            assert client.post("/v1/collections/books/search", json={"query": "river"}).status_code == 200
        waiting.join()
        assert late == [412]
        assert process.wait(60) == 0
        assert process.stdout.read() == "ended\n"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_more_users_are_connected_than_the_usual_limit_of_open_files(library: Library, tmp_path: Path) -> None:
    library.commit(1, [book(1)])
    limited = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{limited}\n{PROGRAM}", str(library.root), str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process, ExitStack() as users:
        try:
            assert process.stdout is not None
            url = httpx.URL(process.stdout.readline().strip())
            assert process.stdout.readline() == "ready\n"
            for _ in range(400):
                users.enter_context(socket.create_connection((url.host, url.port or 0), timeout=30))
            found = httpx.post(url.join("/v1/collections/books/search"), json={"query": "river"}, timeout=30)
            assert found.status_code == 200
        finally:
            process.kill()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with serving(settings_for(tmp_path)) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(SettingsError, match=rf"port: {port} on 127\.0\.0\.1 cannot be bound: something .* --port"):
            serve(settings_for(tmp_path, port=port))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(SettingsError, match=r"cache: .* cannot be used"):
        serve(settings_for(tmp_path))


def test_two_servers_live_in_one_process_and_keep_their_own_metrics(library: Library, tmp_path: Path) -> None:
    library.commit(1, [book(1)])
    with serving(settings_for(tmp_path)) as one, serving(settings_for(tmp_path)) as two:
        for url in (one, two):
            until(lambda url=url: httpx.get(f"{url}/readyz").status_code == 200)  # type: ignore[misc]
        httpx.get(f"{one}/v1/collections")
        line = 'grebe_http_requests_total{method="GET",route="/v1/collections",status="200"} 1.0'
        assert line in httpx.get(f"{one}/metrics").text
        assert line not in httpx.get(f"{two}/metrics").text
