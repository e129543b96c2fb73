from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from retrieval import bitmap
from retrieval.lru import ByteLru

masks = st.integers(0, 70).flatmap(lambda n: arrays(np.bool_, n))


@settings(derandomize=True)
@given(masks)
def test_a_bitmap_says_what_its_mask_says(mask: npt.NDArray[np.bool_]) -> None:
    packed = bitmap.pack(mask)

    assert bitmap.unpack(packed, len(mask)).tolist() == mask.tolist()
    assert bitmap.positions_of(packed, len(mask)).tolist() == [i for i, bit in enumerate(mask) if bit]
    assert bitmap.count(packed) == sum(mask.tolist())
    assert bitmap.contains(packed, np.arange(len(mask))).tolist() == mask.tolist()
    assert bitmap.from_positions(np.flatnonzero(mask), len(mask)).tolist() == packed.tolist()


@settings(derandomize=True)
@given(masks)
def test_padding_stays_zero_after_a_negation(mask: npt.NDArray[np.bool_]) -> None:
    inverted = bitmap.invert(bitmap.pack(mask), len(mask))

    assert inverted.tolist() == bitmap.pack(~mask).tolist()


def test_bits_lie_least_significant_first_as_faiss_reads_them() -> None:
    assert bitmap.from_positions([0, 9], 10).tolist() == [1, 2]


def test_full_counts_its_bits_and_no_padding() -> None:
    assert bitmap.full(11).tolist() == [255, 7]


def test_the_least_recently_used_value_is_evicted_first() -> None:
    lru: ByteLru[str, int] = ByteLru(max_bytes=20)
    lru.put("a", 1, size_bytes=10)
    lru.put("b", 2, size_bytes=10)
    lru.get("a")

    lru.put("c", 3, size_bytes=10)

    assert (lru.get("a"), lru.get("b"), lru.get("c"), lru.held_bytes) == (1, None, 3, 20)


def test_a_value_larger_than_the_cache_is_not_kept() -> None:
    lru: ByteLru[str, int] = ByteLru(max_bytes=20)
    lru.put("a", 1, size_bytes=10)

    lru.put("a", 2, size_bytes=21)

    assert (lru.get("a"), lru.held_bytes, len(lru)) == (None, 0, 0)
