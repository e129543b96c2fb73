"""The Databricks bundle: its jobs call what the wheel has, as the documents say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs import maintenance_job
from tests.infra.dockerfile import ROOT

FILE = ROOT / "infra" / "databricks" / "databricks.yml"
BUNDLE: dict[str, Any] = yaml.safe_load(FILE.read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
JOB, MAINTENANCE = (BUNDLE["resources"]["jobs"][name] for name in ("sync", "maintenance"))
(TASK,) = JOB["tasks"]


def test_the_task_calls_an_entry_point_of_the_wheel() -> None:
    task = TASK["python_wheel_task"]
    assert task["package_name"] == PROJECT["name"]
    assert PROJECT["scripts"][task["entry_point"]] == "jobs.sync_job:main"


def test_its_parameters_are_those_of_a_sync() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "jobs", "sync", "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    options = [word for word in TASK["python_wheel_task"]["parameters"] if word.startswith("--")]
    assert "--all" in options
    assert [option for option in options if option not in help_text] == []


def test_maintenance_calls_the_wheel_with_commands_that_there_are_and_vacuums_also_after_a_failure() -> None:
    purging, vacuuming = MAINTENANCE["tasks"]
    for task in (purging, vacuuming):
        called = task["python_wheel_task"]
        assert (called["package_name"], PROJECT["scripts"][called["entry_point"]]) == (
            PROJECT["name"],
            "jobs.maintenance_job:main",
        )
        command, *words = called["parameters"]
        help_text = subprocess.run(
            [sys.executable, "-m", "jobs", command, "--help"], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        assert [word for word in words if word.startswith("--") and word not in help_text] == []
        assert task["libraries"] == TASK["libraries"]
    assert {"--all", "--purge"} <= set(purging["python_wheel_task"]["parameters"])
    assert vacuuming["depends_on"] == [{"task_key": purging["task_key"]}]
    assert vacuuming["run_if"] == "ALL_DONE"
    clusters = [cluster["job_cluster_key"] for cluster in MAINTENANCE["job_clusters"]]
    assert clusters == [purging["job_cluster_key"]] == [vacuuming["job_cluster_key"]]


def test_a_maintenance_job_returns_where_it_succeeds_and_has_an_exit_code_where_it_fails(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    maintenance_job.main(["vacuum", "--all", "--yes", "--store", str(tmp_path), "--output", "json"])
    assert json.loads(capsys.readouterr().out) == {"collections": [], "failed": []}
    with pytest.raises(SystemExit, match="2"):
        maintenance_job.main(["vacuum"])


def test_the_wheel_is_built_from_this_checkout_and_is_the_tasks_library() -> None:
    artifact = BUNDLE["artifacts"]["grebe"]
    assert (FILE.parent / artifact["path"]).resolve() == ROOT
    assert artifact["build"] == "python -m build --wheel"
    wheel, faiss = TASK["libraries"]
    assert wheel == {"whl": f"{artifact['path']}/dist/*.whl"}
    # What the wheel does not bring: of its extras `cpu`; Spark and Delta are the runtime's own.
    assert [faiss["pypi"]["package"]] == PROJECT["optional-dependencies"]["cpu"]
    assert not [name for name in PROJECT["dependencies"] if name.startswith(("pyspark", "delta-spark", "faiss"))]


def test_every_variable_is_declared_and_none_for_nothing() -> None:
    declared = set(BUNDLE["variables"])
    assert set(re.findall(r"\$\{var\.(\w+)\}", FILE.read_text())) == declared
    assert [name for target in BUNDLE["targets"].values() for name in target.get("variables", {})] == ["workers"]


def test_the_job_has_its_cluster_and_no_two_runs_overlap() -> None:
    assert [cluster["job_cluster_key"] for cluster in JOB["job_clusters"]] == [TASK["job_cluster_key"]]
    assert (JOB["max_concurrent_runs"], JOB["queue"], TASK["max_retries"]) == (1, {"enabled": False}, 0)


def test_the_document_shows_the_same_task() -> None:
    text = (ROOT / "docs" / "scheduling.md").read_text()
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    (task,) = yaml.safe_load(shown)["tasks"]
    ours = TASK["python_wheel_task"]
    parameters = ["s3://bucket/search" if word == "${var.store}" else word for word in ours["parameters"]]
    assert task["python_wheel_task"] == {**ours, "parameters": parameters}
