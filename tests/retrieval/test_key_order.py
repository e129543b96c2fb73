"""The first rows by key are those that sorting all of them would give, however much passes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.format.keys import format_key
from retrieval import key_order
from retrieval.request import Page, SearchRequest
from retrieval.search import search
from retrieval.snapshot import Snapshot
from tests.retrieval.library import Doc, Library, spec_of

PRICES = (float("nan"), float("inf"), -float("inf"), -0.5, 0.0, 2.5)


@pytest.fixture(scope="module")
def walked() -> Iterator[None]:
    """Have every segment's order made at once, and walked through wherever that may be the shorter way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_order, "WORTH", 0)
        patch.setattr(key_order, "FIRST_BLOCK", 4)
        yield


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, walked: None) -> Iterator[Snapshot]:
    """Keys of three columns over three segments, in no order, rows of one and two chunks, some deleted."""
    library = Library(tmp_path_factory.mktemp("keys"), spec_of(key=["lang", "price", "id"], columns=["size"]))
    for part in range(3):
        docs = []
        for number in range(part, 240, 3):
            at = number * 77 % 240
            text = ("a ", "b") if number % 5 == 0 else ("a",)
            lang, price = ("ö", "", "z", "a,b")[at % 4], PRICES[at % len(PRICES)]
            docs.append(Doc(id=at, lang=lang, price=price, size=at % 50, bodies=text, vectors=(None,) * len(text)))
        library.add(*docs)
    library.remove(3, 77, 154, 200)
    with library.open() as snapshot:
        search(snapshot, SearchRequest())  # the first asking makes no order yet
        yield snapshot


def sorted_keys(snapshot: Snapshot, least: int) -> list[tuple[str, float, int]]:
    found = [
        (("ö", "", "z", "a,b")[at % 4], PRICES[at % len(PRICES)], at)
        for at in range(240)
        if at not in (3, 77, 154, 200) and at % 50 >= least
    ]
    return sorted(
        found, key=lambda key: (key[0], math.inf if math.isnan(key[1]) else key[1], math.isnan(key[1]), key[2])
    )


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.integers(0, 52), st.integers(1, 60), st.integers(-1, 239))
def test_the_first_by_key_are_those_of_all_sorted(several: Snapshot, least: int, k: int, after: int) -> None:
    expected = sorted_keys(several, least)
    behind = None
    if after >= 0 and expected:
        behind = expected[after % len(expected)]
        expected = expected[after % len(expected) + 1 :]
    page = None if behind is None else Page(after=format_key(behind))
    request = SearchRequest(filter="size >= :least", params={"least": least}, k=k, page=page)

    found = [hit.key for hit in search(several, request).results]

    assert list(map(str, found)) == list(map(str, expected[:k]))


def test_an_order_is_made_when_it_is_asked_for_again(several: Snapshot) -> None:
    search(several, SearchRequest(k=2))
    orders = [segment.by_key for segment in several.segments]
    assert [order is not None and len(order) for order in orders] == [80, 80, 80]
