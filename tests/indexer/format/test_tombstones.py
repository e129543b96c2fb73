from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from indexer.errors import CorruptFile
from indexer.format.tombstones import Tombstones, decode, encode, merge

positions = st.sets(st.integers(0, 1_000_000), max_size=50)
plain = st.dictionaries(st.integers(0, 2**40 - 1), positions, max_size=5)


def tombstones(sets: dict[int, set[int]]) -> Tombstones:
    return {number: BitMap(members) for number, members in sets.items()}


@settings(derandomize=True, deadline=None)
@given(plain)
def test_what_is_encoded_is_decoded_without_the_empty_ones(sets: dict[int, set[int]]) -> None:
    assert decode(encode(tombstones(sets))) == tombstones({n: members for n, members in sets.items() if members})


@settings(derandomize=True, deadline=None)
@given(st.lists(plain, max_size=4))
def test_merging_is_the_union_of_plain_sets(several: list[dict[int, set[int]]]) -> None:
    union: dict[int, set[int]] = {}
    for sets in several:
        for number, members in sets.items():
            union[number] = union.get(number, set()) | members

    assert merge(*map(tombstones, several)) == tombstones(union)


def test_merging_changes_none_of_its_sources() -> None:
    first, second = tombstones({1: {1}}), tombstones({1: {2}})

    merge(first, second)[1].add(9)
    merge(first)[1].add(9)

    assert (first, second) == (tombstones({1: {1}}), tombstones({1: {2}}))


def test_equal_sets_have_equal_bytes() -> None:
    grown = BitMap()
    for position in range(5000):
        grown.add(position)

    assert encode({2: grown, 1: BitMap([7])}) == encode({1: BitMap([7]), 2: BitMap(range(5000))})


def test_every_cut_of_a_pack_is_noticed() -> None:
    data = encode(tombstones({1: {1, 2, 3}, 2: set(range(1000))}))

    for length in range(len(data)):
        with pytest.raises(CorruptFile, match="tombstone pack"):
            decode(data[:length])


@pytest.mark.parametrize("data", [b"PAR1" + bytes(20), b"GTMB\x02\x00" + bytes(4), encode({}) + b"x"])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptFile, match="tombstone pack"):
        decode(data)
