"""Searching for rows like one that is there: its vector is the query, and it is left out of what is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from indexer.format.keys import key_of_json
from retrieval import bitmap
from retrieval.errors import RequestError
from retrieval.policies import Sight
from retrieval.ranking import Positions, Ranked, row_ids, rows_of
from retrieval.request import query_vector
from retrieval.rows import find_row
from retrieval.scores import Floats
from retrieval.snapshot import Snapshot


@dataclass(frozen=True, eq=False, slots=True)
class LikedRow:
    """A row of a snapshot: its number there (:func:`retrieval.ranking.rows_of`) and its ``vector``, ``(dim,)``."""

    number: int
    vector: Floats

    def left_out(self, ranked: Ranked, snapshot: Snapshot, k: int) -> Ranked:
        """Return the first ``k`` rows of ``ranked``, without this one."""
        kept = np.flatnonzero(row_ids(ranked, snapshot.segments) != self.number)[:k].tolist()
        return Ranked(
            [ranked.places[at] for at in kept],
            [ranked.positions[at] for at in kept],
            [ranked.scores[at] for at in kept],
        )


def liked_row(snapshot: Snapshot, key: Sequence[Any], sight: Sight) -> LikedRow:
    """Return the row of ``key`` and the mean of its chunks' vectors, each at unit length under cosine.

    Raises RequestError for a row that is not there, or not for ``sight``, and for one without a vector.
    """
    found = find_liked(snapshot, key, sight)
    if found is None:
        raise RequestError(f"version {snapshot.version} has no row of that key", field="like", code="row_not_found")
    return liked_at(snapshot, *found, sight)


def liked_at(snapshot: Snapshot, place: int, position: int, sight: Sight) -> LikedRow:
    """Return the row that chunk ``position`` of the segment at ``place`` belongs to, as :func:`liked_row` does.

    Vectors of chunks with text that ``sight`` hides do not count, because they say what it does.
    """
    segment = snapshot.segments[place]
    chunks = np.array(segment.chunks_of_row(position), dtype=np.int64)
    usable = bitmap.contains(segment.comparable(sight.hidden_text), chunks)
    vector = segment.vectors[chunks[usable]].astype(np.float64).mean(axis=0) if usable.any() else np.zeros(0)
    if not vector.any():
        raise RequestError("that row has no vector to compare with", field="like", hint="give 'query' or 'vector'")
    normalise = snapshot.spec.vector.metric == "cosine"
    places: Positions = np.array([place])
    number = int(rows_of(places, np.array([position]), snapshot.segments)[0])
    return LikedRow(number, query_vector(vector, dim=len(vector), normalise=normalise))


def find_liked(snapshot: Snapshot, key: Sequence[Any], sight: Sight) -> tuple[int, int] | None:
    """Return where the row of ``key`` (JSON's values) is: its segment's place and a chunk there, or None.

    Raises RequestError for what cannot be a key.
    """
    if not snapshot.schema:
        return None
    try:
        values = key_of_json(key, [snapshot.arrow_schema.field(name) for name in snapshot.spec.key])
    except ValueError as error:
        raise RequestError(str(error), field="like") from error
    return find_row(snapshot, values, sight, where="like")
