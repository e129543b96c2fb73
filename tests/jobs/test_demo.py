from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from jobs.demo import arrived, curl_lines, run
from jobs.demo_table import changes
from jobs.errors import CommandError

ROWS = 300


def test_the_demo_gives_its_tour_and_serves_what_its_curl_lines_ask_for(tmp_path: Path) -> None:
    """The whole of it, with fewer rows: one process as a user starts it, ended by Ctrl-C."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "jobs", "demo", "--rows", str(ROWS), "--folder", str(tmp_path / "demo")],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
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


def test_a_change_has_arrived_when_the_answer_shows_it() -> None:
    insert, update, delete = changes(Path("/t"))
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
