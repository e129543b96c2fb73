from __future__ import annotations

import json
import subprocess
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.wheel import ROOT, build_wheel

ROOMS = {"connectors", "indexer", "retrieval", "api", "jobs"}

PROBE = """
import importlib.metadata, json
owners = {name: sorted(set(found)) for name, found in importlib.metadata.packages_distributions().items()}
files = importlib.metadata.files("grebe")
tops = sorted({file.parts[0] for file in files if file.parts[0] != ".."})
print(json.dumps({"owners": owners, "tops": tops}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_five_rooms_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    metadata = {name for name in tops if name.endswith(".dist-info")}
    assert tops - metadata == ROOMS
    assert len(metadata) == 1


def test_every_module_of_the_rooms_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith(".py")}
    assert packed == {str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob("*.py")}


def test_every_file_of_the_console_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("api/console/")}
    assert packed == {f"api/console/{path.name}" for path in (ROOT / "api" / "console").iterdir()}
    assert "api/console/index.html" in packed


def test_in_a_clean_environment_the_names_belong_to_grebe_alone(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path, with_pip=True)
    python = str(tmp_path / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    said = subprocess.run([python, "-c", PROBE], check=True, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    found = json.loads(said.stdout)
    assert {name: owners for name, owners in found["owners"].items() if name in ROOMS} == {
        room: ["grebe"] for room in ROOMS
    }
    assert {top for top in found["tops"] if not top.endswith(".dist-info")} == ROOMS


def test_here_too_no_other_distribution_has_a_room_of_ours() -> None:
    owners = packages_distributions()
    assert {room: sorted(set(owners.get(room, ["grebe"]))) for room in ROOMS} == {room: ["grebe"] for room in ROOMS}
