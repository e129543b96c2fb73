"""Opening the source that a spec names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contract import Source
from indexer.spec import CollectionSpec

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
