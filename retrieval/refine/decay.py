"""Decay: how a row's factor falls with the distance of a value from where it is best, as pure functions.

With x = max(0, |value - origin| - offset) / scale:

``exp``      factor = midpoint ** x           half as much for each further scale, if midpoint is 0.5
``gauss``    factor = midpoint ** (x * x)     flat near the origin, then steep
``linear``   factor = max(0, 1 - (1 - midpoint) * x)   nothing beyond scale / (1 - midpoint)

All three are 1 up to ``offset`` and ``midpoint`` at ``offset + scale``. They are the decay functions of Elasticsearch's
and OpenSearch's ``function_score`` (origin, scale, offset, decay) and Qdrant's ``exp_decay``, ``gauss_decay`` and
``lin_decay`` (target, scale, midpoint), written without logarithms. Distances count in both directions.

    score = r * (1 - weight + weight * factor),   r the score before on the scale of :mod:`retrieval.refine.scaling`

``weight`` 1 multiplies by the whole factor; with 0.3 the oldest row keeps 0.7 of its relevance.

Edge cases: a value that is missing (NULL, NaN) has the factor ``midpoint``, as if it lay one scale away: neither like
the freshest, which is what Elasticsearch gives it, nor last. An infinite value has the factor 0.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt

DecayKind = Literal["exp", "gauss", "linear"]
Floats = npt.NDArray[np.float64]

LARGEST = 1e300
"""Of numbers that a distance is reckoned from or measured by: a whole number may be larger than any double."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DURATION = r"^([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])$"


def distances(values: Floats, *, origin: float, offset: float) -> Floats:
    """Return how far ``values`` ``(n,)`` are from ``origin``, less ``offset``; NaN stays NaN.

    >>> distances(np.array([1.0, 10.0, 14.0, np.nan]), origin=10, offset=2).tolist()
    [7.0, 0.0, 2.0, nan]
    """
    return np.maximum(np.abs(values - origin) - offset, 0.0)


def factors(distance: Floats, kind: DecayKind, *, scale: float, midpoint: float) -> Floats:
    """Return the factor, from 0 to 1, of each ``distance`` ``(n,)``; NaN gets ``midpoint``.

    ``scale`` is above 0, ``midpoint`` between 0 and 1.

    >>> factors(np.array([0.0, 30.0, 60.0]), "exp", scale=30, midpoint=0.5).tolist()
    [1.0, 0.5, 0.25]
    >>> factors(np.array([0.0, 30.0, 60.0]), "gauss", scale=30, midpoint=0.5).tolist()
    [1.0, 0.5, 0.0625]
    >>> factors(np.array([0.0, 30.0, 60.0]), "linear", scale=30, midpoint=0.5).tolist()
    [1.0, 0.5, 0.0]
    """
    with np.errstate(over="ignore"):  # so far away that the factor is 0
        steps = np.where(np.isnan(distance), scale, distance) / scale
        if kind == "linear":
            return np.maximum(1.0 - (1.0 - midpoint) * steps, 0.0)
        decayed: Floats = midpoint ** (steps if kind == "exp" else steps * steps)
        return decayed


def weighed(relevance: Floats, factor: Floats, weight: float) -> Floats:
    """Return ``relevance`` ``(n,)``, from 0 to 1, less what ``weight`` of each ``factor`` takes from it.

    >>> weighed(np.array([1.0, 0.8]), np.array([0.5, 1.0]), 0.5).tolist()
    [0.75, 0.8]
    """
    return relevance * (1.0 - weight + weight * factor)


def seconds(duration: str | timedelta) -> float:
    """Return the seconds of a duration: a timedelta, or a number and one of s, m, h, d and w; raises ValueError.

    These are Elasticsearch's time units and the command's own. There are no months and years: they have no fixed
    length.

    >>> seconds("30d"), seconds("1.5h"), seconds("10m")
    (2592000.0, 5400.0, 600.0)
    """
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    match = re.fullmatch(DURATION, duration)
    if match is None:
        raise ValueError(f"expected a number and one of s, m, h, d or w, as in '30d' or '12h', got {duration!r}")
    return float(match[1]) * _SECONDS[match[2]]
