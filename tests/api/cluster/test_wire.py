from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cluster.wire import frame, parts_of

WORDS = st.integers(0, 2**32 - 1)


@given(WORDS, WORDS, st.binary())
def test_a_frame_has_what_it_was_made_of(number: int, word: int, message: bytes) -> None:
    assert parts_of(frame(number, word, message)) == (number, word, message)


def test_what_is_too_short_is_no_frame() -> None:
    with pytest.raises(ValueError, match="8 bytes at least, this one 7"):
        parts_of(bytes(7))
