"""The console's files over HTTP: what they are sent with, who gets them, and what they may not hold."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from api.pages import MEDIA_TYPES, read_pages
from tests.api.conftest import LogLines, Serve

PAGES = read_pages()
FILES = {"index.html": PAGES.first, **PAGES.others}
APP = f"/console/{PAGES.version}/app.mjs"
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
}


@pytest.mark.parametrize("path", ["/", *(f"/console/{PAGES.version}/{name}" for name in PAGES.others)])
def test_every_file_is_sent_with_a_strict_policy_and_known_again_by_its_tag(client: httpx.Client, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert set(page.headers["content-security-policy"].split("; ")) == POLICY
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == ("no-cache" if path == "/" else "public, max-age=31536000, immutable")
    assert page.headers["content-type"].partition(";")[0] in MEDIA_TYPES.values()
    again = client.get(path, headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", page.headers["etag"])
    assert again.headers["content-security-policy"] == page.headers["content-security-policy"]
    assert client.get(path, headers={"If-None-Match": '"of another version"'}).content == page.content


@pytest.mark.parametrize("name", ["", "nope.mjs", "index.html", "..%2fapp.py", "a/b"])
def test_a_file_is_at_the_address_of_its_version_alone(client: httpx.Client, name: str) -> None:
    for path in (f"/console/{PAGES.version}/{name}", f"/console/{name}", f"/console/0123456789abcdef/{name}"):
        assert client.get(path).status_code == 404
    first = client.get("/").text
    assert f'"console/{PAGES.version}/app.mjs"' in first
    assert '"console/app.mjs"' not in first


@pytest.mark.parametrize("path", ["/console", "/console/", "/console/app.mjs", "/console/another-version/app.mjs"])
def test_what_is_not_there_is_a_problem_as_elsewhere(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-route")
    assert answer.headers["content-type"] == "application/problem+json"


def test_other_methods_and_other_hosts_are_refused(client: httpx.Client) -> None:
    assert client.post(APP).json()["code"] == "method-not-allowed"
    for path in ("/", APP):
        assert client.get(path, headers={"Host": "attacker.example"}).json()["code"] == "misdirected"


def test_it_is_neither_logged_nor_audited(client: httpx.Client, logged: LogLines, serve: Serve, tmp_path: Path) -> None:
    for path in ("/", APP):
        client.get(path, headers={"X-Request-ID": "console-1"})
    assert [line for line in logged.lines() if line.get("request_id") == "console-1"] == []
    with serve(audit={"folder": str(tmp_path / "audit")}) as audited:
        audited.get("/", headers={"X-Request-ID": "console-2"})
        audited.get("/v1/collections", headers={"X-Request-ID": "listed"})
        records = b"".join(file.read_bytes() for file in (tmp_path / "audit").rglob("*.jsonl"))
    assert b"console-2" not in records
    assert b"listed" in records


def test_it_can_be_turned_off(serve: Serve) -> None:
    with serve(console=False) as client:
        for path in ("/", APP):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "no-such-route")
        assert client.get("/problems/no-such-route").status_code == 200


def test_the_page_has_nothing_inline_and_names_no_other_server() -> None:
    page = PAGES.first.content.decode()
    assert re.findall(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", page) == []
    for name, file in FILES.items():
        text = file.content.decode().replace("http://www.w3.org", "")  # the name of SVG, where nobody looks
        assert re.findall(r"(?:https?:)?//[a-z0-9][\w.-]*\.[a-z]+", text) == [], name


def test_every_file_that_is_named_is_there_and_every_file_is_named() -> None:
    named = {"index.html"}
    for file in FILES.values():
        named |= set(re.findall(r'"(?:\./|console/\w+/)([\w-]+\.\w+)"', file.content.decode()))
    assert named == set(FILES)


def test_no_module_makes_markup_or_code_of_a_string() -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment"
    for name, file in FILES.items():
        assert re.findall(rf"{markup}|\beval\b|new Function", file.content.decode()) == [], name


def test_no_line_is_too_long_and_no_module_too_large() -> None:
    for name, file in FILES.items():
        lines = file.content.decode().splitlines()
        assert [line for line in lines if len(line) > 120] == [], name
        assert len(lines) < (500 if name.endswith(".css") else 250), name
