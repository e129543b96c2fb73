"""Every type of Snowflake's that Grebe reads, through the account and back; and how names find their columns."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, FloatType, StructField, StructType

from connectors.errors import SchemaMismatch
from connectors.snowflake_session import SignIn
from connectors.snowflake_source import SnowflakeSource
from connectors.snowflake_sql import json_path
from connectors.snowflake_types import kind_of, path_kind, spark_batches
from tests.snowflake.server import SnowflakeServer

COLUMNS = """
    key NUMBER(18, 0), wide NUMBER(38, 0), price NUMBER(10, 2), ratio FLOAT, name VARCHAR, flag BOOLEAN, day DATE,
    local TIMESTAMP_NTZ, instant TIMESTAMP_LTZ, zoned TIMESTAMP_TZ, clock TIME, bytes BINARY, free VARIANT,
    thing OBJECT, list ARRAY, v VECTOR(FLOAT, 3)
"""
NAMES = re.findall(r"(\w+) [A-Z]", COLUMNS)
ROW = """
    SELECT 999999999999999999, 12345678901234567890123456789012345678, 12.30, 0.5, 'ü', TRUE, '2024-02-29'::DATE,
           '2024-02-29 12:34:56.123456789'::TIMESTAMP_NTZ, '2024-02-29 12:34:56.123456 +0000'::TIMESTAMP_LTZ,
           '2024-02-29 12:34:56.5 +0530'::TIMESTAMP_TZ, '12:34:56'::TIME, TO_BINARY('00FF', 'HEX'),
           PARSE_JSON('{"b": [1, "x"], "a": null}'), PARSE_JSON('{"owner": {"name": "Ada"}, "age": "36"}')::OBJECT,
           PARSE_JSON('[1, 2]')::ARRAY, [1, 2.5, -3]::VECTOR(FLOAT, 3)
"""


@pytest.fixture
def every_type(snowflake: SnowflakeServer, schema: str) -> str:
    snowflake.execute(f"CREATE TABLE t ({COLUMNS}) CHANGE_TRACKING = TRUE")
    snowflake.execute(f"INSERT INTO t {ROW}")
    snowflake.execute("INSERT INTO t (key) VALUES (NULL)")
    return f"{schema}.t"


def source(spark: SparkSession, table: str, columns: list[str], sign_in: SignIn, **paths: str) -> SnowflakeSource:
    return SnowflakeSource(spark, table, columns, sign_in=sign_in, paths=paths, trail_seconds=0.0)


def test_every_type_arrives(spark: SparkSession, every_type: str, sign_in: SignIn) -> None:
    reader = source(spark, every_type, NAMES, sign_in)

    rows = reader.snapshot(reader.head().position)

    types = {field.name: field.dataType.simpleString() for field in rows.schema.fields[: len(NAMES)]}
    assert types == {
        "key": "bigint",
        "wide": "decimal(38,0)",
        "price": "decimal(10,2)",
        "ratio": "double",
        "name": "string",
        "flag": "boolean",
        "day": "date",
        "local": "timestamp_ntz",
        "instant": "timestamp",
        "zoned": "timestamp",
        "clock": "string",
        "bytes": "binary",
        "free": "string",
        "thing": "string",
        "list": "string",
        "v": "array<float>",
    }
    full, empty = sorted((tuple(row[: len(NAMES)]) for row in rows.collect()), key=lambda row: row[0] is None)
    assert empty == (None,) * len(NAMES)
    values: dict[str, Any] = dict(zip(NAMES, full, strict=True))
    assert {**values, "free": None, "thing": None, "list": None} == {
        "key": 999_999_999_999_999_999,
        "wide": Decimal("12345678901234567890123456789012345678"),
        "price": Decimal("12.30"),
        "ratio": 0.5,
        "name": "ü",
        "flag": True,
        "day": date(2024, 2, 29),
        "local": datetime(2024, 2, 29, 12, 34, 56, 123456),  # noqa: DTZ001 - Spark's own has no zone
        "instant": datetime(2024, 2, 29, 12, 34, 56, 123456),  # noqa: DTZ001
        "zoned": datetime(2024, 2, 29, 7, 4, 56, 500000),  # noqa: DTZ001
        "clock": "12:34:56",
        "bytes": bytearray(b"\x00\xff"),
        "free": None,
        "thing": None,
        "list": None,
        "v": [1.0, 2.5, -3.0],
    }
    assert values["free"].replace(" ", "") in ('{"a":null,"b":[1,"x"]}', '{"b":[1,"x"],"a":null}')
    assert values["list"].replace(" ", "") == "[1,2]"


def test_changes_have_the_types_of_the_snapshot(
    spark: SparkSession, snowflake: SnowflakeServer, every_type: str, sign_in: SignIn
) -> None:
    reader = source(spark, every_type, ["key", "wide", "zoned", "free", "v"], sign_in)
    start = reader.head().position
    snowflake.execute("DELETE FROM t WHERE key IS NOT NULL")
    seen: list[Any] = []

    reader.stream(start, lambda batch: seen.append((batch.changes.schema, batch.changes.collect())), continuous=False)

    before = reader.snapshot(start).where("key IS NOT NULL")
    ((schema, (deleted,)),) = seen
    assert schema == before.schema
    assert (deleted[:5], deleted["_op"]) == (before.collect()[0][:5], "delete")


def test_a_path_is_a_column(spark: SparkSession, every_type: str, sign_in: SignIn) -> None:
    paths = {"owner": "thing:owner.name", "age": "thing:age::NUMBER(5, 0)", "odd": "thing:owner::DATE"}
    reader = source(spark, every_type, ["key", *paths], sign_in, **paths)

    rows = reader.snapshot(reader.head().position).where("key IS NOT NULL")

    assert [tuple(row[:4]) for row in rows.collect()] == [(999_999_999_999_999_999, "Ada", 36, None)]


def test_names_match_exactly_or_else_in_upper_case(
    spark: SparkSession, snowflake: SnowflakeServer, schema: str, sign_in: SignIn
) -> None:
    snowflake.execute('CREATE TABLE "Mixed case" (ID INT, "id" VARCHAR, "dot.ted" VARCHAR, PLAIN VARCHAR)')
    snowflake.execute("""INSERT INTO "Mixed case" VALUES (1, 'small', 'dot', 'plain')""")
    reader = source(spark, f'{schema.lower()}."Mixed case"', ["id", "dot.ted", "plain"], sign_in)

    rows = reader.snapshot(reader.head().position)

    assert rows.columns[:3] == ["id", "dot.ted", "plain"]
    assert [tuple(row[:3]) for row in rows.collect()] == [("small", "dot", "plain")]
    with pytest.raises(SchemaMismatch, match="ID, id differ by case alone"):
        source(spark, f'{schema}."Mixed case"', ["id", "ID"], sign_in).snapshot(reader.head().position)


def test_a_missing_column_is_named_with_the_nearest(spark: SparkSession, every_type: str, sign_in: SignIn) -> None:
    reader = source(spark, every_type, ["key", "prise"], sign_in)
    head = reader.head().position

    with pytest.raises(SchemaMismatch, match=r"no column 'prise' \(did you mean 'PRICE'\?\)"):
        reader.snapshot(head)


def test_the_schema_is_the_tables_whether_or_not_it_has_ours(
    spark: SparkSession, every_type: str, sign_in: SignIn
) -> None:
    names = source(spark, every_type, ["key", "prise"], sign_in).schema().names

    assert names == ["key", *(name.upper() for name in NAMES if name != "key")]


def test_the_schema_has_our_columns_first_and_then_the_others(
    spark: SparkSession, every_type: str, sign_in: SignIn
) -> None:
    names = source(spark, every_type, ["v", "owner"], sign_in, owner="thing:owner.name").schema().names

    assert names[:4] == ["v", "owner", "KEY", "WIDE"]
    assert "V" not in names


@pytest.mark.parametrize(
    ("declared", "spark"),
    [
        ("NUMBER(19,0)", "decimal(19,0)"),
        ("NUMBER(18,1)", "decimal(18,1)"),
        ("VARCHAR(16777216)", "string"),
        ("TIMESTAMP_NTZ(9)", "timestamp_ntz"),
        ("ARRAY(NUMBER(38,0))", "string"),
        ("VECTOR(INT, 256)", "array<float>"),
    ],
)
def test_declared_types(declared: str, spark: str) -> None:
    kind = kind_of(declared)
    assert kind is not None
    assert kind.spark.simpleString() == spark


@pytest.mark.parametrize("declared", ["GEOGRAPHY", "GEOMETRY", "FILE", "INTERVAL DAY TO SECOND", ""])
def test_other_types_are_not_read(declared: str) -> None:
    assert kind_of(declared) is None


def test_a_path_writes_its_text_as_a_value() -> None:
    kind = path_kind(json_path("a:b['it''s {}']"))

    assert kind is not None
    assert kind.of("A") == """GET_PATH("A", 'b[''it''''s {}'']')::VARCHAR"""


def test_a_vector_of_integers_is_one_of_floats() -> None:
    column = pa.array([[1, -2], None], pa.list_(pa.int32(), 2))
    schema = StructType([StructField("v", ArrayType(FloatType()))])

    (batch,) = spark_batches(pa.table({"V": column}), schema)

    assert batch["v"].to_pylist() == [[1.0, -2.0], None]
    assert batch.schema == to_arrow_schema(schema)
