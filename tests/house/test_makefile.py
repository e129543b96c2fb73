from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def tools(folder: Path, fakes: dict[str, str]) -> str:
    """Return a PATH that has the shell's own tools, and ``fakes`` as scripts."""
    for tool in ("bash", "dirname", "env", "head", "sed", "uname"):
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    for name, script in fakes.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_bare_make_prints_every_target_with_a_line() -> None:
    said = run("make", "--no-print-directory").stdout
    targets = re.findall(r"^  make (\w+) +\S", said, flags=re.MULTILINE)
    assert targets == ["help", "demo", "emulators", "test", "check", "soak", "bench", "format", "lock", "clean"]


@pytest.mark.parametrize(
    ("fakes", "found"),
    [({}, "none"), ({"java": """echo 'openjdk version "11.0.2" 2019-01-15' >&2"""}, "11")],
    ids=["no Java", "Java 11"],
)
def test_missing_or_old_java_is_one_sentence_with_the_line_that_installs_it(
    tmp_path: Path, fakes: dict[str, str], found: str
) -> None:
    done = run("bash", "infra/tools.sh", PATH=tools(tmp_path, fakes), JAVA_HOME="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Grebe needs Java 17 or 21 for Spark (found: {found}): ")
    assert len(done.stderr.splitlines()) == 1
    assert "install" in done.stderr


@pytest.mark.parametrize("version", ["17.0.15", "21.0.1"])
def test_a_fitting_java_passes(tmp_path: Path, version: str) -> None:
    fakes = {"java": f"""echo 'openjdk version "{version}" 2025-01-01' >&2"""}
    done = run("bash", "infra/tools.sh", PATH=tools(tmp_path, fakes), JAVA_HOME="")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_machine_without_a_fitting_python_is_told(tmp_path: Path) -> None:
    for script in ("tools.sh", "python.sh"):
        (tmp_path / "infra").mkdir(exist_ok=True)
        shutil.copy(ROOT / "infra" / script, tmp_path / "infra" / script)
    (tmp_path / "bin").mkdir()
    path = tools(tmp_path / "bin", {"python3": "exit 1"})
    done = run("bash", str(tmp_path / "infra" / "tools.sh"), PATH=path, PYTHON="")
    assert done.returncode == 1
    assert done.stderr.startswith("Grebe needs Python 3.11 or newer: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "name",
    [
        "requirements.txt",
        "requirements-peers.txt",
        "infra/image/build.txt",
        "infra/image/serve.txt",
        "infra/image/sync.txt",
    ],
)
def test_every_requirement_is_pinned_and_hashed_and_no_registry_is_named(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if entry.strip()]
    assert [entry for entry in entries if not re.match(r"[a-z0-9._-]+(\[.*\])?==\S+", entry)] == []
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text


@pytest.mark.parametrize("on_terminal", [False, True])
def test_an_installation_says_what_it_takes_and_on_a_terminal_how_far_it_is(tmp_path: Path, on_terminal: bool) -> None:
    for folder in ("infra", "bin", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    for script in ("venv.sh", "python.sh"):
        shutil.copy(ROOT / "infra" / script, tmp_path / "infra" / script)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    path = tools(tmp_path / "bin", {"uv": """[ "$1" = --version ] || echo "uv $*" >&2"""})

    ours, its = pty.openpty()
    done = subprocess.run(
        ["bash", str(tmp_path / "infra" / "venv.sh")],
        env={**os.environ, "PATH": path},
        stderr=its if on_terminal else subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    os.close(its)
    said = os.read(ours, 65536).decode() if on_terminal else done.stderr
    os.close(ours)

    first, *installing = [line for line in said.splitlines() if "hnswlib" not in line]
    assert re.fullmatch(r"Installing Grebe into \.venv: .* two minutes and \d+ GB.* \.\.\.", first)
    assert [line.startswith("uv pip install ") for line in installing] == [True, True]
    assert ["--quiet" in line for line in installing] == [not on_terminal] * 2
