"""Spark's daemon of Python workers, run from the installed pyspark: ``python -m connectors.python_daemon``.

Spark puts its own ``pyspark.zip`` first on the path of its workers. Nothing in it is compiled, so that each start of
the daemon compiles pyspark for a second, and each worker what else it needs. Here it comes last.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Serve workers until Spark closes the standard input."""
    sys.path.sort(key=lambda place: place.endswith("/pyspark.zip"))
    from pyspark.daemon import manager

    manager()


if __name__ == "__main__":
    main()
