from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from retrieval.sql import run
from tests.jobs.command import Grebe, grebe_on

SPEC = """
name: birds
source: {{kind: delta, table: {table}}}
key: [id]
text: {{fields: {{name: 2.0, about: 1.0}}}}
vector: {{model: "hash:64"}}
columns: [weight]
"""
ROWS = [
    {"id": 1, "name": "grebe", "about": "dives for fish in a lake", "weight": 1.1},
    {"id": 2, "name": "heron", "about": "waits for fish at the shore", "weight": 1.8},
    {"id": 3, "name": "owl", "about": "hunts mice at night", "weight": None},
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    rows = pa.Table.from_pylist(ROWS)
    write_deltalake(str(folder / "table"), rows, configuration={"delta.enableChangeDataFeed": "true"})
    (folder / "birds.yaml").write_text(SPEC.format(table=folder / "table"))
    return folder


@pytest.fixture
def grebe(house: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Grebe:
    monkeypatch.setenv("GREBE_STORE", str(house / "store"))
    monkeypatch.setenv("GREBE_CACHE", str(house / "cache"))
    monkeypatch.delenv("GREBE_DEBUG", raising=False)
    monkeypatch.chdir(house)

    return grebe_on(capfd)


@pytest.fixture
def synced(grebe: Grebe, house: Path, spark: SparkSession) -> Grebe:
    if not (house / "done").exists():
        assert grebe("apply", "-f", "birds.yaml", "-o", "json").json == {"collection": "birds", "outcome": "created"}
        said = grebe("sync", "birds", "--output", "json")
        assert said.code == 0, said.err
        assert (said.json["source_version"], said.json["upserted"]) == (0, 3)
        (house / "done").touch()
    return grebe


def test_search_answers_as_json_with_the_filter_and_its_parameter(synced: Grebe, house: Path) -> None:
    said = synced("search", "birds", "fish", "--filter", "weight > :w", "--param", "w=1.5", "-o", "json")
    assert said.code == 0
    assert [(hit["key"], hit["fields"]) for hit in said.json["results"]] == [(2, {"id": 2, "weight": 1.8})]
    assert said.json["source"]["version"] == DeltaTable(str(house / "table")).version()
    assert said.json["age_seconds"] >= 0


def test_search_shows_a_table_and_explains(synced: Grebe) -> None:
    said = synced("search", "birds", "fish in a lake", "--explain", "-k", 1)
    assert said.code == 0
    assert "grebe dives for fish in a lake" in said.out
    assert "Why 1 scores" in said.out
    assert {"keyword", "vector"} <= set(said.out.split())


def test_search_finds_rows_like_another_without_it(synced: Grebe) -> None:
    said = synced("search", "birds", "--like", "1", "-k", 2, "-o", "json")

    assert [hit["key"] for hit in said.json["results"]] == [2, 3]
    assert "give what to look for, --like or --filter" in " ".join(synced("search", "birds").err.split())


def test_sql_answers_as_a_table_as_csv_and_as_json(synced: Grebe) -> None:
    text = "SELECT id, name, NULL AS nothing FROM birds WHERE id <> 2 ORDER BY id"

    said = synced("sql", text)
    assert [line.split() for line in said.out.splitlines()] == [
        ["id", "name", "nothing"],
        ["1", "grebe", "NULL"],
        ["3", "owl", "NULL"],
    ]
    assert re.match(r"2 rows, source version \d, index version \d", said.err)
    assert synced("sql", text, "-o", "csv").out == "id,name,nothing\n1,grebe,\n3,owl,\n"
    as_json = synced("sql", text, "-o", "json").json
    assert (as_json["rows"], as_json["truncated"]) == ([[1, "grebe", None], [3, "owl", None]], False)


def test_sql_writes_all_rows_of_a_statement_page_by_page(synced: Grebe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "DEFAULT_ROWS", 1)

    assert synced("sql", "SELECT id FROM birds", "-o", "csv").out == "id\n1\n"
    assert synced("sql", "SELECT id FROM birds", "-o", "csv", "--all").out == "id\n1\n2\n3\n"
    said = synced("sql", "SELECT name FROM birds ORDER BY id DESC", "-o", "json", "--all")
    assert (said.json["rows"], said.json["truncated"]) == ([["owl"], ["heron"], ["grebe"]], False)
    assert synced("sql", "SELECT id FROM birds WHERE id < 0", "-o", "csv", "--all").out == "id\n"
    for wrong in (["--all"], ["--all", "-o", "csv"]):
        text = "SELECT id FROM birds" + (" LIMIT 2" if "-o" in wrong else "")
        assert synced("sql", text, *wrong).code == 2


def test_sql_binds_parameters_searches_and_reads_from_stdin(synced: Grebe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT id, passage() FROM birds WHERE search(:q) LIMIT :n"))

    said = synced("sql", "-", "-p", "q=mice at night", "-p", "n=1", "-o", "json")

    assert said.json["rows"] == [[3, "owl\n\nhunts mice at night"]]


def test_sql_points_at_what_is_wrong(synced: Grebe) -> None:
    said = synced("sql", "SELECT wait FROM birds")

    assert (said.code, said.out) == (1, "")
    assert "there is no column 'wait' (line 1, column 8); did you mean weight" in said.err
    assert "SELECT wait FROM birds\n       ^^^^" in said.err
    assert "did you mean 'birds'?" in synced("sql", "SELECT 1 FROM brids").err


@pytest.mark.parametrize("narrowed", [("--filter", "weight > 100"), ("--mode", "vector", "--min-similarity", "0.99")])
def test_a_search_that_finds_nothing_says_so(synced: Grebe, narrowed: tuple[str, ...]) -> None:
    said = synced("search", "birds", "fish", *narrowed)
    assert (said.code, said.out.splitlines()[0].strip()) == (0, "nothing was found")


def test_a_search_takes_context_and_collapses(synced: Grebe) -> None:
    said = synced("search", "birds", "fish in a lake", "--context", 2, "--collapse", "weight", "-k", 2, "-o", "json")
    assert said.code == 0
    assert len({hit["fields"]["weight"] for hit in said.json["results"]}) == 2


def test_a_wrong_filter_is_a_sentence_with_its_place(synced: Grebe) -> None:
    said = synced("search", "birds", "fish", "--filter", "wait > 1")
    assert (said.code, said.out) == (1, "")
    first, text, carets = said.err.splitlines()
    assert first.startswith("error: ")
    assert "'wait'" in first
    assert (text.strip(), carets.strip()) == ("wait > 1", "^^^^")


def test_a_similarity_that_no_cosine_reaches_is_a_sentence(synced: Grebe) -> None:
    said = synced("search", "birds", "fish", "--min-similarity", 35)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: min_similarity: expected a cosine, from -1 to 1, got 35 (")


def test_status_counts_what_is_there(synced: Grebe) -> None:
    found = synced("status", "birds", "-o", "json").json
    assert (found["name"], found["chunks"], found["dead_letters"]) == ("birds", 3, 0)
    assert found["segments"] >= 1
    assert found["age_seconds"] is not None
    assert [each["name"] for each in synced("status", "-o", "json").json["collections"]] == ["birds"]
    assert "birds" in synced("status").out


def test_an_unchanged_spec_changes_nothing_and_another_text_needs_a_rebuild(synced: Grebe, house: Path) -> None:
    assert synced("apply", "-f", "birds.yaml", "-o", "json").json["outcome"] == "unchanged"
    other = house / "other.yaml"
    other.write_text((house / "birds.yaml").read_text().replace("name: 2.0, ", ""))
    said = synced("apply", "-f", other)
    assert said.code == 1
    assert "--rebuild" in said.err


def test_a_change_at_the_source_is_searchable_after_the_next_sync(synced: Grebe, house: Path) -> None:
    DeltaTable(str(house / "table")).update(updates={"weight": "0.3"}, predicate="id = 3")
    version = DeltaTable(str(house / "table")).version()
    assert synced("sync", "birds", "-o", "json").json["source_version"] == version
    said = synced("search", "birds", "owl", "-k", 1, "-o", "json")
    assert said.json["results"][0]["fields"]["weight"] == 0.3


def test_apply_warns_of_a_models_folder_that_is_not_there(grebe: Grebe, house: Path) -> None:
    spec = house / "lost.yaml"
    text = (house / "birds.yaml").read_text().replace("name: birds", "name: lost", 1)
    spec.write_text(text.replace("hash:64", "./no-model"))

    said = grebe("apply", "-f", spec)

    assert said.code == 0
    assert "Warning: ./no-model: no such folder here; a sync cannot load the model from it" in said.err
    assert grebe("drop", "lost", "--yes").code == 0


def test_drop_asks_first_and_then_deletes_the_index_alone(
    grebe: Grebe, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = house / "gone.yaml"
    spec.write_text((house / "birds.yaml").read_text().replace("name: birds", "name: gone", 1))
    assert grebe("apply", "-f", spec).code == 0
    monkeypatch.setattr("sys.stdin", io.StringIO())
    unanswered = grebe("drop", "gone")
    assert unanswered.code == 1
    assert "nobody answered; to go on without being asked: --yes" in unanswered.err
    assert grebe("status", "gone").code == 0
    assert grebe("drop", "gone", "--yes").code == 0
    assert grebe("status", "gone").code == 1
    assert DeltaTable(str(house / "table")).version() >= 0


def test_an_unknown_collection_is_a_sentence_and_exit_code_1(grebe: Grebe) -> None:
    said = grebe("search", "nobody", "anything")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: there is no collection 'nobody'")
    assert "Traceback" not in said.err


def test_a_misspelt_collection_is_told_what_was_probably_meant(synced: Grebe) -> None:
    assert synced("search", "brids", "anything").err.rstrip().endswith("; did you mean 'birds'?")
    assert synced("drop", "brids", "--yes").err.rstrip().endswith("; did you mean 'birds'?")


def test_a_search_before_the_first_sync_says_what_to_do(grebe: Grebe, house: Path) -> None:
    spec = house / "early.yaml"
    spec.write_text((house / "birds.yaml").read_text().replace("name: birds", "name: early", 1))
    assert grebe("apply", "-f", spec).code == 0

    said = grebe("search", "early", "anything")

    assert (said.code, said.out) == (1, "")
    assert said.err == "error: 'early' has not been loaded yet: `grebe sync early` loads it\n"
    assert grebe("drop", "early", "--yes").code == 0


def test_debug_shows_where_an_error_came_from(grebe: Grebe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREBE_DEBUG", "1")
    assert "Traceback" in grebe("status", "nobody").err


def test_a_bad_spec_names_file_line_and_field(grebe: Grebe, house: Path) -> None:
    (house / "bad.yaml").write_text("name: birds\nsauce: {}\n")
    said = grebe("apply", "-f", "bad.yaml")
    assert said.code == 1
    assert "bad.yaml:2: sauce: unknown key" in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "birds"),
        ("search", "birds", "q", "--mode", "magic"),
        ("search", "birds", "q", "--param", "lonely"),
        ("sync", "birds", "--interval", "soon"),
        ("fly",),
    ],
    ids=" ".join,
)
def test_wrong_use_is_exit_code_2(grebe: Grebe, arguments: tuple[str, ...]) -> None:
    said = grebe(*arguments)
    assert (said.code, said.out) == (2, "")


def test_init_writes_a_spec_once(grebe: Grebe, house: Path) -> None:
    assert grebe("init", "fresh", "--table", house / "table").code == 0
    assert "key: [id]" in (house / "fresh.yaml").read_text()
    said = grebe("init", "fresh")
    assert said.code == 1
    assert "exists already" in said.err


def test_init_warns_of_a_key_that_rows_share(grebe: Grebe, tmp_path: Path) -> None:
    table = tmp_path / "table"
    write_deltalake(str(table), pa.table({"id": [1, 1], "body": ["a", "b"]}))
    said = grebe("init", "shared", "--table", table, "--file", tmp_path / "shared.yaml")
    assert said.code == 0
    assert f"Warning: 'id' does not identify the rows of {table}: of 2 rows 1 repeats another's" in said.err


def test_serving_beyond_this_machine_is_refused(grebe: Grebe) -> None:
    said = grebe("serve", "--host", "0.0.0.0")
    assert said.code == 1
    assert "not a loopback address" in said.err


COMMANDS = (
    *("init", "apply", "drop", "sync", "serve", "search", "sql", "status", "eval", "demo", "doctor"),
    *("history", "rollback", "receipt", "compact", "vacuum"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(grebe: Grebe, command: str) -> None:
    said = grebe(command, "--help")
    assert said.code == 0
    assert f"grebe {command} " in said.out.replace("\n", " ")


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "pyspark", "faiss", "polars", "pyarrow", "fastapi", "deltalake", "pydantic")
    probe = f"import sys, jobs.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


AT_THE_END = """
import atexit, sys, threading, time
from jobs import cli
atexit.register(print, "cleared away")
threading.Thread(target=lambda: (time.sleep(0.3), print("wrote the last line"))).start()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
sys.argv[1:] = {arguments!r}
cli.command()
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["no-such-command"], 2), (["apply"], 2)])
def test_the_command_ends_with_its_code_after_threads_and_exit_handlers(arguments: list[str], code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", AT_THE_END.format(arguments=arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout.splitlines()[-2:]) == (code, ["wrote the last line", "cleared away"])


def test_a_reader_that_has_gone_is_no_stack_trace() -> None:
    line = f"{{ sleep 0.5; {sys.executable} -m jobs --help; }} | true; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("1\n", "")
