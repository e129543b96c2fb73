"""A table that changes its columns: what the spec does not name passes, what it names stops the sync by name."""

from __future__ import annotations

import pytest

from connectors.errors import SchemaMismatch
from indexer.apply import apply
from tests.scene import Scene
from tests.served import served_rows

MAPPED = "delta.columnMapping.mode = 'name'"


def load(scene: Scene, columns: str = "id BIGINT, body STRING, n INT, extra STRING") -> None:
    scene.create(columns, MAPPED)
    scene.sql("INSERT INTO {t} VALUES (1, 'one', 0, 'x'), (2, 'two', 0, 'y')")
    apply(scene.store, scene.spec())
    scene.sync()


def test_an_added_column_passes(scene: Scene) -> None:
    load(scene)
    scene.sql("ALTER TABLE {t} ADD COLUMNS (more STRING)")
    scene.sql("INSERT INTO {t} VALUES (3, 'three', 0, 'z', 'more')")

    assert scene.sync().healed == []

    assert scene.is_served()


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("RENAME COLUMN extra TO other", marks=pytest.mark.soak, id="renamed"),
        pytest.param("DROP COLUMN extra", id="dropped"),
    ],
)
def test_a_column_that_the_spec_does_not_name_may_be_renamed_or_dropped(scene: Scene, statement: str) -> None:
    load(scene)
    scene.sql("UPDATE {t} SET body = 'zwei' WHERE id = 2")
    scene.sql(f"ALTER TABLE {{t}} {statement}")
    scene.sql("INSERT INTO {t} (id, body, n) VALUES (3, 'three', 0)")

    report = scene.sync()

    assert report.ledger.embedded == 2
    assert scene.is_served()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("RENAME COLUMN n TO m", r"'n' is missing \(it was int\)\. The table has: id bigint.*m int"),
        pytest.param("DROP COLUMN n", r"'n' is missing \(it was int\)", marks=pytest.mark.soak),
        pytest.param("RENAME COLUMN body TO text", r"'body' is missing \(it was string\)", marks=pytest.mark.soak),
    ],
)
def test_a_column_of_the_spec_that_goes_stops_the_sync_by_name_and_serving_goes_on(
    scene: Scene, statement: str, said: str
) -> None:
    load(scene)
    before, _ = served_rows(scene.store, "scene")
    scene.sql("DELETE FROM {t} WHERE id = 1")
    scene.sql(f"ALTER TABLE {{t}} {statement}")

    with pytest.raises(SchemaMismatch, match=said):
        scene.sync()

    assert served_rows(scene.store, "scene")[0] == before


def retype(scene: Scene) -> None:
    """Write the table anew, with ``n`` as text."""
    rows = scene.spark.read.format("delta").load(str(scene.table)).selectExpr("id", "body", "string(n) AS n")
    rows = scene.spark.createDataFrame(rows.collect(), rows.schema)
    rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(str(scene.table))


def test_a_column_of_the_spec_that_is_retyped_stops_the_sync_and_a_rebuild_heals_it(scene: Scene) -> None:
    scene.load()
    retype(scene)

    with pytest.raises(SchemaMismatch, match=r"column 'n' is string \(it was int\).*apply the spec with --rebuild"):
        scene.sync()

    apply(scene.store, scene.spec(), rebuild=True)
    scene.sync()
    assert scene.is_served()


def test_a_column_of_the_spec_retyped_under_a_running_sync_stops_it(scene: Scene) -> None:
    scene.load()
    done: list[int] = []

    def once(_: object) -> None:
        if not done:
            done.append(1)
            retype(scene)

    scene.sql("INSERT INTO {t} VALUES (4, 'four', 0)")
    with pytest.raises(SchemaMismatch, match=r"column 'n' is string \(it was int\)"):
        scene.sync(continuous=True, committed=once)

    assert scene.state.live_rows == 4
