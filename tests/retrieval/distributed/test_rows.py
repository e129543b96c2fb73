from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from retrieval.distributed.messages import Asker, Part
from retrieval.distributed.nearby import NearbyNodes
from retrieval.distributed.routed import Asked
from retrieval.distributed.rows import get_rows_of_nodes
from retrieval.errors import DeadlineExceeded, NodeDiffers, RequestError
from retrieval.policies import ANYONE, Caller
from retrieval.rows import Row, get_rows
from tests.retrieval.distributed.conftest import PARTS, SHARDS, Spread, spread_of
from tests.retrieval.library import Doc, Library, spec_of


def both(
    spread: Spread, keys: Sequence[Sequence[Any]], caller: Caller = ANYONE, **more: Any
) -> tuple[list[Row | None], list[Row | None]]:
    """Return what one machine has of ``keys`` for ``caller``, and what the nodes have."""
    where = [f"keys.{number}" for number in range(len(keys))]
    one = get_rows(spread.whole, keys, spread.whole.sight_of(caller), where=where, **more)
    return one, get_rows_of_nodes(spread.routed, keys, caller, where=where, **more)


@pytest.mark.parametrize("names", [None, ("size",), ("body",), ("title", "size", "id"), ()])
def test_rows_are_read_whole_from_whichever_node_has_them(spread: Spread, names: tuple[str, ...] | None) -> None:
    one, several = both(spread, [[key] for key in (238, 0, 3, 1, 17, 0, 999)], names=names)
    assert several == one
    assert [row and row.key for row in several] == [(238,), (0,), None, (1,), (17,), (0,), None]
    assert {row.n_chunks for row in several if row} == {2}


def test_each_node_is_asked_once_for_all_keys(spread: Spread, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    ask = NearbyNodes.ask

    def counted(nodes: NearbyNodes, asker: Asker, questions: Mapping[int, Part], *, deadline: float | None) -> Asked:
        asked.extend(questions)
        return ask(nodes, asker, questions, deadline=deadline)

    monkeypatch.setattr(NearbyNodes, "ask", counted)
    both(spread, [[key] for key in range(200)])
    assert sorted(asked) == list(range(PARTS))


def test_a_wrong_key_is_refused_before_anybody_is_asked(spread: Spread) -> None:
    wrong: list[tuple[list[list[Any]], str]] = [
        ([["three"]], "keys.0"),
        ([[1], [2], [1, 2]], "keys.2"),
        ([[1], [None]], "keys.1"),
    ]
    for keys, field in wrong:
        with pytest.raises(RequestError, match=f"^{field}: "):
            get_rows_of_nodes(spread.routed, keys, ANYONE, where=[f"keys.{at}" for at in range(len(keys))])


@pytest.mark.parametrize("key", [["at"], ["local"], ["amount"], ["price"], ["lang", "id"], ["day", "amount"]])
def test_keys_of_every_type_are_found(tmp_path: Path, key: list[str]) -> None:
    library = Library(tmp_path, spec_of(key=key, columns=["size"], shards=SHARDS))
    first = datetime(1969, 12, 30, 23, tzinfo=UTC)
    docs = [
        Doc(
            id=at,
            lang="abc"[at % 3],
            at=first + at * timedelta(days=1, microseconds=7),
            price=at / 7,
            amount=Decimal(at),
        )
        for at in range(12)
    ]
    for shard in range(SHARDS):
        library.add(*docs[shard::SHARDS], shard=shard)
    with spread_of(library) as spread:
        one, several = both(spread, [[getattr(doc, name) for name in key] for doc in docs])
    assert several == one
    assert None not in several


@pytest.mark.parametrize("isolation", [None, {"tenant": "lang"}])
def test_every_node_shows_what_the_caller_may_see_and_no_more(tmp_path: Path, isolation: dict[str, str] | None) -> None:
    masks = {"title": "redact", "size": "hash"}
    policies = [{"role": "reader", "rows": "lang = :lang AND id < 9", "masks": masks}]
    spec = spec_of(shards=SHARDS, key=["lang", "id"], columns=["size"], policies=policies, isolation=isolation)
    library, langs = Library(tmp_path, spec), ("en", "de", "fr")
    for shard, lang in enumerate(langs):
        text: dict[str, Any] = {"title": "A title", "bodies": ("one ", "two"), "vectors": (None, None)}
        library.add(*(Doc(id=n, lang=lang, **text) for n in range(12)), shard=shard)
    keys = [[lang, n] for n in range(12) for lang in langs]
    with spread_of(library) as spread:
        for claims, seen in (({"lang": "de"}, 9), ({"lang": "en"}, 9), ({"lang": "es"}, 0), ({}, 0)):
            caller = Caller(roles=frozenset({"reader"}), claims=claims, hash_key=b"key")
            one, several = both(spread, keys, caller)
            assert several == one
            rows = [row for row in several if row is not None]
            assert [row.key for row in rows] == [(claims.get("lang"), n) for n in range(seen)]
            assert {(row.fields["title"], row.fields["body"], row.n_chunks) for row in rows} <= {
                (None, "one two", None)
            }
            assert all(isinstance(row.fields["size"], str) for row in rows)


def test_a_node_of_other_policies_does_not_answer(tmp_path: Path) -> None:
    library = Library(tmp_path, spec_of(shards=SHARDS))
    library.add(Doc(id=1))
    with spread_of(library) as spread:
        spread.snapshots[1].govern(spec_of(shards=SHARDS, policies=[{"role": "reader", "rows": "size > 3"}]))
        with pytest.raises(NodeDiffers):
            both(spread, [[1]])


def test_an_empty_collection_has_no_row(tmp_path: Path) -> None:
    with spread_of(Library(tmp_path, spec_of(shards=SHARDS))) as spread:
        assert both(spread, [[3], ["x"]]) == ([None, None], [None, None])


def test_a_passed_deadline_ends_the_reading(spread: Spread) -> None:
    with pytest.raises(DeadlineExceeded):
        get_rows(spread.whole, [[1]], spread.whole.sight_of(ANYONE), where=["key"], deadline=0.0)
