import time

import pytest

from retrieval.deadline import check_deadline
from retrieval.errors import DeadlineExceeded


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("", "the deadline passed during the search"),
        ("give it more time", "the deadline passed during the search; give it more time"),
    ],
)
def test_only_a_deadline_that_has_passed_raises_and_says_during_what(hint: str, said: str) -> None:
    for deadline in (None, time.monotonic() + 60):
        check_deadline(deadline, "during the search", hint)
    with pytest.raises(DeadlineExceeded) as raised:
        check_deadline(time.monotonic() - 1, "during the search", hint)
    assert str(raised.value) == said
