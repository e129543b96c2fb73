# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "fakesnow==0.12.1",
#   "duckdb==2.0.0",
#   "snowflake-connector-python==4.8.1",
#   "sqlglot==30.22.0",
#   "pyarrow==26.0.1",
#   "numpy==2.4.6",
# ]
# ///
"""Serve an emulated Snowflake account on a port of the loopback address until standard input closes.

It runs in an environment of its own, because fakesnow needs an older connector than the one that is tested.
"""

from __future__ import annotations

import os
import sys
import threading

from tests.snowflake.emulator.service import Service


def main() -> None:
    """Listen on the port given, or a free one, and print it."""
    service = Service(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(f"listening on {service.address}", flush=True)  # noqa: T201
    threading.Thread(target=service.serve_forever, daemon=True).start()
    # the end of the process that started us closes this, however it ends
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
