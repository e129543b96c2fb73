"""Parameters, time, cache keys and composition of compiled filters."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum

import polars as pl
import pyarrow as pa
import pytest

from retrieval.errors import FilterError
from retrieval.filter import NOTHING_PASSES, CompiledFilter, any_of, compile_filter, names_in, schema_of
from tests.retrieval.filter.conftest import NOW, TABLE, Passing
from tests.retrieval.filter.naive import DIALECTS


class Rank(IntEnum):
    FIRST = 1


def compiled(text: str, dialect: str = "databricks", now: datetime = NOW, **params: object) -> CompiledFilter:
    return compile_filter(text, dialect=dialect, schema=TABLE.schema, params=params, now=now)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("text", "value", "rows"),
    [
        ("id = :x", 1, [0]),
        ("id = :x", Rank.FIRST, [0]),
        ("id = :x", 1.0, [0]),
        ("id = :x", Decimal("1.0"), [0]),
        ("id < :x", 10**30, [0, 1, 2]),
        ("id = :x", None, []),
        ("id IS NOT DISTINCT FROM :x", None, [3]),
        ("name = :x", "a", [0]),
        ("name = :x", "a' OR '1' = '1", []),
        ("name = :x", ":x", []),
        ("active = :x", True, [0, 3]),
        (":x", True, [0, 1, 2, 3]),
        ("score = :x", float("nan"), [1]),
        ("blob = :x", b"a", [3]),
        ("published = :x", date(2024, 1, 1), [0]),
        ("published = :x", "2024-01-01", [0]),
        ("seen = :x", datetime(2024, 1, 1, 12, tzinfo=UTC), [0]),
        ("seen = :x", datetime(2024, 1, 1, 12), [0]),  # noqa: DTZ001
        ("seen = :x", "2024-01-01T13:00:00+01:00", [0]),
        ("id IN (:x)", [1, 3], [0, 2]),
        ("id IN (:x)", (1,), [0]),
        ("id IN (:x)", [1, None], [0]),
        ("id NOT IN (:x)", [1, None], []),
        ("id NOT IN (:x)", [1, 2], [2]),
        ("id IN (:x)", [], []),
        ("id NOT IN (:x)", [], [0, 1, 2, 3]),
        ("id IN (2, :x)", [1, 99999999999], [0, 1]),
        ("id IN (:x)", [1.0, 2.5], [0]),
        ("name IN (:x)", ["a", "B_%"], [0, 1]),
        ("score IN (:x)", [float("nan"), 0.0], [1, 3]),
        ("price IN (:x)", [Decimal("1.25"), 7], [0]),
        ("published IN (:x)", ["2024-01-01", None], [0]),
        ("seen > CURRENT_TIMESTAMP - INTERVAL :x DAY", 60, [1, 3]),
        ("CAST(:x AS DATE) = published", "2024-01-01", [0]),
        ("CAST(:x AS INT) = id", "1", [0]),
        ("id = :x OR id = :x + 1", 1, [0, 1]),
    ],
)
def test_parameter_is_bound_as_a_value(
    text: str, value: object, rows: list[int], dialect: str, passing: Passing
) -> None:
    assert passing(text, dialect, x=value) == rows


def test_list_parameter_in_any_is_membership(passing: Passing) -> None:
    assert passing("id = ANY(:x)", "postgres", x=[1, 3]) == [0, 2]


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        ("id = :x", "1", "id is a BIGINT and :x is a STRING: they can't be compared.*give :x as a BIGINT"),
        ("name = :x", 1, "name is a STRING and :x is a BIGINT"),
        ("id = :x", [1], "write IN \\(:x\\)"),
        ("published = :x", "yesterday", ":x: 'yesterday' is not a date"),
        ("published = :x", "2024-01-01T10:00:00", ":x: .* is not a date"),
        ("id = :x", object(), ":x: a value of type object can't be bound"),
        ("id = :x", {"a": 1}, ":x: a value of type dict can't be bound"),
        ("id IN (:x)", [1, "a"], ":x: a list must hold one type"),
        ("id IN (:x)", [[1]], ":x: a list of lists can't be bound"),
        ("price = :x", Decimal("NaN"), ":x: a Decimal must be finite"),
        ("id = 1", 5, "the SQL has no parameter :x"),
        ("id = :y", 5, "no value was given for :y .*given are: x"),
        ("CAST(:x AS INT) = 1", "one", ":x: 'one' can't be cast to BIGINT"),
        ("seen > now() - INTERVAL :x DAY", 10**9, "10,000 years at most"),
        ("seen > now() - INTERVAL :x DAY", 1.5, "an interval takes a BIGINT"),
    ],
)
def test_wrong_parameter_is_an_error(text: str, value: object, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        compiled(text, x=value)


def test_error_of_a_value_points_at_its_parameter() -> None:
    with pytest.raises(FilterError) as caught:
        compiled("active AND published >= :since", since="yesterday")
    assert (caught.value.code, caught.value.column, caught.value.length) == ("filter_value", 25, 6)


def test_columns_are_those_that_are_read() -> None:
    assert compiled("ID = 1 AND (name = 'a' OR name IS NULL)").columns == {"id", "name"}


def test_cache_key_depends_on_meaning_not_spelling() -> None:
    assert compiled("id = 1").cache_key == compiled(" ID\n=  1 ").cache_key
    assert compiled("id = 1").cache_key != compiled("id = 2").cache_key
    assert compiled("name = '1'").cache_key != compiled("name = '2'").cache_key
    assert compiled("id = :x", x=1).cache_key == compiled("id = :y", y=1).cache_key
    assert compiled("id = :x", x=1).cache_key != compiled("id = :x", x=2).cache_key
    assert compiled("id = :x", x=1).cache_key != compiled("id = :x", x=1.0).cache_key
    assert compiled("id IN (:x)", x=[1, 2]).cache_key == compiled("id IN (:x)", x=(1, 2)).cache_key
    assert compiled("score = :x", x=float("nan")).cache_key == compiled("score = :x", x=float("nan")).cache_key
    assert compiled("id / 2 = 1", "duckdb").cache_key != compiled("id / 2 = 1", "postgres").cache_key
    assert len({compiled("id = 1").cache_key, compiled("id = :x", x=1).cache_key}) == 2


def test_cache_key_holds_the_time_only_when_asked_for() -> None:
    later = datetime(2030, 1, 1, tzinfo=UTC)
    assert compiled("id = 1").cache_key == compiled("id = 1", now=later).cache_key
    assert compiled("seen < now()").cache_key != compiled("seen < now()", now=later).cache_key
    assert compiled("seen < now()").uses_now
    assert not compiled("id = 1").uses_now


def test_a_filter_by_the_date_has_one_key_a_day_and_one_by_the_time_is_not_for_caches() -> None:
    today, later = (datetime(2024, 3, 31, hour, 30, 1, 2, tzinfo=UTC) for hour in (0, 23))
    berlin = later.astimezone(timezone(timedelta(hours=2)))  # the first of April there
    by_date, by_time = "published <= CURRENT_DATE", "published <= CURRENT_DATE AND seen < now()"

    keys = {compiled(by_date, now=now).cache_key for now in (today, later, berlin)}

    assert len(keys) == 1
    assert compiled(by_date, now=datetime(2024, 4, 1, tzinfo=UTC)).cache_key not in keys
    assert [compiled(text).cacheable for text in ("id = 1", by_date, by_time)] == [True, True, False]
    assert not any_of([compiled(by_date), compiled(by_time)]).cacheable


def test_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="must say its zone"):
        compiled("seen < now()", now=datetime(2024, 1, 1))  # noqa: DTZ001


def test_any_of_some_filters_passes_what_one_of_them_passes() -> None:
    either = any_of([compiled("id = :x", x=1), compiled("score IS NULL")])
    assert either.mask(TABLE).tolist() == [True, False, True, False]
    assert either.columns == {"id", "score"}
    assert either.cache_key == any_of([compiled("id = :x", x=1), compiled("score IS NULL")]).cache_key
    assert either.cache_key != any_of([compiled("id = :x", x=2), compiled("score IS NULL")]).cache_key
    assert not either.uses_now


def test_unknown_in_one_of_any_filters_is_no_yes_and_no_no() -> None:
    assert any_of([compiled("NULL"), compiled("TRUE")]).mask(TABLE).all()
    assert not any_of([compiled("NULL"), compiled("FALSE")]).mask(TABLE).any()
    assert not NOTHING_PASSES.mask(TABLE).any()


def test_the_parameters_of_a_text_are_known_without_their_values() -> None:
    assert names_in("team = :team AND (size < :most OR team IN (:teams) OR :team IS NULL)", "databricks") == {
        "team",
        "most",
        "teams",
    }
    assert names_in("team = ':team'", "postgres") == set()


@pytest.mark.parametrize("text", ["id = 1", "TRUE", "id IN (:x)"])
def test_mask_of_an_empty_frame_is_empty(text: str) -> None:
    params: dict[str, object] = {"x": []} if ":x" in text else {}
    filter_ = compile_filter(text, dialect="databricks", schema=TABLE.schema, params=params)
    mask = filter_.mask(TABLE.clear())
    assert (mask.shape, mask.dtype.kind) == ((0,), "b")


def test_arrow_schema_is_the_same_as_polars() -> None:
    arrow = pa.schema(
        [
            pa.field("s", pa.large_string()),
            pa.field("c", pa.dictionary(pa.int32(), pa.string())),
            pa.field("t", pa.timestamp("ns", tz="Europe/Berlin")),
            pa.field("l", pa.list_(pa.float32())),
        ]
    )
    table = pa.table(
        {
            "s": ["a", "b"],
            "c": ["x", None],
            "t": [datetime(2024, 1, 1, tzinfo=UTC), None],
            "l": [[0.5], []],
        },
        schema=arrow,
    )
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    text = "s = 'a' AND c = 'x' AND t = '2024-01-01T00:00:00Z' AND list_contains(l, 0.5)"
    assert compile_filter(text, dialect="duckdb", schema=arrow).mask(frame).tolist() == [True, False]
    assert schema_of(arrow) is schema_of(pa.schema(list(arrow)))


def test_column_named_like_a_pattern_is_refused() -> None:
    with pytest.raises(FilterError, match="can't be used in an expression"):
        compile_filter("`^.*$` = 1", dialect="databricks", schema={"^.*$": pl.Int64()})


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("id = :x", [0]),
        ("id = :x AND name = 'z'", [0]),
        ("name = 'z' AND (id = :x OR id = 2) AND score > 0", [0, 1]),
        ("(id = :x AND name = 'z') OR (id = 3 AND active)", [0, 2]),
        ("id = :x AND id = 2", []),
        ("NOT id = :x", [1, 2]),
        ("FALSE AND id = :x", []),
        ("id = :x OR name = 'z'", None),
        ("NOT (id = :x AND name = 'z')", None),
        ("id + length(name) = :x", None),
        ("id IN (:x, 3) AND seen < current_timestamp()", [0, 2]),
        ("id < 3 AND day(current_date()) <> :x", [0, 1]),
    ],
)
def test_what_a_filter_says_of_one_column(text: str, rows: list[int] | None) -> None:
    told = compiled(text, x=1).about("id")
    assert (told and told.mask(TABLE.select("id")).nonzero()[0].tolist()) == rows


def test_what_filters_say_together() -> None:
    first, second, other = compiled("id = 1"), compiled("id = :x AND active", x=2), compiled("name = 'a'")
    told = any_of([first, second]).about("id")
    assert told is not None
    assert told.mask(TABLE.select("id")).tolist() == [True, True, False, False]
    assert any_of([first, other]).about("id") is None
    nothing = NOTHING_PASSES.about("id")
    assert nothing is not None
    assert not nothing.mask(TABLE.select("id")).any()
    keys = {filter_.about("id").cache_key for filter_ in (second, compiled("id = :x AND active", x=3), first)}  # type: ignore[union-attr]
    assert len(keys) == 3
