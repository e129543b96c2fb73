"""Which GPU a process may use, and how much memory there is: Spark's own scheduling, with ``nvidia-smi`` played."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.ann import device
from indexer.ann.device import free_host_bytes, task_gpu

ROOT = Path(__file__).parents[3]
DISCOVERY = ROOT / "infra" / "gpu_discovery.sh"


def with_smi(folder: Path, *lines: str) -> dict[str, str]:
    """Return an environment whose ``nvidia-smi`` prints ``lines``."""
    smi = folder / "nvidia-smi"
    smi.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    smi.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("numbers", [["0"], ["0", "1", "2", "3", "4", "5", "6", "7"]])
def test_the_discovery_script_tells_spark_the_gpus(tmp_path: Path, numbers: list[str]) -> None:
    said = subprocess.run([DISCOVERY], env=with_smi(tmp_path, *numbers), capture_output=True, check=True).stdout

    assert json.loads(said) == {"name": "gpu", "addresses": numbers}


def test_a_machine_without_gpus_is_an_error_for_spark(tmp_path: Path) -> None:
    done = subprocess.run([DISCOVERY], env=with_smi(tmp_path), capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (1, "nvidia-smi lists no GPU\n")


def test_outside_of_a_task_it_is_the_first() -> None:
    assert task_gpu() == 0


@pytest.mark.soak
@pytest.mark.parametrize(("amount", "expected"), [("1", "[0, 1]"), ("0.5", "[0, 0]")], ids=["one each", "shared"])
def test_spark_gives_each_task_a_gpu(tmp_path: Path, amount: str, expected: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "tests.indexer.ann.gpu_tasks", str(DISCOVERY), amount],
        cwd=ROOT,
        env=with_smi(tmp_path, "0", "1") | {"SPARK_WORKER_DIR": str(tmp_path / "work")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert said.stdout.splitlines()[-1:] == [expected], said.stderr[-2000:]


def test_a_container_with_less_memory_than_its_machine_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_CGROUP", tmp_path)
    machine = free_host_bytes()
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")

    assert free_host_bytes() == 600_000 < machine

    (tmp_path / "memory.max").write_text("max\n")
    assert free_host_bytes() > 600_000
