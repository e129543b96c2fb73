"""The README's commands and the docstrings' examples, run as they stand."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import BaseModel

from api.audit.settings import AuditSettings
from api.cluster.settings import ClusterSettings
from api.cors import CorsSettings
from api.models.requests import MinVersion, SearchBody
from api.settings import IdentitySettings, SearchSettings, ServeSettings, ServingSettings

ROOT = Path(__file__).parents[2]
ROOMS = ("connectors", "indexer", "retrieval", "api", "jobs")
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = sorted(
    found.name
    for room in ROOMS
    for found in pkgutil.walk_packages([str(ROOT / room)], prefix=f"{room}.")
    if not found.name.endswith("__main__")
)


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


RAG_APPS = blocks("python", (ROOT / "docs" / "rag.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name: str) -> None:
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE, raise_on_error=False)
    assert failed == 0


def test_the_settings_of_the_server_are_listed_with_their_defaults() -> None:
    table = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    parts: dict[str, type[BaseModel]] = {
        "": ServeSettings,
        "search.": SearchSettings,
        "serving.": ServingSettings,
        "identity.": IdentitySettings,
        "audit.": AuditSettings,
        "cluster.": ClusterSettings,
        "cors.": CorsSettings,
    }
    defaults = {
        f"{part}{name}": field.default for part, model in parts.items() for name, field in model.model_fields.items()
    }
    defaults["search.threads"] = "the number of cores"
    for part in parts:
        defaults.pop(part.removesuffix("."), None)
    listed: dict[str, str] = {}
    for row in table.partition("## Probes")[0].splitlines():
        if row.startswith("| `"):
            names, shown = (re.findall("`([^`]+)`", cell) or [cell.strip()] for cell in row.split("|")[1:3])
            listed |= dict(zip(names, shown, strict=True)) if len(names) > 1 else {names[0]: ", ".join(shown)}
    shown_as = {
        name: (", ".join(default) or "none") if isinstance(default, tuple) else str(default).replace("None", "none")
        for name, default in defaults.items()
    }
    assert listed == shown_as


def test_the_readme_walks_from_a_table_to_an_answer(tmp_path: Path) -> None:
    """Every block of the walk, in order: the table, the spec, apply, sync, search, then curl against a server.

    And what docs/rag.md asks of the same collection.
    """
    (make_table,) = blocks("python")
    spec, policies = blocks("yaml")
    first, asking, governing = blocks("shell")
    (tmp_path / "books.py").write_text(make_table, encoding="utf-8")
    (tmp_path / "books.yaml").write_text(spec, encoding="utf-8")
    shell(f"python books.py\n{first}", tmp_path)
    with served(tmp_path) as url:
        answers = shell(asking.replace("http://127.0.0.1:8080", url), tmp_path)
        app, wordings, langchain = RAG_APPS
        by_hand, by_langchain = (
            shell(f"GREBE_URL={url} python <<'EOF'\n{program}EOF\n", tmp_path)
            for program in (app + wordings, langchain)
        )
        (tmp_path / "books.yaml").write_text(spec + policies, encoding="utf-8")
        in_force = governing.replace("http://127.0.0.1:8080", url).replace("curl", "sleep 2; curl")
        governed = json.loads(shell(in_force, tmp_path).splitlines()[-1])
    by_query, counted, status, row = map(json.loads, answers.splitlines())
    assert by_query["results"][0]["key"] == 2
    assert counted["rows"] == [[3, 2019]]
    assert (status["state"], status["rows"]) == ("open", 3)
    assert row["key"] == 2
    assert by_hand.count("[1] (2011)\nThe great crested grebe\n") == 2
    assert by_hand.splitlines()[-1].startswith("['How do grebes court?', ")
    assert by_langchain.startswith("2 The great crested grebe")
    assert [(hit["key"], hit["fields"]["year"]) for hit in governed["results"]] == [(2, None), (1, None)]
    assert governed["masked"] == ["year"]


def test_the_readmes_request_is_one() -> None:
    (request,) = blocks("json")
    assert SearchBody.model_validate_json(request).min_version == MinVersion(version=0)


def test_the_readme_names_every_command_and_target() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "jobs", "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    commands = set(re.findall(r"^│ (\w+) ", help_text, flags=re.MULTILINE))
    assert commands
    assert {name for name in commands if f"`grebe {name}" not in README} == set()
    targets = re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert [
        name for name in targets if name not in {"help", "clean", "format", "lock"} and f"make {name}" not in README
    ] == []


def test_the_files_that_the_documents_link_to_exist() -> None:
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        links = re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8"))
        assert [link for link in links if not (document.parent / link).exists()] == []


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # A sync of three rows is over before Java's second compiler has gained anything.
    java = f"{os.environ.get('JDK_JAVA_OPTIONS', '')} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    return {**os.environ, "PATH": path, "GREBE_DRAIN_SECONDS": "0", "JDK_JAVA_OPTIONS": java}


def shell(script: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Run the README's ``grebe serve`` on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", "serve", "--port", "0"],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        url = next(match[0] for line in process.stderr if (match := re.search(r"http://127\.0\.0\.1:\d+", line)))
        wait_until_ready(url)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def wait_until_ready(url: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server did not become ready")
