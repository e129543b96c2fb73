"""Run by test_spark_gives_each_task_a_gpu: prints which GPU each of two tasks, side by side, would build on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pyarrow as pa

from connectors.session import spark_session
from indexer.ann.device import task_gpu


def number(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Stay until the other task has begun, and say which GPU this one was given."""
    for _ in batches:
        time.sleep(5)
        yield pa.RecordBatch.from_pydict({"gpu": [task_gpu()]})


if __name__ == "__main__":
    discovery, amount = sys.argv[1:]
    spark = spark_session(
        "gpus",
        master="local-cluster[1,2,1024]",
        shuffle_partitions=2,
        extra_conf={
            "spark.worker.resource.gpu.amount": "2",
            "spark.worker.resource.gpu.discoveryScript": discovery,
            "spark.executor.resource.gpu.amount": "2",
            "spark.task.resource.gpu.amount": amount,
        },
    )
    gpus = spark.range(0, 2, 1, 2).mapInArrow(number, "gpu long").toArrow()["gpu"].to_pylist()
    print(sorted(gpus))  # noqa: T201
    spark.stop()
