from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indexer.format.store import Store
from indexer.spec import FusionKind
from jobs.errors import EvaluationError
from jobs.judgements import Judgements, read_judgements, read_queries
from jobs.local import LocalCollection
from jobs.metrics import quality
from jobs.tuning import KINDS, SHARES, _best, _chance, _held_out, tune
from retrieval.request import Fusion, SearchRequest
from tests.api.library import ANIMALS, Library, book
from tests.jobs.command import Grebe, grebe_on

WORDS = ("river", "story", "otter", "heron", "badger", "kestrel", "newt", "the", "by", "of")


def judged(seed: int, documents: int) -> tuple[dict[str, str], Judgements]:
    rng = np.random.default_rng(seed)
    queries = {f"q{number}": " ".join(rng.choice(WORDS, 3)) for number in range(24)}
    grades = {
        query: {str(int(at)): int(rng.integers(0, 3)) for at in rng.choice(documents, 6, replace=False)}
        for query in queries
    }
    return queries, {query: grades[query] | {str(int(query[1:])): 1} for query in queries}


def said(stage: str, done: int, total: int | None) -> None:
    """Nobody looks at the progress."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tuned")
    Library(root, fusion={"kind": "rrf", "weights": {"vector": 3, "keyword": 1}}).commit(
        1, [book(number, body=f"{ANIMALS[number % 5]} " * (number % 7 + 1)) for number in range(60)]
    )
    return root


@pytest.fixture(scope="module")
def collection(root: Path) -> Iterator[LocalCollection]:
    with LocalCollection(Store.at(str(root / "store")), "books", root / "cache") as opened:
        yield opened


@pytest.fixture
def grebe(capfd: pytest.CaptureFixture[str]) -> Grebe:
    return grebe_on(capfd)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.35, 0.5, 1.0])
def test_what_is_measured_is_what_searches_with_that_fusion_give(
    collection: LocalCollection, kind: FusionKind, share: float
) -> None:
    queries, grades = judged(1, 60)
    curve = tune(collection, queries, grades, said).curves[kind]

    fusion = Fusion(kind=kind, weights={"vector": share, "keyword": 1 - share})
    rankings = {
        query: [str(key[0]) for key, _ in collection.scored(SearchRequest(query=text, fusion=fusion, k=10))]
        for query, text in queries.items()
    }

    assert curve[SHARES.tolist().index(share)] == pytest.approx(quality(grades, rankings)["ndcg@10"], abs=6e-5)


def test_now_is_the_specs_own_fusion_and_the_best_is_the_top_of_the_curves(collection: LocalCollection) -> None:
    found = tune(collection, *judged(1, 60), said)
    assert (found.now.fusion.kind, found.now.fusion.weights.vector) == ("rrf", 3)
    assert found.now.ndcg == pytest.approx(found.curves["rrf"][SHARES.tolist().index(0.75)])
    assert found.best.ndcg == pytest.approx(max(max(curve) for curve in found.curves.values()))
    assert found.queries == 24


def test_a_setting_is_judged_by_queries_that_had_no_part_in_its_choice() -> None:
    rng = np.random.default_rng(3)
    chance = rng.random((2 * len(SHARES), 200))
    assert chance[_best(chance, np.ones(200, np.bool_))].mean() > chance.mean() + 0.03  # the best of many looks good
    assert abs(_held_out(chance).mean() - chance.mean()) < 0.03  # and is no better
    better = chance.copy()
    better[7] += 0.2
    assert _held_out(better).mean() > chance.mean() + 0.15


def test_how_likely_a_gain_is_by_chance() -> None:
    rng = np.random.default_rng(8)
    assert _chance(np.full(5, 0.1)) == pytest.approx(1 / 32, abs=0.004)  # all five the same way
    assert _chance(np.zeros(50)) == 1.0
    assert _chance(rng.normal(0.3, 1, 400)) < 0.001
    assert 0.3 < _chance(np.tile([1.0, -1.0], 50)) < 0.7


def test_of_equally_good_settings_the_evenest_weights_are_the_best() -> None:
    same = np.ones((2 * len(SHARES), 12))
    assert SHARES[_best(same, np.ones(12, np.bool_)) % len(SHARES)] == 0.5


def test_too_few_queries_and_unknown_documents_are_refused(collection: LocalCollection) -> None:
    queries, grades = judged(2, 60)
    few = dict(list(queries.items())[:9])
    with pytest.raises(
        EvaluationError,
        match="there are 9 queries with a document of a grade above 0, and 10 are needed: of 9 queries and j",
    ):
        tune(collection, few, grades, said)
    with pytest.raises(EvaluationError, match="name them by their keys"):
        tune(collection, queries, {query: {"books/1": 1} for query in queries}, said)


def test_a_collection_without_a_model_has_nothing_to_fuse(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.commit(1, [book(1)])
    with LocalCollection(library.store, "books", tmp_path / "cache") as opened:
        spec = opened.spec
        plain = spec.model_copy(update={"vector": spec.vector.model_copy(update={"model": None, "column": "v"})})
        opened._snapshot.spec = plain
        with pytest.raises(EvaluationError, match="no model that embeds queries"):
            tune(opened, *judged(1, 60), said)


def test_the_command_shows_the_curve_and_what_to_put_into_the_spec(root: Path, tmp_path: Path, grebe: Grebe) -> None:
    queries, _ = judged(1, 60)
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"id": q, "text": t}) + "\n" for q, t in queries.items()))
    (tmp_path / "a.tsv").write_text("".join(f"{q}\t{int(q[1:])}\t1\n" for q in queries))
    asked = ["tune", "books", "--queries", tmp_path / "q.jsonl", "--judgements", tmp_path / "a.tsv"]
    asked += ["--store", root / "store"]

    shown = grebe(*asked)

    assert shown.code == 0
    for part in ("ndcg@10 of 24 judged queries", "█", "standard error"):
        assert part in shown.out
    ends = ("fusion: {kind:", "may well be chance", "has the best already")
    assert sum(end in shown.out for end in ends) == 1
    assert "in " in shown.out.partition("by chance alone as much")[2]
    told = grebe(*asked, "--output", "json").json
    assert told["held_out"].keys() == {"gain", "standard_error", "chance", "sure"}
    assert told["queries"] == 24
    assert len(told["curves"]["rrf"]) == len(SHARES)


@pytest.mark.parametrize("line", ['{"id": 1}', "[1]", '{"id": 1, "text": 2}', "{"])
def test_a_wrong_line_of_queries_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "a", "text": "b"}\n' + line + "\n")
    with pytest.raises(EvaluationError, match=r"q\.jsonl"):
        read_queries(tmp_path / "q.jsonl")


@pytest.mark.parametrize("line", ["q\t1", "q 1 1", "q\t1\tgood", "q\t1\t1\t1"])
def test_a_wrong_line_of_judgements_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.tsv").write_text(f"q\t1\t1\n{line}\n")
    with pytest.raises(EvaluationError, match=r"a\.tsv:2: expected a query, a document and a whole number"):
        read_judgements(tmp_path / "a.tsv")
