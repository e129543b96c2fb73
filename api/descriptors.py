"""Files that a process may have open."""

from __future__ import annotations

import resource
from contextlib import suppress


def take_all_descriptors() -> None:
    """Raise the soft limit of open files to the hard one.

    1,024, as usual, are fewer than a thousand users need, or a collection of some hundred segments.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # where the system's own limit is below what it calls the hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
