from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.share import Share, part_of, parts_of


@given(shards=st.integers(1, 40), parts=st.integers(1, 12), collection=st.text(max_size=8))
def test_each_shard_is_in_one_share_and_shares_are_even(shards: int, parts: int, collection: str) -> None:
    shares = [Share(part, parts) for part in range(parts)]
    held = [[shard for shard in range(shards) if share.holds(collection, shard)] for share in shares]
    assert sorted(shard for each in held for shard in each) == list(range(shards))
    assert max(map(len, held)) - min(map(len, held)) <= 1
    assert parts_of(collection, shards, parts) == [part for part, each in enumerate(held) if each]


def test_collections_of_one_shard_lie_on_several_machines() -> None:
    assert len({part_of(f"collection-{number}", 0, 4) for number in range(40)}) == 4


def test_a_share_stays_where_it_was() -> None:
    """What a node holds follows from names and numbers alone, in every release."""
    assert [part_of("advisories", shard, 4) for shard in range(5)] == [2, 3, 0, 1, 2]


@pytest.mark.parametrize("text", ["", "1", "2/2", "0/0", "-1/2", "a/b", "1/5000", "1/2/3"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 0/4 to 3/4"):
        Share.parse(text)
