"""A caller's answer is the answer of a collection that has only what the caller may see."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import SpecError
from retrieval.errors import FilterError, RequestError
from retrieval.explanation import Diversified
from retrieval.filter import CompiledFilter, compile_filter
from retrieval.policies import ANYONE, OPERATOR, WHOLE, Caller, Sight, check_policies
from retrieval.refine.stages import Decay, Diversify, Rerank, Stages
from retrieval.request import SearchRequest
from retrieval.response import SearchResponse
from retrieval.rows import get_row
from retrieval.search import search
from retrieval.snapshot import Snapshot
from tests.retrieval.conftest import WORDS, Shelf, random_docs
from tests.retrieval.library import DIM, Doc, Library, nearest, spec_of, unit

POLICIES: list[dict[str, Any]] = [
    {"role": "red", "rows": "colour = 'red'"},
    {"role": "small", "rows": "size < :most"},
    {"role": "listed", "rows": "\"colour\" IN (:colours) AND id::text <> '120'", "dialect": "postgres"},
    {"role": "all"},
]
SEES: dict[str, Any] = {
    "red": lambda doc: doc.colour == "red",
    "small": lambda doc: doc.size < 40,
    "listed": lambda doc: doc.colour in ("green", "blue") and doc.id != 120,
    "all": lambda doc: True,
    "none": lambda doc: False,
}
CLAIMS: Mapping[str, object] = {"most": 40, "colours": ["green", "blue"], "unused": "x"}
WHERE: dict[str | None, Any] = {
    None: lambda doc: True,
    "size < 60": lambda doc: doc.size < 60,
    "colour <> 'red'": lambda doc: doc.colour not in (None, "red"),
    "id = 120": lambda doc: doc.id == 120,
    "1 = 1": lambda doc: True,
    "1 = 2": lambda doc: False,
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    library = Library(tmp_path_factory.mktemp("governed"), spec_of(policies=POLICIES))
    segments = [random_docs(60, first_id=100, seed=1), random_docs(40, first_id=0, seed=2)]
    for docs in segments:
        library.add(*docs)
    gone = {100, 103, 159, 0, 7}
    library.remove(*gone)
    with library.open() as snapshot:
        yield Shelf(snapshot, tuple(doc for docs in segments for doc in docs if doc.id not in gone))


def caller(*roles: str, **claims: object) -> Caller:
    return Caller(roles=frozenset(roles), claims={**CLAIMS, **claims}, hash_key=b"key")


def found(snapshot: Snapshot, who: Caller, **request: Any) -> list[tuple[int, float]]:
    results = search(snapshot, SearchRequest(**request), caller=who).results
    return [(key[0], score) for key, score in zip(results.keys(), results.scores(), strict=True)]


roles = st.lists(st.sampled_from(list(SEES)), max_size=3, unique=True)


def sees(doc: Doc, names: list[str]) -> bool:
    return any(SEES[name](doc) for name in names)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    roles,
    st.lists(st.floats(-1, 1, width=16), min_size=DIM, max_size=DIM).filter(lambda v: max(map(abs, v)) > 0.1),
    st.sampled_from(list(WHERE)),
    st.sampled_from([1, 5, 1000]),
)
def test_the_vector_leg_gives_a_full_page_of_what_the_roles_see(
    shelf: Shelf, names: list[str], values: list[float], where: str | None, k: int
) -> None:
    query = unit(*values)
    expected = nearest(shelf.docs, query, 1000, lambda doc: sees(doc, names) and WHERE[where](doc))
    scores = {doc.id: max((float(v @ query) for v in doc.vectors if v is not None), default=-2.0) for doc in shelf.docs}

    keys = [key for key, _ in found(shelf.snapshot, caller(*names), vector=query, k=k, filter=where)]

    assert [scores[key] for key in keys] == pytest.approx([scores[key] for key in expected[:k]], abs=1e-6)
    assert set(keys) <= set(expected)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(roles, st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), st.sampled_from(list(WHERE)))
def test_the_keyword_leg_is_the_operators_less_what_the_roles_do_not_see(
    shelf: Shelf, names: list[str], words: list[str], where: str | None
) -> None:
    request: dict[str, Any] = {"query": " ".join(words), "mode": "keyword", "filter": where, "k": 1000}
    seen = {doc.id for doc in shelf.docs if sees(doc, names)}

    everything = found(shelf.snapshot, OPERATOR, **request)

    assert found(shelf.snapshot, caller(*names), **request) == [hit for hit in everything if hit[0] in seen]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(roles, st.sampled_from(list(WHERE)))
def test_rows_in_key_order_and_single_rows_are_those_that_the_roles_see(
    shelf: Shelf, names: list[str], where: str | None
) -> None:
    who = caller(*names)
    seen = sorted(doc.id for doc in shelf.docs if sees(doc, names))
    passing = {doc.id for doc in shelf.docs if WHERE[where](doc)}

    keys = [key for key, _ in found(shelf.snapshot, who, filter=where, k=1000)]

    assert keys == [key for key in seen if key in passing]
    sight = shelf.snapshot.sight_of(who)
    assert [doc.id for doc in shelf.docs if get_row(shelf.snapshot, (doc.id,), sight)] == [
        doc.id for doc in shelf.docs if doc.id in set(seen)
    ]


def test_without_a_role_a_claim_or_a_value_of_the_right_type_there_are_no_rows(shelf: Shelf) -> None:
    strangers = [
        ANYONE,
        caller(),
        caller("unknown"),
        Caller(roles=frozenset({"small"})),
        caller("small", most=None),
        caller("small", most="forty"),
        caller("small", most=[1, 2]),
        caller("listed", colours=7),
    ]

    for who in strangers:
        assert found(shelf.snapshot, who, filter="TRUE") == []
        assert found(shelf.snapshot, who, query="solar", vector=unit(1)) == []
        assert get_row(shelf.snapshot, (120,), shelf.snapshot.sight_of(who)) is None


def test_a_claim_that_is_null_is_no_claim(tmp_path: Path) -> None:
    library = Library(tmp_path, spec_of(policies=[{"role": "r", "rows": ":team IS NULL OR colour = :team"}]))
    library.add(Doc(id=1))
    with library.open() as snapshot:
        assert found(snapshot, Caller(roles=frozenset({"r"}), claims={"team": None}), filter="TRUE") == []
        assert found(snapshot, Caller(roles=frozenset({"r"}), claims={"team": "red"}), filter="TRUE") == [(1, 0.0)]


def test_a_policy_of_the_time_is_evaluated_once_for_a_search(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = 0
    mask = CompiledFilter.mask

    def counted(filter_: CompiledFilter, frame: pl.DataFrame) -> Any:
        nonlocal evaluated
        evaluated += 1
        return mask(filter_, frame)

    monkeypatch.setattr(CompiledFilter, "mask", counted)
    sight = Sight(
        rows=compile_filter(
            "size < 50 AND current_timestamp > TIMESTAMP '2020-01-01'",
            dialect="databricks",
            schema=shelf.snapshot.filter_schema,
        )
    )
    for _ in range(3):
        shelf.snapshot.passing(None, sight)

    assert evaluated == len(shelf.snapshot.views)


def test_who_runs_the_server_can_learn_why_a_policy_let_nothing_through(shelf: Shelf) -> None:
    assert shelf.snapshot.sight_of(Caller(roles=frozenset({"small"}))).troubles == {
        "small": "the caller has no claim most"
    }
    assert "they can't be compared" in shelf.snapshot.sight_of(caller("small", most="forty")).troubles["small"]
    assert search(
        shelf.snapshot, SearchRequest(filter="TRUE"), caller=Caller(roles=frozenset({"small"}))
    ).closed_policies


def test_a_claim_is_a_value_and_never_a_piece_of_sql(shelf: Shelf) -> None:
    assert found(shelf.snapshot, caller("listed", colours=["x') OR 1=1 --"]), filter="TRUE") == []


def test_the_plan_counts_what_the_caller_sees_and_no_more(shelf: Shelf) -> None:
    request = SearchRequest(query="solar", vector=unit(1), filter="size < 60", explain=True)
    seen = [doc for doc in shelf.docs if doc.colour == "red"]

    plan = search(shelf.snapshot, request, caller=caller("red")).plan

    assert plan.chunks == sum(len(doc.bodies) for doc in seen)
    assert plan.passing == sum(len(doc.bodies) for doc in seen if doc.size is not None and doc.size < 60)
    assert (plan.segments, plan.keyword) == ((), None)
    assert search(shelf.snapshot, request, caller=OPERATOR).plan.segments


def test_a_filter_is_never_shown_a_row_that_its_caller_may_not_see(tmp_path: Path) -> None:
    library = Library(tmp_path, spec_of(policies=[{"role": "red", "rows": "colour = 'red'"}]))
    library.add(Doc(id=1, colour="red", lang="open"), Doc(id=2, colour="blue", lang="secret"))
    shown: list[str] = []

    def note(values: pl.Series) -> pl.Series:
        shown.extend(values.to_list())
        return values.is_not_null()

    spy = CompiledFilter(
        columns=frozenset({"lang"}),
        uses_now=False,
        cacheable=True,
        cache_key="spy",
        _expression=lambda: pl.col("lang").map_batches(note, return_dtype=pl.Boolean),
    )
    with library.open() as snapshot:
        assert snapshot.passing(spy, snapshot.sight_of(caller("red"))).count == 1
        assert shown == ["open"]
        assert snapshot.passing(spy, WHOLE).count == 2


def test_callers_with_other_claims_never_share_what_is_cached(shelf: Shelf) -> None:
    for most in (10, 90, 10, 40):
        keys = [key for key, _ in found(shelf.snapshot, caller("small", most=most), filter="id > 90", k=1000)]
        assert keys == sorted(doc.id for doc in shelf.docs if doc.size is not None and doc.size < most and doc.id > 90)


def test_what_a_caller_sees_is_made_once_for_equal_claims_and_never_taken_for_another_type(shelf: Shelf) -> None:
    first, again = (shelf.snapshot.sight_of(caller("small", most=40, unused=n)) for n in (1, 2))

    assert first.rows is again.rows is not None
    assert first.seen is not again.seen
    assert shelf.snapshot.sight_of(caller("small", most=40.0)).rows is not first.rows
    assert shelf.snapshot.sight_of(caller("small", most=True)).troubles.keys() == {"small"}


def test_a_caller_is_told_from_another_by_every_claim_that_a_policy_asks_for(tmp_path: Path) -> None:
    rows = "colour = :colour AND size < :most"
    library = Library(tmp_path, spec_of(policies=[{"role": "r", "rows": rows}]))
    library.add(Doc(id=1, size=10), Doc(id=2, size=20), Doc(id=3, colour="blue", size=10))
    with library.open() as snapshot:
        for colour, most, expected in (("red", 15, [1]), ("red", 25, [1, 2]), ("blue", 25, [3]), ("red", 15, [1])):
            keys = [key for key, _ in found(snapshot, caller("r", colour=colour, most=most), filter="TRUE")]
            assert keys == expected


def test_a_policy_that_asks_for_the_time_is_made_anew_for_each_search(tmp_path: Path) -> None:
    library = Library(tmp_path, spec_of(policies=[{"role": "red", "rows": "current_date > DATE '2020-01-01'"}]))
    library.add(Doc(id=1))
    with library.open() as snapshot:
        assert snapshot.sight_of(caller("red")).rows is not snapshot.sight_of(caller("red")).rows


MASKS: list[dict[str, Any]] = [
    {"role": "masked", "masks": {"colour": "redact", "size": "hash", "title": "redact"}},
    {"role": "hashed", "masks": {"colour": "hash", "size": "hash"}},
    {"role": "claimless", "rows": "size = :nothing"},
    {"role": "bodiless", "masks": {"body": "redact", "title": "hash"}},
    {"role": "bodied", "masks": {"body": "redact"}},
    {"role": "titled", "masks": {"title": "redact"}},
]


@pytest.fixture
def masked(tmp_path: Path) -> Iterator[Snapshot]:
    library = Library(tmp_path, spec_of(policies=MASKS))
    library.add(
        Doc(id=1, title="heat", bodies=("pumps. ", "boilers."), vectors=(unit(1), unit(0, 1)), size=4),
        Doc(id=2, title="heat pumps", bodies=("else",), vectors=(unit(1, 0.1),), colour=None, size=4),
        Doc(id=3, bodies=("pumps and heat",), vectors=(unit(1, 0.2),), size=5),
    )
    with library.open() as snapshot:
        yield snapshot


def answer(snapshot: Snapshot, who: Caller, **request: Any) -> SearchResponse:
    return search(snapshot, SearchRequest(include=("colour", "size", "title", "body"), **request), caller=who)


def test_masked_columns_are_redacted_or_hashed_under_the_key(masked: Snapshot) -> None:
    response = answer(masked, caller("masked"), filter="id > 0")

    one, two, three = (hit.fields for hit in response.results)
    assert [hit.fields["colour"] is None for hit in answer(masked, caller("hashed"), filter="id > 0").results] == [
        False,
        True,
        False,
    ]
    assert response.masked == ("colour", "size", "title")
    assert [(hit["colour"], hit["title"]) for hit in (one, two, three)] == [(None, None)] * 3
    assert len(one["size"]) == 64
    assert one["size"] == two["size"] != three["size"]
    other = answer(masked, replace(caller("masked"), hash_key=b"other"), filter="id > 0").results[0].fields
    assert other["size"] != one["size"]
    keyless = answer(masked, replace(caller("masked"), hash_key=None), filter="id > 0").results[0].fields
    assert keyless["size"] is None


def test_of_several_roles_a_column_is_masked_if_all_of_them_mask_it(masked: Snapshot) -> None:
    both = answer(masked, caller("masked", "hashed"), filter="id = 1").results[0].fields

    assert both["title"] == "heat"
    assert len(both["colour"]) == len(both["size"]) == 64


def test_a_role_whose_policy_does_not_count_unmasks_nothing(masked: Snapshot) -> None:
    hit = answer(masked, caller("masked", "claimless"), filter="id = 1").results[0]

    assert (hit.fields["colour"], hit.fields["title"]) == (None, None)


@pytest.mark.parametrize("where", ["colour = 'red'", "id = 1 OR size > 3", "COLOUR IS NULL"])
def test_a_masked_column_cannot_be_filtered_by(masked: Snapshot, where: str) -> None:
    with pytest.raises(FilterError, match="masked for you and cannot be filtered by") as raised:
        answer(masked, caller("masked"), filter=where)

    assert raised.value.code == "filter_masked_column"


def test_a_masked_text_field_takes_no_part_in_any_leg_nor_passage(masked: Snapshot) -> None:
    who = caller("masked")

    words = answer(masked, who, query="heat", mode="keyword").results
    meaning = answer(masked, who, vector=unit(1)).results

    assert [hit.key for hit in words] == [(3,)]
    # The chunks that hold a title are out: of row 1 the second chunk is left, of row 2 nothing.
    assert [(hit.key, hit.text) for hit in meaning] == [((3,), "pumps and heat"), ((1,), "boilers.")]
    assert [hit.text for hit in answer(masked, who, filter="id = 1").results] == ["pumps. "]


def test_with_every_text_field_masked_both_legs_are_empty(masked: Snapshot) -> None:
    assert len(answer(masked, caller("bodiless"), query="pumps", vector=unit(1)).results) == 0
    assert [hit.text for hit in answer(masked, caller("bodiless"), filter="id = 3").results] == [""]


def test_callers_with_other_masked_text_do_not_share_what_is_cached(masked: Snapshot) -> None:
    # Row 1's second chunk has no title; rows 1 to 3 have a body in each chunk.
    expected = {"titled": [3, 1], "bodied": [], "bodiless": [], "hashed": [1, 2, 3]}

    for role in ("hashed", "titled", "bodied", "titled", "bodiless", "hashed", "bodied"):
        found = answer(masked, caller(role), vector=unit(1), mode="vector", filter="id > 0").results
        assert [hit.key[0] for hit in found] == expected[role], role
        assert [hit.key[0] for hit in answer(masked, caller(role), vector=unit(1)).results] == expected[role], role


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Snapshot, dict[str, Snapshot]]]:
    """A collection, and by role one that has only what the role sees: other segments, other rows, no titles."""
    reranked: dict[str, Any] = {"rerank": {"model": "words:overlap"}}
    docs = [*random_docs(60, first_id=100, seed=1), *random_docs(40, first_id=0, seed=2)]
    whole = Library(
        tmp_path_factory.mktemp("staged"),
        spec_of(policies=[*POLICIES, {"role": "untitled", "masks": {"title": "redact"}}], **reranked),
    )
    whole.add(*docs[:60])
    whole.add(*docs[60:])
    seen = {role: [doc for doc in docs if SEES[role](doc)] for role in ("red", "small", "listed", "all")}
    seen["untitled"] = [
        replace(doc, title=None, vectors=(None if doc.title else doc.vectors[0], *doc.vectors[1:])) for doc in docs
    ]
    with ExitStack() as opened:
        parts = {}
        for role, rows in seen.items():
            part = Library(tmp_path_factory.mktemp(role), spec_of(**reranked))
            part.add(*rows)
            parts[role] = opened.enter_context(part.open())
        yield opened.enter_context(whole.open()), parts


near_size = st.builds(
    Decay,
    column=st.just("size"),
    scale=st.sampled_from([5, 40]),
    origin=st.integers(0, 100),
    kind=st.sampled_from(["exp", "linear"]),
)
some_stages = st.builds(
    Stages,
    rerank=st.none() | st.builds(Rerank, depth=st.sampled_from([10, 30])),
    decay=st.none() | near_size,
    diversify=st.none() | st.builds(Diversify, diversity=st.sampled_from([0.2, 0.5, 1.0]), depth=st.just(20)),
)


# How rare a word is, is of the whole collection: by words an answer is the same only where all rows are seen.
@pytest.mark.parametrize(
    ("role", "mode"),
    [
        *(("red", "vector"), ("small", "vector"), ("listed", "vector")),
        *itertools.product(("all", "untitled"), ("vector", "keyword", "hybrid")),
    ],
)
@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    some_stages,
    st.lists(st.sampled_from(WORDS), min_size=2, max_size=3, unique=True),
    st.lists(st.floats(-1, 1, width=16), min_size=DIM, max_size=DIM).filter(lambda v: max(map(abs, v)) > 0.1),
    st.sampled_from(list(WHERE)),
)
def test_after_every_stage_an_answer_is_that_of_a_collection_of_what_the_caller_sees(
    staged: tuple[Snapshot, dict[str, Snapshot]],
    role: str,
    mode: Any,
    asked: Stages,
    words: list[str],
    values: list[float],
    where: str | None,
) -> None:
    whole, parts = staged
    given: dict[str, Any] = {"query": " ".join(words), "vector": unit(*values), "mode": mode, "filter": where}
    request = SearchRequest(stages=asked, explain=True, k=10, **given)

    restricted = search(whole, request, caller=caller(role)).results

    assert [(hit.key, hit.score, hit.text, hit.explanation) for hit in restricted] == [
        (hit.key, hit.score, hit.text, hit.explanation) for hit in search(parts[role], request).results
    ]


@pytest.mark.parametrize("role", ["masked", "hashed"])
def test_a_masked_column_cannot_be_ranked_by(masked: Snapshot, role: str) -> None:
    stages = Stages(decay=Decay(column="size", scale=1, origin=4))

    with pytest.raises(RequestError, match="size is masked for you, so that nothing can be ranked") as raised:
        answer(masked, caller(role), vector=unit(1), stages=stages)

    assert (raised.value.field, raised.value.code) == ("decay.column", "decay_masked_column")
    assert len(answer(masked, caller("titled"), vector=unit(1), stages=stages).results) == 2


def test_vectors_of_masked_text_take_no_part_in_diversity(masked: Snapshot) -> None:
    # By its title row 2 is like row 1; for who may not see titles, nothing is known of either's first chunk.
    request: dict[str, Any] = {"query": "pumps else", "mode": "keyword", "explain": True}
    stages = Stages(diversify=Diversify())

    def similarities(role: str) -> list[float]:
        made = [hit.explanation for hit in answer(masked, caller(role), stages=stages, **request).results]
        parts = [why.stages["diversify"] for why in made if why is not None]
        return [part.similarity for part in parts if isinstance(part, Diversified)]

    assert max(similarities("hashed")) > 0.9
    assert similarities("titled") == [0.0, 0.0, 0.0]


def test_a_plan_does_not_tell_how_long_masked_text_is(masked: Snapshot) -> None:
    plan = answer(masked, caller("titled"), vector=unit(1), filter="id = 1", explain=True).plan

    assert (plan.chunks, plan.passing, plan.segments, plan.keyword) == (None, None, (), None)
    row = get_row(masked, (1,), masked.sight_of(caller("titled")))
    assert row is not None
    assert row.n_chunks is None
    open_row = get_row(masked, (1,), masked.sight_of(caller("hashed")))
    assert open_row is not None
    assert open_row.n_chunks == 2


def test_a_single_row_is_masked_alike(masked: Snapshot) -> None:
    row = get_row(masked, (1,), masked.sight_of(caller("masked")))

    assert row is not None
    assert (row.fields["colour"], row.fields["title"], row.fields["body"]) == (None, None, "pumps. boilers.")
    assert len(row.fields["size"]) == 64


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("colour = ", r"policies\.0\.rows: .*too early"),
        ("team = :team AND colour = 'x'", r"policies\.0\.rows: there is no column 'team'.*`columns` names"),
        ("id IN (SELECT 1)", r"policies\.0\.rows: a subquery is not allowed"),
        ("colour = ?", r"policies\.0\.rows: parameters are written :name"),
        ("colour = current_user", r"policies\.0\.rows: .*not allowed"),
        ("1", r"policies\.0\.rows: 1 is a BIGINT, not a condition"),
        ("sum(size) > 1", r"policies\.0\.rows: the function sum is not allowed"),
    ],
)
def test_a_predicate_that_can_never_be_used_is_refused(rows: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check_policies(spec_of(policies=[{"role": "r", "rows": rows}]))


def test_a_predicate_is_checked_in_its_own_dialect() -> None:
    rows = "colour::text = :c"
    check_policies(spec_of(policies=[{"role": "r", "rows": '"colour" ILIKE :c', "dialect": "postgres"}]))
    check_policies(spec_of(policies=[{"role": "r", "rows": rows, "dialect": "postgres"}]))
    with pytest.raises(SpecError, match=r"policies\.0\.rows"):
        check_policies(spec_of(policies=[{"role": "r", "rows": "`colour` = :c", "dialect": "postgres"}]))


def test_types_that_are_known_are_checked() -> None:
    types = {"id": "bigint", "colour": "string", "size": "int", "lang": "map<string,string>"}
    check_policies(spec_of(policies=POLICIES), types)
    check_policies(spec_of(policies=[{"role": "r", "rows": "lang = 5 OR size > :s"}]), types)
    for rows in ("colour = 5", "colour", "size = 'x'", "colour IN (:c) AND size"):
        with pytest.raises(SpecError, match=r"policies\.0\.rows"):
            check_policies(spec_of(policies=[{"role": "r", "rows": rows}]), types)


def test_a_row_that_allows_groups_is_seen_by_whoever_is_in_one(tmp_path: Path) -> None:
    policies = [{"role": "member", "rows": "arrays_overlap(tags, :groups)"}]
    library = Library(tmp_path, spec_of(columns=["tags"], policies=policies))
    library.add(
        *(Doc(id=1, tags=("sales", "all")), Doc(id=2, tags=("hr",)), Doc(id=3, tags=())),
        Doc(id=4, tags=None),
    )
    with library.open() as snapshot:

        def seen(**claims: object) -> list[int]:
            request = SearchRequest(filter="1 = 1", k=10)
            results = search(snapshot, request, caller=caller("member", **claims)).results
            return sorted(hit.key[0] for hit in results)

        assert seen(groups=["sales", "it"]) == [1]
        assert seen(groups=["all", "hr"]) == [1, 2]
        assert seen(groups=[]) == []
        assert seen() == []
        assert seen(groups="hr") == []
        assert seen(groups=[1]) == []
        assert snapshot.sight_of(caller("member", groups="hr")).troubles["member"].endswith("give :groups as a list")


def test_a_predicate_over_groups_is_checked_as_far_as_the_types_tell() -> None:
    types = {"id": "bigint", "tags": "array<string>", "colour": "string"}

    def check(rows: str, types: Mapping[str, str]) -> None:
        check_policies(spec_of(columns=["tags", "colour"], policies=[{"role": "r", "rows": rows}]), types)

    check("arrays_overlap(tags, :groups)", types)
    check("arrays_overlap(tags, :groups)", {})
    with pytest.raises(SpecError, match=r"policies\.0\.rows: .*write colour IN \(:groups\)"):
        check("arrays_overlap(colour, :groups)", types)
    with pytest.raises(SpecError, match=r"policies\.0\.rows: .*arrays_overlap\(tags, :names\)"):
        check("tags IN (:groups)", types)


def test_predicates_over_stored_columns_are_accepted_in_any_case() -> None:
    check_policies(spec_of(policies=POLICIES))
    check_policies(spec_of(policies=[{"role": "r", "rows": "COLOUR = :c AND Size > 1"}]))
