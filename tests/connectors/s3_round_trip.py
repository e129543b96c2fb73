"""Write a Delta table to S3 and read it as a source, in a process of its own; prints what came as JSON.

A process of its own because the S3 client's JARs and the endpoint are given to a JVM when it starts.
"""

from __future__ import annotations

import json
import sys

from connectors.delta_source import DeltaSource
from connectors.hadoop import hadoop_address
from connectors.session import spark_session
from tests.conftest import SHORT_RUNS
from tests.connectors.tables import COLUMNS, changes_after


def main(table: str) -> None:
    spark = spark_session("s3", master="local[2]", shuffle_partitions=2, extra_conf=SHORT_RUNS, clouds={"s3"})
    name = f"delta.`{hadoop_address(table)}`"
    spark.sql(
        f"CREATE TABLE {name} (id BIGINT, text STRING) USING delta TBLPROPERTIES (delta.enableChangeDataFeed=true)"
    )
    source = DeltaSource(spark, table, COLUMNS)
    start = source.head().position
    spark.sql(f"INSERT INTO {name} VALUES (1, 'a')")
    rows = [list(row)[:4] for row in source.snapshot(source.head().position).collect()]
    print(json.dumps({"changes": changes_after(source, start), "snapshot": rows}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
