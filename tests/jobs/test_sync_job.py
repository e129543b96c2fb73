"""The entry point for schedulers, run by the real ``spark-submit`` with nothing of this checkout but the wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distributions
from pathlib import Path

import pyarrow as pa
import pyspark
import pytest
from deltalake import write_deltalake

from connectors.jars import EXCLUDED_JARS, packages
from indexer.apply import apply
from indexer.format.store import Store
from indexer.spec_file import parse_spec
from jobs import sync_job
from tests.conftest import SHORT_RUNS
from tests.served import served_rows
from tests.wheel import ROOT, build_wheel

SCHEDULING = ROOT / "docs" / "scheduling.md"
SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
# A tiny job on a busy machine; none of these matters to what is tested.
QUICKLY = SHORT_RUNS | {
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
}


def test_success_is_a_return_and_failure_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    sync_job.main(["--help"])
    assert "--on-busy" in capsys.readouterr().out

    with pytest.raises(SystemExit, match="2"):
        sync_job.main(["--unheard-of"])


@pytest.mark.soak
def test_spark_submit_with_the_wheel_syncs_what_it_can_and_says_what_it_cannot(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path / "wheel")
    (found,) = distributions(path=[str(wheel)])
    assert [point.value for point in found.entry_points if point.name == "grebe-sync"] == ["jobs.sync_job:main"]
    python = python_without_grebe(tmp_path / "venv")
    store = declare_collections(tmp_path)
    folder = tmp_path / "empty"
    folder.mkdir()
    script = shutil.copy(ROOT / "jobs" / "sync_job.py", tmp_path)

    command = [
        *(str(Path(sys.executable).parent / "spark-submit"), "--master", "local[2]"),
        *("--packages", ",".join(packages()), "--exclude-packages", ",".join(EXCLUDED_JARS)),
        *(f"--conf={name}={value}" for name, value in SETTINGS.items()),
        *(f"--conf={name}={value}" for name, value in QUICKLY.items()),
        *("--py-files", str(wheel), script),
        *("birds", "lost", "trees", "--store", store.url, "--output", "json"),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"SPARK_HOME": str(Path(pyspark.__file__).parent), "PYSPARK_PYTHON": python}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )

    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert said["failed"] == ["lost"]
    assert [(one["outcome"], one["upserted"]) for one in said["collections"]] == [
        ("synced", 3),
        ("failed", None),
        ("synced", 3),
    ]
    assert f"error: lost: {said['collections'][1]['error']}" in done.stderr
    for name in ("birds", "trees"):
        rows, version = served_rows(store, name)
        assert ({key: row["body"] for key, row in rows.items()}, version) == (dict(enumerate(bodies(name))), 0)


def test_the_documented_call_names_the_jars_and_settings_that_work() -> None:
    page = SCHEDULING.read_text(encoding="utf-8")
    wanted = [*packages(), *(f"{name}={value}" for name, value in SETTINGS.items())]
    assert [text for text in wanted if text not in page] == []


def python_without_grebe(folder: Path) -> str:
    """Make an environment with the packages of this one, of which Grebe itself is none; return its interpreter."""
    venv.create(folder, with_pip=False)
    python = str(folder / "bin" / "python")
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()
    Path(purelib, "here.pth").write_text(sysconfig.get_path("purelib"))
    probe = subprocess.run(
        [python, "-c", "import pyspark; import indexer"], cwd=folder, env={}, capture_output=True, text=True, timeout=60
    )
    assert "No module named 'indexer'" in probe.stderr
    return python


def declare_collections(folder: Path) -> Store:
    store = Store.at(str(folder / "store"))
    for name in ("birds", "lost", "trees"):
        table = folder / name
        if name != "lost":
            rows = pa.table({"id": range(3), "body": bodies(name)})
            write_deltalake(str(table), rows, configuration={"delta.enableChangeDataFeed": "true"})
        apply(
            store,
            parse_spec(
                f"name: {name}\nsource: {{table: {table}}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\n"
                "vector: {model: 'hash:8'}"
            ),
        )
    return store


def bodies(name: str) -> list[str]:
    return [f"{name} {number}" for number in range(3)]
