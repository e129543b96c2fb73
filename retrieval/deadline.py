"""Deadlines, on the clock of ``time.monotonic()``: what takes long looks at its own between two pieces of work."""

from __future__ import annotations

import time

from retrieval.errors import DeadlineExceeded


def check_deadline(deadline: float | None, during: str, hint: str = "") -> None:
    """Raise :class:`retrieval.errors.DeadlineExceeded` if ``deadline`` has passed; None never does.

    >>> check_deadline(None, "during the search"), check_deadline(time.monotonic() + 60, "during the search")
    (None, None)
    """
    if deadline is not None and time.monotonic() > deadline:
        raise DeadlineExceeded(f"the deadline passed {during}" + (f"; {hint}" if hint else ""))
