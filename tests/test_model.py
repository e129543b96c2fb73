"""Random changes to a Delta table with syncs between: after each sync the searchable rows are the table's."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from connectors.delta_source import DeltaSource
from indexer.apply import apply
from indexer.format.store import Store
from indexer.spec_file import parse_spec
from indexer.sync import sync
from tests.served import served_rows, table_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

COLUMNS = ("id", "body", "n")
KEYS = 8

keys = st.integers(0, KEYS - 1)
bodies = st.sampled_from(["", "alpha", "beta gamma", "delta " * 40, "Ünïcode 🦆", "مرحبا"])


@dataclass(frozen=True)
class Step:
    """One statement on the table ``{t}``, or a sync. ``{shift}`` is another multiple of ``KEYS`` at each step."""

    sql: str | None


def _insert(pairs: list[tuple[int, str]]) -> Step:
    """New rows: a key that the table has already is left alone, so that keys stay unique."""
    values = ", ".join(f"({key}, '{body}', 0)" for key, body in dict(pairs).items())
    return Step(
        f"MERGE INTO {{t}} AS t USING (SELECT * FROM VALUES {values} AS v(id, body, n)) AS s ON t.id = s.id "
        "WHEN NOT MATCHED THEN INSERT *"
    )


def _merge(pairs: list[tuple[int, str]]) -> Step:
    values = ", ".join(f"({key}, '{body}', 1)" for key, body in dict(pairs).items())
    return Step(
        f"MERGE INTO {{t}} AS t USING (SELECT * FROM VALUES {values} AS v(id, body, n)) AS s ON t.id = s.id "
        "WHEN MATCHED AND t.n = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    )


def _overwrite(pairs: list[tuple[int, str]]) -> Step:
    values = ", ".join(f"({key}, '{body}', 2)" for key, body in dict(pairs).items())
    return Step(f"INSERT OVERWRITE {{t}} SELECT * FROM VALUES {values} AS v(id, body, n)")


pairs = st.lists(st.tuples(keys, bodies), min_size=1, max_size=4)
steps = st.one_of(
    pairs.map(_insert),
    pairs.map(_merge),
    pairs.map(_overwrite),
    st.builds(lambda key, body: Step(f"UPDATE {{t}} SET body = '{body}' WHERE id = {key}"), keys, bodies),
    keys.map(lambda key: Step(f"UPDATE {{t}} SET id = id + {{shift}} WHERE id = {key}")),
    keys.map(lambda key: Step(f"DELETE FROM {{t}} WHERE id % {KEYS} = {key}")),
    st.just(Step("OPTIMIZE {t}")),
    st.just(Step(None)),
    st.just(Step(None)),
)


def check(spark: SparkSession, plan: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table, store = folder / "table", Store.at(str(folder / "store"))
        spark.sql(
            f"CREATE TABLE delta.`{table}` (id BIGINT, body STRING, n INT) USING delta "
            "TBLPROPERTIES (delta.enableChangeDataFeed = true, delta.enableDeletionVectors = true)"
        )
        apply(
            store,
            parse_spec(
                f"name: model\nsource: {{table: {table}}}\nkey: [id]\ncolumns: [n]\nvector: {{model: 'hash:8'}}\n"
                "text: {fields: {body: 1.0}, chunk: {max_tokens: 16, overlap_tokens: 4}}"
            ),
        )
        source = DeltaSource(spark, str(table), COLUMNS)
        for at, step in enumerate([*plan, Step(None)], start=1):
            if step.sql is not None:
                spark.sql(step.sql.format(t=f"delta.`{table}`", shift=KEYS * at))
                continue
            sync(store, "model", lambda _: source, cache=folder / "cache")
            rows, version = served_rows(store, "model")
            assert version == source.head().position.version
            assert rows == table_rows(spark, table, COLUMNS)


# Shrinking a failure would take an hour of Spark; the plan that failed is short enough to read.
SLOW = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=(Phase.explicit, Phase.generate),
)


@settings(SLOW, max_examples=3)
@given(plan=st.lists(steps, min_size=4, max_size=8))
def test_after_each_sync_the_searchable_rows_are_the_tables(spark: SparkSession, plan: list[Step]) -> None:
    check(spark, plan)


@pytest.mark.soak
@settings(SLOW, max_examples=60)
@given(plan=st.lists(steps, min_size=4, max_size=16))
def test_after_each_of_many_syncs_the_searchable_rows_are_the_tables(spark: SparkSession, plan: list[Step]) -> None:
    check(spark, plan)
