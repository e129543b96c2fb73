"""The entry point for schedulers of compactions and vacuums: ``grebe-maintain`` of the wheel.

It takes what stands behind ``grebe`` on the command line, ``compact --all --purge`` (docs/scheduling.md).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs.cli import as_job


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what ``arguments`` (the command line's, if None) say; see :func:`jobs.cli.as_job`."""
    as_job(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    main()
