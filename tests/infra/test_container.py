"""The images' Dockerfile: no engine builds it here, so what it says is held against what is there, and run."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake

from api.settings import ServeSettings
from benchmarks.replicas import until
from tests.api.library import Library, book
from tests.infra.dockerfile import ROOT, stages

STAGES = stages((ROOT / "infra" / "Dockerfile").read_text())
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
FOR_SPARK = ("pyspark", "py4j", "delta", "snowflake")


def pinned(name: str) -> dict[str, str]:
    found = re.findall(r"^([a-z0-9._-]+)(?:\[.*\])?==(\S+)", (ROOT / name).read_text(), flags=re.MULTILINE)
    return dict(found)


def test_what_is_copied_is_there_and_not_kept_from_the_build() -> None:
    sources = [source for stage in STAGES.values() for source in stage.sources]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    let_in = [line.removeprefix("!") for line in IGNORED if line.startswith("!")]
    assert [source for source in sources if not any(Path(source).is_relative_to(name) for name in let_in)] == []
    assert [name for name in let_in if not any(Path(source).is_relative_to(name) for source in sources)] == []


def test_copies_between_stages_name_earlier_ones_and_no_registry_is_named() -> None:
    names = list(STAGES)
    for stage in STAGES.values():
        before = names[: names.index(stage.name)]
        taken = [re.match(r"--from=(\S+)", copy.text) for copy in stage.all("COPY")]
        assert [found[1] for found in taken if found and found[1] not in before] == []
        assert stage.base in before or stage.base == "${PYTHON_IMAGE}"
    text = (ROOT / "infra" / "Dockerfile").read_text()
    (image,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", text, flags=re.MULTILINE)
    assert re.fullmatch(r"python:3\.1[1-9]-slim-\w+", image)
    assert re.findall(r"\w+://(?!127\.0\.0\.1)\S+", text) == []


def test_every_stage_installs_only_what_is_pinned_and_hashed() -> None:
    runs = [run.text for stage in STAGES.values() for run in stage.all("RUN")]
    installs = [part for run in runs for part in run.split("&&") if re.search(r"pip (install|wheel)", part)]
    assert installs
    assert [part for part in installs if "--require-hashes" not in part and "--no-index" not in part] == []


def test_the_images_have_the_versions_that_are_tested_and_serving_has_nothing_of_sparks() -> None:
    tested, serve, sync = (
        pinned(name) for name in ("requirements.txt", "infra/image/serve.txt", "infra/image/sync.txt")
    )
    here_only = {"colorama"}  # for Windows, which no image is
    for image in (serve, sync, pinned("infra/image/build.txt")):
        assert {name: version for name, version in image.items() if tested.get(name) != version}.keys() <= here_only
    assert not {"pytest", "moto", "lancedb", "mypy"} & sync.keys()
    assert {name for name in sync if name not in serve} == {
        "delta-spark",
        "importlib-metadata",
        "py4j",
        "pyspark",
        "snowflake-connector-python",
        "zipp",
    }


@pytest.mark.parametrize("name", ["serve", "sync"])
def test_an_image_runs_as_a_numbered_user_and_gets_signals_itself(name: str) -> None:
    stage = STAGES[name]
    assert stage.last("USER").text == "10001:10001"
    assert "--uid 10001" in STAGES["runtime"].last("RUN").text
    assert stage.last("ENTRYPOINT").listed == ["grebe"]
    command = [*stage.last("ENTRYPOINT").listed[1:], *stage.last("CMD").listed]
    help_text = subprocess.run(
        [sys.executable, "-m", "jobs", command[0], "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert [word for word in command if word.startswith("--") and word not in help_text] == []


def test_where_it_listens_is_the_environments_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = STAGES["serve"]
    assert [word for word in stage.last("CMD").listed if word.startswith("-")] == []
    for name, value in stage.environment.items():
        monkeypatch.setenv(name, value)
    assert (ServeSettings.load().host, str(ServeSettings.load().port)) == ("0.0.0.0", stage.last("EXPOSE").text)

    monkeypatch.setenv("GREBE_PORT", "9000")

    assert ServeSettings.load().port == 9000


def test_the_last_stage_and_so_the_default_one_serves() -> None:
    assert list(STAGES)[-1] == "serve"
    assert "jdk" not in " ".join(run.text for run in STAGES["serve"].all("RUN") + STAGES["runtime"].all("RUN"))


def test_the_wheel_is_built_from_what_is_copied_by_the_command_that_is_given(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for name in STAGES["wheel"].sources:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / Path(name).name)
    (run,) = [run.text for run in STAGES["wheel"].all("RUN") if "pip wheel" in run.text]
    words = run.replace("/wheels", str(tmp_path / "wheels")).split()[1:]  # after the pip of a clean environment

    made = subprocess.run([*pip(), *words], cwd=source, capture_output=True, text=True, timeout=300, check=False)

    assert made.returncode == 0, made.stderr
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "jobs/commands/serve.py" in archive.namelist()


def pip() -> list[str]:
    """Return the command of a pip that builds with this environment's hatchling."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
        return [sys.executable, "-m", "pip"]
    subprocess.run([sys.executable, "-m", "ensurepip"], capture_output=True, check=True, timeout=120)
    return [sys.executable, "-m", "pip"]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_fails_where_livez_does(status: int, code: int) -> None:
    text = STAGES["serve"].last("HEALTHCHECK").text
    command = STAGES["serve"].last("HEALTHCHECK").listed
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with listening(Answers) as port:
        environment = STAGES["serve"].environment | {"GREBE_PORT": str(port)}
        done = subprocess.run(
            [sys.executable, *command[1:]], env=environment, capture_output=True, timeout=60, check=False
        )
    assert (done.returncode, asked) == (code, ["/livez"])
    assert command[0] == "python"
    assert "--interval=" in text


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def without_spark(library: Library, tmp_path: Path) -> dict[str, str]:
    """An environment in which there is neither Java nor a package of Spark's, and the store of ``library``."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {FOR_SPARK!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    return {
        "PATH": "/nonexistent",
        "HOME": "/nonexistent",
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": f"{hook}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "GREBE_STORE": str(library.root),
        "GREBE_CACHE": str(tmp_path / "cache"),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        "status",
        "search books otter --mode keyword",
        "history books",
        "compact books --purge",
        "vacuum --all --dry-run",
        "receipt books 1",
        "init others --table {table}",
        "apply -f {spec}",
        "doctor",
        "drop books --yes",
    ],
)
def test_what_reads_no_table_needs_no_spark(
    library: Library, without_spark: dict[str, str], tmp_path: Path, arguments: str
) -> None:
    library.commit(1, [book(1), book(2)])
    library.commit(2, [], [book(1)])
    table = tmp_path / "table"
    rows = pa.table({"id": [1], "title": ["a"], "body": ["b"], "shelf": ["c"], "pages": [1]})
    write_deltalake(str(table), rows, configuration={"delta.enableChangeDataFeed": "true"})
    spec = tmp_path / "books.yaml"
    spec.write_text(yaml.safe_dump(library.spec.model_dump(mode="json")))
    command = [sys.executable, "-m", "jobs", *arguments.format(table=table, spec=spec).split()]

    done = subprocess.run(command, env=without_spark, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stderr) == (0, done.stderr)
    assert "not installed here" not in done.stderr


def test_serving_needs_neither_java_nor_a_package_of_sparks_nor_a_writable_folder_but_its_own(
    library: Library, without_spark: dict[str, str], tmp_path: Path
) -> None:
    library.commit(1, [book(1)])
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs", "serve", "--port", "0"], env=without_spark, cwd="/", stdout=log, stderr=log
        )
    try:
        until(lambda: "Serving on" in (tmp_path / "log").read_text(), "a server", seconds=60)
    except TimeoutError:
        pytest.fail((tmp_path / "log").read_text())
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_patterns_of_the_ignore_file_leave_no_secret_in() -> None:
    for name in (".git/config", ".env", ".venv/pyvenv.cfg", "tests/conftest.py", ".grebe/store/x"):
        let_in = [line.removeprefix("!") for line in IGNORED if line.startswith("!")]
        assert not any(Path(name).is_relative_to(entry) or fnmatch.fnmatch(name, entry) for entry in let_in)
    assert IGNORED[0] == "*"
