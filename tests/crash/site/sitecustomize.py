"""Kills every process of a sync at a named point: Python imports this at start when its folder is on PYTHONPATH.

``GREBE_CRASH=before:put_file:3`` kills before the third call of ``Store.put_file``, counted over all of the sync's
processes in the file ``GREBE_CRASH_COUNTS``. The product knows nothing of it.
"""

from __future__ import annotations

import fcntl
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _session(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])
    except (OSError, IndexError):
        return -1


def kill_session() -> None:
    """SIGKILL every process of this session, oneself last."""
    mine = os.getsid(0)
    others = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    for pid in others:
        if _session(pid) == mine:
            os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _count(point: str) -> int:
    """Count one more call of ``point`` over all processes."""
    with Path(os.environ["GREBE_CRASH_COUNTS"]).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{point}\n")
        file.flush()
        file.seek(0)
        return file.read().splitlines().count(point)


def _watched(function: Callable[..., Any], point: str) -> Callable[..., Any]:
    when, target, number = os.environ["GREBE_CRASH"].split(":")

    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        here = point == target and _count(point) == int(number)
        if here and when == "before":
            kill_session()
        result = function(*args, **kwargs)
        if here and when == "after":
            kill_session()
        return result

    return watched


if "GREBE_CRASH" in os.environ:
    from indexer.catalog import Catalog
    from indexer.format.store import Store

    for kind, name in ((Store, "put"), (Store, "put_file"), (Store, "put_record"), (Catalog, "commit")):
        setattr(kind, name, _watched(getattr(kind, name), name))
    Store.delete = _watched(Store.delete, "swap")  # type: ignore[method-assign] # forgets what a load left
