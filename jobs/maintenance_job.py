"""The entry point for schedulers of compactions and vacuums: ``grebe-maintain`` of the wheel.

It takes what stands behind ``grebe`` on the command line, ``compact --all --purge`` (docs/scheduling.md).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs.cli import main as grebe


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what ``arguments`` (the command line's, if None) say; ends with :class:`SystemExit` only if something failed.

    As with a sync's job, a return is what Databricks takes for success.
    """
    try:
        grebe(list(sys.argv[1:] if arguments is None else arguments))
    except SystemExit as ended:
        if ended.code:
            raise


if __name__ == "__main__":
    main()
