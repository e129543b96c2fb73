"""The stages after fusion, over small real collections."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import DeadlineExceeded, RequestError
from retrieval.explanation import Collapsed, Decayed, Diversified, Explanation, Reranked
from retrieval.policies import ANYONE, Caller
from retrieval.refine.refiner import refiner_of
from retrieval.refine.stages import Collapse, Decay, Diversify, Rerank, Stages
from retrieval.request import Fusion, SearchRequest
from retrieval.response import Hit
from retrieval.search import search
from retrieval.snapshot import Snapshot
from retrieval.stopwatch import Stopwatch
from tests.models import cross_encoder_folder
from tests.retrieval.conftest import WORDS, random_docs
from tests.retrieval.library import DIM, Doc, Library, spec_of, unit

NOW = datetime(2026, 3, 1, tzinfo=UTC)
COLUMNS = ["lang", "colour", "size", "price", "day", "at", "local"]
MODEL = {"model": "words:overlap"}


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def aged(column: str = "at", scale: Any = "30d", **changed: Any) -> Stages:
    given: dict[str, Any] = {"column": column, "scale": scale, "origin": NOW}
    return Stages(decay=Decay(**given | changed))


def found(snapshot: Snapshot, stages: Stages, who: Caller = ANYONE, **request: Any) -> list[tuple[Any, Any]]:
    results = search(snapshot, SearchRequest(stages=stages, **request), caller=who).results
    return [(key[0], score) for key, score in zip(results.keys(), results.scores(), strict=True)]


def hits(snapshot: Snapshot, stages: Stages, **request: Any) -> Sequence[Hit]:
    return search(snapshot, SearchRequest(stages=stages, explain=True, **request)).results


def explained(hit: Hit) -> Explanation:
    assert hit.explanation is not None
    return hit.explanation


@pytest.fixture(scope="module")
def aging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    """Four rows whose cosines with ``unit(1)`` are 1, 0.8, 0.6 and 0, in two segments."""
    library = Library(tmp_path_factory.mktemp("aging"), spec_of(columns=COLUMNS))
    library.add(
        Doc(id=1, vectors=(unit(1),), at=days_ago(60), price=10.0, size=100),
        Doc(id=2, vectors=(unit(0.8, 0.6),), at=None, price=None, size=None),
    )
    library.add(
        Doc(id=3, vectors=(unit(0.6, 0.8),), at=days_ago(0), price=30.0, size=130),
        Doc(id=4, vectors=(unit(0, 1),), at=days_ago(-30), price=math.nan, size=160),
    )
    with library.open() as snapshot:
        yield snapshot


class TestDecay:
    @pytest.mark.parametrize("column", ["at", "local", "day"])
    def test_what_is_recent_comes_first_and_what_has_no_date_counts_as_one_scale_old(
        self, aging: Snapshot, column: str
    ) -> None:
        # 1 * 0.25 after sixty days, 0.8 * 0.5 without a date, 0.6 * 1 today, 0 a month ahead.
        assert found(aging, aged(column), vector=unit(1)) == [
            (3, pytest.approx(0.6)),
            (2, pytest.approx(0.4)),
            (1, pytest.approx(0.25)),
            (4, 0.0),
        ]

    def test_a_part_of_the_weight_takes_a_part_of_the_score(self, aging: Snapshot) -> None:
        assert found(aging, aged(weight=0.4), vector=unit(1), k=3) == [
            (1, pytest.approx(1 * (0.6 + 0.4 * 0.25))),
            (2, pytest.approx(0.8 * (0.6 + 0.4 * 0.5))),
            (3, pytest.approx(0.6)),
        ]

    @pytest.mark.parametrize(("column", "origin"), [("price", 30.0), ("size", 130)])
    def test_a_column_of_numbers_decays_from_the_number_that_is_given(
        self, aging: Snapshot, column: str, origin: float
    ) -> None:
        stages = aged(column, 10, origin=origin, kind="linear", offset=5, midpoint=0.2)

        # 1: 20 or 30 away, less 5, is beyond 10 / 0.8; 2 has no value.
        assert found(aging, stages, vector=unit(1), k=2) == [(3, pytest.approx(0.6)), (2, pytest.approx(0.16))]

    @pytest.mark.parametrize(
        "origin", ["2026-03-01", "2026-03-01T00:00:00Z", "2026-03-01T01:00:00+01:00", NOW, NOW.date(), days_ago(0)]
    )
    def test_the_origin_of_dates_is_iso_8601_or_a_date(self, aging: Snapshot, origin: Any) -> None:
        assert found(aging, aged(origin=origin), vector=unit(1)) == found(aging, aged(), vector=unit(1))

    def test_without_an_origin_it_is_the_requests_time(self, tmp_path: Path) -> None:
        library = Library(tmp_path, spec_of(columns=COLUMNS))
        library.add(Doc(id=1, vectors=(unit(1),), at=datetime.now(UTC) - timedelta(days=30)))
        with library.open() as snapshot:
            assert found(snapshot, aged(origin=None), vector=unit(1)) == [(1, pytest.approx(0.5, abs=1e-4))]

    def test_negative_scores_are_not_turned_round(self, tmp_path: Path) -> None:
        spec = spec_of(columns=COLUMNS, vector={"column": "embedding", "dim": DIM, "metric": "dot"})
        library = Library(tmp_path, spec)
        library.add(
            *(Doc(id=n, vectors=(unit(1) * np.float32(-n),), at=days_ago(90)) for n in (3, 1, 4)),
            Doc(id=2, vectors=(unit(1) * np.float32(-2),), at=days_ago(0)),
        )
        with library.open() as snapshot:
            assert [key for key, _ in found(snapshot, Stages(), vector=unit(1))] == [1, 2, 3, 4]
            # The scores -1 to -4 are 1, 2/3, 1/3 and 0 of the best: the fresh one rises, the others keep their order.
            assert found(snapshot, aged(), vector=unit(1)) == [
                (2, pytest.approx(2 / 3)),
                (1, pytest.approx(1 / 8)),
                (3, pytest.approx(1 / 24)),
                (4, 0.0),
            ]

    def test_rows_beyond_k_are_looked_at_and_rows_beyond_the_depth_are_not(self, aging: Snapshot) -> None:
        assert [key for key, _ in found(aging, aged(), vector=unit(1), k=1)] == [3]
        assert [key for key, _ in found(aging, aged(depth=2), vector=unit(1), k=1)] == [2]

    def test_equal_scores_are_ordered_by_key(self, tmp_path: Path) -> None:
        library = Library(tmp_path, spec_of(columns=COLUMNS))
        for number in (3, 1, 2):
            # The less similar, the younger: all come to the same, but for the key.
            library.add(Doc(id=number, vectors=(unit(1),), at=days_ago(30)))
        with library.open() as snapshot:
            assert found(snapshot, aged(), vector=unit(1), k=2) == [(1, 0.5), (2, 0.5)]

    def test_a_collection_without_rows_answers_nothing(self, library: Library) -> None:
        with library.open() as snapshot:
            assert found(snapshot, aged("size", 5, origin=1), vector=unit(1)) == []


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    library = Library(tmp_path_factory.mktemp("twins"))
    library.add(*(Doc(id=n, vectors=(unit(1, 0.1),), bodies=("solar solar",)) for n in range(6)))
    library.add(
        Doc(id=7, vectors=(unit(1, 0, 1),), bodies=("solar",)), Doc(id=8, bodies=("solar panel",), vectors=(None,))
    )
    with library.open() as snapshot:
        yield snapshot


class TestCollapse:
    def test_the_best_rows_of_each_value_stay_and_all_without_one(self, tmp_path: Path) -> None:
        library = Library(tmp_path)
        colours = ["red", "red", None, "blue", "red", None, "blue"]
        for half in (slice(0, 4), slice(4, 7)):
            library.add(
                *(
                    Doc(id=number, vectors=(unit(1, 0.1 * number),), colour=colour)
                    for number, colour in list(enumerate(colours))[half]
                )
            )
        with library.open() as snapshot:
            plain = dict(found(snapshot, Stages(), vector=unit(1), k=7))
            one = found(snapshot, Stages(collapse=Collapse(column="colour")), vector=unit(1), k=7)
            two = hits(snapshot, Stages(collapse=Collapse(column="colour", most=2)), vector=unit(1), k=5)

        assert one == [(key, plain[key]) for key in (0, 2, 3, 5)]
        assert [hit.key[0] for hit in two] == [0, 1, 2, 3, 5]
        assert [explained(hit).stages["collapse"] for hit in two] == [
            Collapsed(rank_before=rank, score_before=hit.score, turn=turn, most=2)
            for hit, rank, turn in zip(two, (1, 2, 3, 4, 6), (1, 2, 0, 1, 0), strict=True)
        ]

    @settings(derandomize=True, deadline=None, max_examples=50)
    @given(
        st.sampled_from(["id", "lang", "colour", "size"]),
        st.sampled_from([1, 2, 5]),
        st.sampled_from([5, 40]),
        st.sampled_from(WORDS),
    )
    def test_it_is_what_a_loop_over_the_list_leaves(
        self, shelf: Snapshot, column: str, most: int, k: int, word: str
    ) -> None:
        given: dict[str, Any] = {"query": word, "vector": unit(1, 1), "include": (column,)}
        seen: dict[Any, int] = {}
        left = []
        for hit in search(shelf, SearchRequest(k=200, **given)).results:
            value = hit.fields[column]
            seen[value] = seen.get(value, 0) + 1
            if value is None or seen[value] <= most:
                left.append((hit.key[0], hit.score))

        assert found(shelf, Stages(collapse=Collapse(column=column, most=most)), k=k, **given) == left[:k]

    @pytest.mark.parametrize(
        ("column", "message"),
        [("nope", "there is no field 'nope'"), ("tags", "tags is of type List"), ("body", "there is no field 'body'")],
    )
    def test_columns_that_it_cannot_go_by_are_refused(self, tmp_path: Path, column: str, message: str) -> None:
        library = Library(tmp_path, spec_of(columns=["tags"]))
        library.add(Doc(id=1, vectors=(unit(1),)))
        with library.open() as snapshot, pytest.raises(RequestError, match=message) as raised:
            found(snapshot, Stages(collapse=Collapse(column=column)), vector=unit(1))
        assert raised.value.field == "collapse.column"

    def test_a_masked_column_is_refused(self, tmp_path: Path) -> None:
        masked = [{"role": "reader", "masks": {"colour": "redact"}}]
        library = Library(tmp_path, spec_of(policies=masked))
        library.add(Doc(id=1, vectors=(unit(1),), colour="red"))
        stages = Stages(collapse=Collapse(column="colour"))
        with library.open() as snapshot, pytest.raises(RequestError, match="colour is masked for you"):
            found(snapshot, stages, Caller(roles=frozenset({"reader"})), vector=unit(1))

    @pytest.mark.parametrize("most", [0, True, 1.5, 1001])
    def test_most_is_a_whole_number(self, most: Any) -> None:
        with pytest.raises(RequestError, match="expected a whole number from 1 to 1000"):
            Collapse(column="colour", most=most)


class TestDiversify:
    def test_a_row_unlike_the_first_is_fetched_from_below_and_keeps_its_score(self, twins: Snapshot) -> None:
        plain = dict(found(twins, Stages(), vector=unit(1), k=8))

        diverse = found(twins, Stages(diversify=Diversify()), vector=unit(1), k=3)

        assert diverse == [(0, plain[0]), (7, plain[7]), (1, plain[1])]

    def test_a_row_without_a_vector_is_like_none(self, twins: Snapshot) -> None:
        given: dict[str, Any] = {"query": "solar", "mode": "keyword", "k": 3}

        assert [key for key, _ in found(twins, Stages(), **given)] == [0, 1, 2]
        assert [key for key, _ in found(twins, Stages(diversify=Diversify()), **given)] == [0, 8, 7]

    @pytest.mark.parametrize(("depth", "expected"), [(3, [0, 1, 2]), (8, [0, 7, 1])])
    def test_it_picks_from_the_depth(self, twins: Snapshot, depth: int, expected: list[int]) -> None:
        stages = Stages(diversify=Diversify(depth=depth))

        assert [key for key, _ in found(twins, stages, vector=unit(1), k=3)] == expected

    def test_vectors_count_by_their_direction_alone_and_in_half_precision_too(self, tmp_path: Path) -> None:
        vector = {"column": "embedding", "dim": DIM, "metric": "dot", "dtype": "float16"}
        library = Library(tmp_path, spec_of(vector=vector))
        library.add(
            Doc(id=1, vectors=(unit(1) * np.float32(9),)),
            Doc(id=2, vectors=(unit(1) * np.float32(8),)),
            Doc(id=3, vectors=(unit(3, 4) * np.float32(5),)),
        )
        with library.open() as snapshot:
            results = hits(snapshot, Stages(diversify=Diversify(diversity=0.7)), vector=unit(1))

        made = [explained(hit).stages["diversify"] for hit in results]
        assert [hit.key[0] for hit in results] == [1, 3, 2]
        assert [part.similarity for part in made if isinstance(part, Diversified)] == pytest.approx(
            [0.0, 0.6, 1.0], abs=1e-3
        )


class Spy:
    """Scores by length, and notes what it was shown."""

    batch = 4

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []

    def scores(self, query: str, passages: Sequence[str]) -> npt.NDArray[np.float32]:
        self.shown += [(query, passage) for passage in passages]
        return np.array([len(passage) for passage in passages], np.float32)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    policies = [{"role": "untitled", "masks": {"title": "redact"}}]
    library = Library(tmp_path_factory.mktemp("books"), spec_of(rerank=MODEL, policies=policies))
    library.add(
        Doc(id=1, title="heat", bodies=("pump",), vectors=(unit(1),)),
        Doc(id=2, title="grid", bodies=("solar panel",), vectors=(unit(1, 0.1),)),
        Doc(id=3, bodies=("heat ", "pump solar panel"), vectors=(unit(0.5, 1), unit(1, 0.2))),
        Doc(id=4, bodies=("pump",), vectors=(unit(1, 0.3),)),
    )
    with library.open() as snapshot:
        yield snapshot


class TestRerank:
    def test_the_rerankers_score_replaces_the_one_before_and_ties_go_by_key(self, books: Snapshot) -> None:
        who = Caller(unrestricted=True)
        ask: dict[str, Any] = {"query": "solar panel pump", "vector": unit(1), "mode": "vector", "who": who}

        ranked = found(books, Stages(rerank=Rerank()), **ask)

        # Three, two, one and one of the three words: 3, 1, -1 and -1 less those that are missing.
        assert [key for key, _ in ranked] == [3, 2, 1, 4]
        assert [score for _, score in ranked] == pytest.approx([1 / (1 + math.exp(-x)) for x in (3, 1, -1, -1)])

    def test_it_is_shown_the_query_and_the_passages_of_the_depth_and_no_hidden_text(self, books: Snapshot) -> None:
        request = SearchRequest(query="heat", vector=unit(1), k=2, mode="vector", stages=Stages(rerank=Rerank(depth=3)))
        seen, masked = Spy(), Spy()

        search(books, request, caller=Caller(unrestricted=True), reranker=seen)
        search(books, request, caller=Caller(roles=frozenset({"untitled"})), reranker=masked)

        assert set(seen.shown) == {
            ("heat", text) for text in ("heat\n\npump", "grid\n\nsolar panel", "pump solar panel")
        }
        assert {passage for _, passage in masked.shown} == {"pump solar panel", "pump"}

    def test_a_cross_encoder_of_the_spec_is_loaded_where_none_is_given(self, tmp_path: Path) -> None:
        folder = cross_encoder_folder(tmp_path / "model", WORDS)
        library = Library(tmp_path, spec_of(rerank={"model": folder}))
        library.add(*random_docs(20, first_id=0, seed=4))
        with library.open() as snapshot:
            results = hits(snapshot, Stages(rerank=Rerank()), query="solar heat", mode="keyword", k=5)

        raw = [part.raw_score for hit in results if isinstance(part := explained(hit).stages["rerank"], Reranked)]
        assert len(set(raw)) > 1
        assert raw == sorted(raw, reverse=True)
        assert [hit.score for hit in results] == pytest.approx([1 / (1 + math.exp(-each)) for each in raw])


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    library = Library(tmp_path_factory.mktemp("staged"), spec_of(rerank=MODEL))
    library.add(*random_docs(60, first_id=100, seed=1))
    library.add(*random_docs(40, first_id=0, seed=2))
    library.remove(100, 103, 7)
    with library.open() as snapshot:
        yield snapshot


def near(size: float, **changed: Any) -> Decay:
    given: dict[str, Any] = {"column": "size", "scale": 20, "origin": size}
    return Decay(**given | changed)


stages = st.builds(
    Stages,
    rerank=st.none() | st.builds(Rerank, depth=st.none() | st.integers(10, 60)),
    decay=st.none() | st.builds(near, st.integers(0, 100), kind=st.sampled_from(["exp", "gauss", "linear"])),
    diversify=st.none() | st.builds(Diversify, diversity=st.sampled_from([0.0, 0.3, 1.0])),
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(stages, st.sampled_from(["hybrid", "vector", "keyword"]), st.sampled_from(["minmax", "rrf"]), st.integers(1, 10))
def test_every_score_can_be_recomputed_from_its_explanation(
    shelf: Snapshot, asked: Stages, mode: Any, fusion: Any, k: int
) -> None:
    request = {"query": "solar heat pump", "vector": unit(1, 0.5), "mode": mode, "k": k, "fusion": Fusion(kind=fusion)}

    results = hits(shelf, asked, **request)

    assert len(results) == k
    for hit in results:
        why = explained(hit)
        score = sum(part.added for part in why.legs.values())
        assert list(why.stages) == list(asked.names)
        for part in why.stages.values():
            assert part.score_before == pytest.approx(score)
            match part:
                case Reranked():
                    score = 1 / (1 + math.exp(-part.raw_score))
                case Decayed():
                    score = part.relevance * (1 - part.weight + part.weight * part.factor)
                case Diversified():
                    assert part.penalty == part.diversity * part.similarity
                    assert part.mmr == pytest.approx((1 - part.diversity) * part.relevance - part.penalty)
        assert hit.score == pytest.approx(score)
    if asked.diversify is None:
        assert [(-hit.score, hit.key) for hit in results] == sorted((-hit.score, hit.key) for hit in results)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.sampled_from(["hybrid", "vector", "keyword"]), st.integers(1, 60))
def test_stages_that_change_nothing_give_the_plain_order(shelf: Snapshot, mode: Any, k: int) -> None:
    request: dict[str, Any] = {"query": "solar heat pump", "vector": unit(1, 0.5), "mode": mode, "k": k}
    idle = Stages(decay=near(1, weight=0.0), diversify=Diversify(diversity=0.0))

    assert [key for key, _ in found(shelf, idle, **request)] == [key for key, _ in found(shelf, Stages(), **request)]


def test_each_stage_has_its_time_and_without_stages_there_is_none(shelf: Snapshot) -> None:
    asked = Stages(rerank=Rerank(), decay=near(5), diversify=Diversify())
    request: dict[str, Any] = {"query": "solar", "mode": "keyword"}

    staged = search(shelf, SearchRequest(stages=asked, **request)).took_ms
    plain = search(shelf, SearchRequest(**request)).took_ms

    assert list(staged) == ["filter", "embed", "keyword", "fuse", "rerank", "decay", "diversify", "total"]
    assert list(plain) == ["filter", "embed", "keyword", "fuse", "total"]


def test_the_deadline_is_looked_at_before_each_stage(shelf: Snapshot) -> None:
    plain = SearchRequest(query="solar", mode="keyword")
    ranked = search(shelf, plain).results._ranked
    request = SearchRequest(query="solar", mode="keyword", stages=Stages(decay=near(5)), deadline=time.monotonic() - 1)

    with pytest.raises(DeadlineExceeded, match="before the stage decay"):
        refiner_of(shelf, request, shelf.sight_of(ANYONE), None).refine(shelf.segments, ranked, None, Stopwatch())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"column": "siez"}, r"decay\.column: there is no field 'siez' \(did you mean size\?\)"),
        ({"column": "lang"}, r"decay\.column: lang is of type String \(a decay goes by a date"),
        ({"column": "title"}, r"decay\.column: there is no field 'title'"),
        ({"scale": "30d"}, r"decay\.scale: expected a number, because size is of numbers, got '30d'"),
        ({"offset": "1d"}, r"decay\.offset: expected a number, because size is of numbers"),
        ({"origin": None}, r"decay\.origin: expected a number, .*give the number from which the distance counts"),
        ({"origin": "now"}, r"decay\.origin: expected a number"),
        ({"origin": 10**400}, r"decay\.origin: expected a number"),
    ],
)
def test_a_decay_that_does_not_fit_the_collection_is_refused(
    shelf: Snapshot, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        found(shelf, Stages(decay=near(1, **given)), query="solar")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": 30}, r"decay\.scale: expected a duration, because at is of dates, got 30 \(as in '30d' or '12h'\)"),
        ({"offset": 2.5}, r"decay\.offset: expected a duration, because at is of dates"),
        ({"origin": 5}, r"decay\.origin: expected a date or time, got 5"),
        ({"origin": "yesterday"}, r"decay\.origin: expected a date or time, got 'yesterday' \(as in '2026-03-01'"),
    ],
)
def test_a_decay_by_dates_wants_durations_and_dates(aging: Snapshot, given: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        found(aging, aged(**given), vector=unit(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Decay(column="at", scale="3 months"), r"decay\.scale: .*got '3 months' \(months and years have no"),
        (lambda: Decay(column="at", scale="0d"), r"decay\.scale: must be above 0, got '0d'"),
        (lambda: Decay(column="at", scale=math.inf), r"decay\.scale: expected a duration or a finite number"),
        (lambda: Decay(column="at", scale=10**400), r"decay\.scale: expected a duration or a finite number"),
        (lambda: Decay(column="at", scale=1, offset=-1), r"decay\.offset: must be at least 0"),
        (lambda: Decay(column="at", scale=1, midpoint=1.0), r"decay\.midpoint: must be between 0 and 1, got 1\.0"),
        (lambda: Decay(column="at", scale=1, weight=1.5), r"decay\.weight: must be from 0 to 1"),
        (lambda: aged(kind="half"), r"decay\.kind: expected 'exp', 'gauss' or 'linear'"),
        (lambda: Diversify(diversity=math.nan), r"diversify\.diversity: must be from 0 to 1, got nan"),
        (lambda: Rerank(depth=1001), r"rerank\.depth: expected a whole number from 1 to 1000, got 1001"),
    ],
)
def test_stages_are_checked_where_they_are_made(make: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {"stages": Stages(diversify=Diversify(depth=5)), "query": "x"},
            r"diversify\.depth: must be at least k, which",
        ),
        ({"stages": Stages(rerank=Rerank()), "vector": [1.0]}, r"rerank: there is no query.*\(give 'query'\)"),
        ({"stages": Stages(decay=near(5)), "filter": "size > 1"}, r"decay: there is no query .*a filter alone ranks"),
    ],
)
def test_a_request_whose_stages_lack_something_is_refused(request_: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        SearchRequest(**request_)


def test_a_collection_without_a_reranking_model_says_how_to_get_one(aging: Snapshot) -> None:
    with pytest.raises(RequestError, match=r"rerank: this collection has no reranking model .*rerank: \{model: ...\}"):
        found(aging, Stages(rerank=Rerank()), query="solar", mode="keyword")


def test_no_stage_gets_more_rows_than_the_one_before_leaves() -> None:
    every = Stages(rerank=Rerank(), decay=near(5), diversify=Diversify(depth=20))

    assert every.depths(10) == {"rerank": 50, "decay": 50, "diversify": 20}
    assert every.depths(20) == {"rerank": 50, "decay": 50, "diversify": 20}
    assert Stages(decay=near(5), diversify=Diversify()).depths(300) == {"decay": 300, "diversify": 300}
    assert Stages().depths(7) == {}
