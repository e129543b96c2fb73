from __future__ import annotations

import pytest

from api.cluster.failures import FAILED, Failure
from api.errors import PoolFull
from retrieval.errors import (
    DeadlineExceeded,
    FilterError,
    NodeDiffers,
    NodeFailed,
    RequestError,
    SnapshotClosed,
)

SQL = FilterError("no such thing", code="filter_failed", text="a = 1 AN b", start=6, length=2, hint="write AND")


@pytest.mark.parametrize(
    "error",
    [
        SQL,
        RequestError("too long", field="like", code="row_not_found", hint="shorten it"),
        NodeDiffers("version 3 is not open on this node"),
        PoolFull(),
        DeadlineExceeded("late"),
        NodeFailed("this is no question that a node knows"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_a_node_is_the_same_at_the_router(error: Exception) -> None:
    failure = Failure.of(error)
    found = Failure.model_validate_json(failure.model_dump_json()).error()
    assert type(found) is type(error)
    known = {name: value for name, value in vars(found).items() if value}
    assert known == {name: value for name, value in vars(error).items() if value}


def test_a_closed_version_is_one_that_differs_and_lateness_is_lateness() -> None:
    assert Failure.of(SnapshotClosed("closed")).kind == "differs"
    assert Failure.of(TimeoutError()).kind == "deadline"


def test_what_went_wrong_inside_a_node_stays_there() -> None:
    failure = Failure.of(RuntimeError("/secret/path"))
    assert (failure.kind, failure.message) == ("failed", FAILED)
    assert isinstance(failure.error(), NodeFailed)
