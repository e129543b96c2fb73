"""The entry point for schedulers: a script for ``spark-submit``, and ``grebe-sync`` of the wheel.

It takes the arguments of ``grebe sync`` and uses the Spark session that is there (docs/scheduling.md).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from connectors.spark_submit import stderr_kept
from jobs.cli import main as grebe


def main(arguments: Sequence[str] | None = None) -> None:
    """Sync as ``arguments`` (the command line's, if None) say; ends with :class:`SystemExit` only if something failed.

    A return is what Databricks takes for success: some of its runtimes count ``sys.exit(0)`` as a failure.
    """
    try:
        with stderr_kept():
            grebe(["sync", *(sys.argv[1:] if arguments is None else arguments)])
    except SystemExit as ended:
        if ended.code:
            raise


if __name__ == "__main__":
    main()
