"""Random filters over random rows pass what a plain reading of SQL passes, in every dialect."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.filter import compile_filter, schema_of
from tests.retrieval.filter.naive import DIALECTS, ROWS, SCHEMA, Expression, Row, condition, frame_of, passing

KNOWN = schema_of(SCHEMA)


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(expression=condition(2), rows=ROWS)
def test_mask_is_what_the_naive_evaluator_passes(dialect: str, expression: Expression, rows: list[Row]) -> None:
    text = expression.text(dialect)

    mask = compile_filter(text, dialect=dialect, schema=KNOWN, params={}).mask(frame_of(rows))

    assert mask.tolist() == passing(expression, rows, dialect), text


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(expression=condition(3), rows=ROWS, name=st.sampled_from(sorted(SCHEMA)))
def test_what_a_filter_says_of_one_column_every_row_fulfils_that_passes(
    expression: Expression, rows: list[Row], name: str
) -> None:
    frame, whole = frame_of(rows), compile_filter(expression.text("databricks"), dialect="databricks", schema=KNOWN)

    told = whole.about(name)

    if told is not None:
        assert told.columns <= {name}
        assert not (whole.mask(frame) & ~told.mask(frame.select(name))).any()
