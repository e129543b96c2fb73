"""What was probably meant by a name that nothing has."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest of ``known``, or nothing.

    >>> did_you_mean("fliter", ["filter", "fusion"])
    "; did you mean 'filter'?"
    >>> did_you_mean("zzz", ["filter", "fusion"])
    ''
    """
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
