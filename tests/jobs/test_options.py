from __future__ import annotations

import pytest
import typer

from jobs.options import stages
from retrieval.refine.stages import NO_STAGES, Collapse, Decay, Diversify, Rerank, Stages


def test_without_the_options_there_are_no_stages() -> None:
    assert stages(None, None, None, None) is NO_STAGES


def test_each_option_is_a_stage() -> None:
    given = "published=30d,kind=gauss,offset=1d,weight=0.5,origin=2026-03-01"

    assert stages(20, given, "lang", 0.3) == Stages(
        rerank=Rerank(depth=20),
        decay=Decay(column="published", scale="30d", kind="gauss", offset="1d", weight=0.5, origin="2026-03-01"),
        collapse=Collapse(column="lang"),
        diversify=Diversify(diversity=0.3),
    )
    assert stages(None, None, "lang=2", None) == Stages(collapse=Collapse(column="lang", most=2))
    assert stages(None, "price=10,origin=99.5", None, None) == Stages(
        decay=Decay(column="price", scale=10, origin=99.5)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("published", "'published' is not NAME=VALUE"),
        ("published=30d,half=2", "'half' is none of kind, offset, midpoint, weight, origin, depth"),
        ("published=30d,weight=much", r"'published=30d,weight=much' is not COLUMN=SCALE\[,NAME=VALUE...\]"),
    ],
)
def test_a_decay_that_says_nothing_of_use_is_told(text: str, message: str) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        stages(None, text, None, None)


@pytest.mark.parametrize("text", ["lang=", "lang=two", "lang=-1", "lang=1.5"])
def test_a_collapse_to_no_number_of_rows_is_told(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=rf"'{text}' is not COLUMN\[=MOST\]"):
        stages(None, None, text, None)
