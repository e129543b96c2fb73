"""Opening the source that a spec names."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.contract import Source
from indexer.spec import CollectionSpec
from jobs.errors import CommandError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def open_source(spark: SparkSession, spec: CollectionSpec) -> Source:
    """Return the source of ``spec``; nothing is read or signed in to yet."""
    source = spec.source
    if source.kind == "snowflake":
        from connectors.snowflake_session import SignIn
        from connectors.snowflake_source import TRAIL_SECONDS, SnowflakeSource

        sign_in = SignIn(
            connection=source.connection, role=source.role, warehouse=source.warehouse, tag=f"grebe {spec.name}"
        )
        trail = TRAIL_SECONDS if source.trail_seconds is None else source.trail_seconds
        return SnowflakeSource(
            spark, source.table, spec.source_columns, sign_in=sign_in, paths=source.paths, trail_seconds=trail
        )
    from connectors.delta_source import DeltaSource

    return DeltaSource(spark, source.table, spec.source_columns)


def require_change_feed(spec: CollectionSpec) -> None:
    """Raise :class:`connectors.errors.ChangesUnavailable` as the source would, for a Delta folder on this machine.

    The log of one is read in a moment, without the half minute that Spark takes to start.
    """
    from connectors.delta_table import without_change_feed
    from jobs.starter import facts_of

    table = spec.source.table
    if spec.source.kind != "delta" or "://" in table or not Path(table).is_dir():
        return
    with suppress(CommandError):  # what cannot be read here may be read by Spark, or it says why not
        if not facts_of(table).change_feed:
            raise without_change_feed(table)
