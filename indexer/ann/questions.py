"""Queries whose answers are known: an index's effort is set by some, and the gate asks it others.

All are answered by one exact scan of the segment and one of a tenth of it, whatever is built afterwards: another would
bring every vector to a GPU again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from indexer.ann.device import Device
from indexer.ann.ivf import SEED, drawn
from indexer.ann.nearest import Floats, Nearest, nearest
from indexer.format.vectors import Positions, Vectors, taken

K, DEEP_K = 10, 100
"""Hits that are asked for; an effort for more or for others grows between the two."""

TUNING_QUERIES = 250
DEEP_EVERY = 2
"""Of the queries for tuning, one in so many is asked for many hits too."""

GATE_QUERIES = 500
"""Of the segment's own vectors, so many are asked for; each is left out of its own answer."""

FILTERED_SHARE = 10
"""One chunk in so many passes the filter under which the growth of an effort is measured."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Queries ``(n, dim)``, the position that each is of (-1: of none), and their ``k`` nearest of the ``passing``.

    There are fewer nearest where fewer chunks pass.
    """

    vectors: Floats
    own: Positions
    passing: Positions
    nearest: Nearest
    k: int


@dataclass(frozen=True, kw_only=True)
class Exam:
    """What an index is tuned with, the same where a tenth of the chunks passes and for many hits; and the gate's."""

    tuning: Questions
    filtered: Questions
    deep: Questions
    gate: Questions


def exam(vectors: Vectors, present: Positions, queries: Floats | None, device: Device) -> Exam:
    """Draw queries from the segment's chunks ``present``, and find their answers on the ``device``.

    The gate asks ``queries`` of people's kind, ``(n, dim)``, too.
    """
    tuning, gate = drawn(present, TUNING_QUERIES, SEED + 1), drawn(present, GATE_QUERIES, SEED + 3)
    tenth = drawn(present, max(2, len(present) // FILTERED_SHARE), SEED + 2)
    own = np.concatenate([tuning, gate])
    asked = np.concatenate([taken(vectors, tuning), taken(vectors, gate)])
    if queries is not None and len(queries):
        asked = np.concatenate([asked, queries])
        own = np.concatenate([own, np.full(len(queries), -1, dtype=np.int64)])
    answers = nearest(asked, own, vectors, present, min(DEEP_K, len(present) - 1), device)
    few = len(tuning)
    of_tenth = nearest(asked[:few], tuning, vectors, tenth, min(K, len(tenth) - 1), device)

    def part(some: slice, k: int) -> Questions:
        return Questions(vectors=asked[some], own=own[some], passing=present, nearest=answers.part(some, k), k=k)

    return Exam(
        tuning=part(slice(few), K),
        filtered=Questions(vectors=asked[:few], own=tuning, passing=tenth, nearest=of_tenth, k=K),
        deep=part(slice(0, few, DEEP_EVERY), DEEP_K),
        gate=part(slice(few, None), K),
    )
