"""The entry point for schedulers: a script for ``spark-submit``, and ``grebe-sync`` of the wheel.

It takes the arguments of ``grebe sync`` and uses the Spark session that is there (docs/scheduling.md).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from connectors.spark_submit import stderr_kept
from jobs.cli import as_job


def main(arguments: Sequence[str] | None = None) -> None:
    """Sync as ``arguments`` (the command line's, if None) say; see :func:`jobs.cli.as_job`."""
    with stderr_kept():
        as_job(["sync", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    main()
