from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from rich.console import Console

from jobs.demo import arrived, curl_lines, run
from jobs.demo_snowflake import SnowflakeDemo, emulated_demo, signed_in
from jobs.demo_table import DeltaDemo, DemoTable, changes
from jobs.errors import CommandError
from jobs.stdlib_docs import DocRow
from tests.snowflake.server import SnowflakeServer

ROWS = 300


@pytest.mark.soak
@pytest.mark.parametrize("source", ["delta", "snowflake"])
def test_the_demo_gives_its_tour_and_serves_what_its_curl_lines_ask_for(tmp_path: Path, source: str) -> None:
    """The whole of it, with fewer rows: one process as a user starts it, ended by Ctrl-C."""
    arguments = ["--source", source, "--rows", str(ROWS), "--folder", str(tmp_path / "demo")]
    demo = subprocess.Popen(
        [sys.executable, "-m", "jobs", "demo", *arguments],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert demo.stdout is not None
        lines: list[str] = []
        for line in demo.stdout:
            lines.append(line)
            if line.startswith("curl") and "/status" in line:
                break
        screen = "".join(lines)
        assert [
            kind for kind in ("insert", "update", "delete") if not re.search(rf"{kind}: .* \d+\.\d\d s", screen)
        ] == []
        answers = [
            subprocess.check_output(["bash", "-c", line], text=True) for line in lines if line.startswith("curl")
        ]
        first, second, status = map(json.loads, answers)
        assert (len(first["results"]), status["rows"]) == (3, ROWS)
        assert {hit["fields"]["kind"] for hit in second["results"]} == {"class"}
    finally:
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, rest


def test_a_folder_with_other_files_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(CommandError, match="holds files that are not the demo's"):
        run(Console(), tmp_path, leave=True)
    assert (tmp_path / "precious").exists()


Rows = Callable[[], list[tuple[Any, ...]]]


@pytest.fixture(params=["delta", "snowflake"])
def demo_table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[DemoTable, Rows]]:
    """Yield a demo's table, and what returns its rows: id, parameters and summary, in the order of ids."""
    if request.param == "delta":
        request.getfixturevalue("spark")

        def in_delta() -> list[tuple[Any, ...]]:
            found = DeltaTable(str(tmp_path / "table")).to_pyarrow_table().sort_by("id").to_pylist()
            return [(row["id"], row["parameters"], row["summary"]) for row in found]

        yield DeltaDemo(tmp_path / "table"), in_delta
        return
    account: SnowflakeServer = request.getfixturevalue("snowflake")
    with account.connect(paramstyle="qmark") as connection:
        table = SnowflakeDemo(connection)

        def in_snowflake() -> list[tuple[Any, ...]]:
            found = account.execute(f"SELECT id, TO_JSON(parameters), summary FROM {table.place} ORDER BY id")
            return [(id_, json.loads(parameters), summary) for id_, parameters, summary in found]

        yield table, in_snowflake
    account.execute("DROP DATABASE GREBE")


def test_a_table_holds_the_rows_and_commits_each_change(demo_table: tuple[DemoTable, Rows]) -> None:
    table, rows = demo_table
    parts = {"module": "os", "kind": "function", "signature": "(path, *, follow='no')", "docstring": 'A "quoted" word.'}
    written = [
        DocRow(id=f"os.{name}", name=name, summary="It's one.", parameters=parameters, **parts)  # type: ignore[arg-type]
        for name, parameters in (("stat", ("path", "follow")), ("sync", ()))
    ]
    table.write(written)
    old = [("os.stat", ["path", "follow"], "It's one."), ("os.sync", [], "It's one.")]
    assert rows() == old
    seen = []
    for change in changes(table.place):
        before = datetime.now(UTC) - timedelta(milliseconds=1)
        assert before <= table.execute(change.sql) <= datetime.now(UTC)
        seen.append(rows())
    dive = ("grebe.dive", ["depth"])
    assert seen == [
        [(*dive, "Plunge beneath the surface of the lake and catch a fish."), *old],
        [(*dive, "Build a floating nest out of reeds."), *old],
        old,
    ]


def test_an_installed_wheel_says_where_the_emulator_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tests.snowflake.server", None)
    with pytest.raises(CommandError, match="comes with a checkout alone: run `make demo"), emulated_demo():
        pass


def test_signing_in_hides_what_the_environment_says_of_another_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNOWFLAKE_AUTHENTICATOR", "OAUTH")
    before = dict(os.environ)
    names = ("account", "user", "password", "host", "port", "protocol")
    with signed_in({name: f"its {name}" for name in names} | {"else": 1}):
        within = {name: value for name, value in os.environ.items() if name.startswith("SNOWFLAKE_")}
    assert within.pop("SNOWFLAKE_DISABLE_PLATFORM_DETECTION") == "true"
    assert within == {f"SNOWFLAKE_{name.upper()}": f"its {name}" for name in names}
    assert dict(os.environ) == before


def test_a_change_has_arrived_when_the_answer_shows_it() -> None:
    insert, update, delete = changes("t")
    old = {
        "results": [{"key": "grebe.dive", "text": "dive\n\nPlunge beneath the surface of the lake and catch a fish."}]
    }
    new = {"results": [{"key": "grebe.dive", "text": "dive\n\nBuild a floating nest out of reeds."}]}
    none = {"results": [{"key": "os.listdir", "text": "listdir"}]}
    seen = {
        change.kind: [arrived(change, answer) for answer in (old, new, none)] for change in (insert, update, delete)
    }
    assert seen == {"insert": [True, False, False], "update": [False, True, False], "delete": [False, False, True]}


def test_curl_lines_are_three_and_one_line_each() -> None:
    lines = curl_lines("http://127.0.0.1:8080")
    assert len(lines) == 3
    assert [line for line in lines if "\n" in line or not line.startswith("curl -s http://127.0.0.1:8080/v1/")] == []
