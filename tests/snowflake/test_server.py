"""An emulator that can't start says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.snowflake.server import snowflake_server


def test_without_uv(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="need uv beside the Python that runs them"):
        snowflake_server(python=tmp_path / "python").__enter__()


def test_an_emulator_that_ends_at_once(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text("raise SystemExit('no package index')")

    with pytest.raises(RuntimeError, match=r"did not start \(exit code 1\)[\s\S]*no package index"):
        snowflake_server(script).__enter__()
