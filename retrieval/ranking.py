"""From scored chunks to a leg's ranked rows: best chunk of each row, best first, ties by key."""

from __future__ import annotations

import math
import operator
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from indexer.spec import CollectionSpec
from retrieval.chunks import Chunks, Key, keys_at, keys_of

if TYPE_CHECKING:
    from retrieval.segments import OpenSegment

ROW_BITS = 24
"""A row of a snapshot as one number: the segment's place in it, then the row's ordinal in the segment."""

FEW = 64
"""Up to here a list is sorted sooner than an array is."""

FEW_KEYS = 512
"""Up to here keys are sorted sooner by Python than by polars."""

SOON_SORTED = 512
"""Up to here an array is sorted sooner than it is copied, partitioned and compared."""

Positions = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Scored chunks of one segment, in any order: ``positions`` and ``scores`` are ``(n,)``."""

    place: int
    positions: Positions
    scores: Scores


@dataclass(frozen=True, slots=True)
class Ranked:
    """A leg's rows, best first; each is named by its best chunk: segment ``places``, ``positions``, ``scores``."""

    places: list[int]
    positions: list[int]
    scores: list[float]

    def __len__(self) -> int:
        return len(self.positions)

    def part(self, start: int, stop: int) -> Ranked:
        """Return the rows from place ``start`` to before ``stop``."""
        return Ranked(self.places[start:stop], self.positions[start:stop], self.scores[start:stop])

    def n_at_least(self, score: float) -> int:
        """Return how many rows, from the first on, have at least ``score``."""
        return bisect_right(self.scores, -score, key=operator.neg)


NOTHING = Ranked([], [], [])


def top(scores: Scores, n: int) -> Positions:
    """Return the indices of the ``n`` best ``scores`` and of all that tie with the last of them, in any order."""
    kth = len(scores) - n
    if kth <= 0:
        return np.arange(len(scores))
    if len(scores) <= SOON_SORTED:
        order = scores.argsort()
        if scores[order[kth]] > scores[order[kth - 1]]:
            return order[kth:]
    ordered = scores.copy()
    ordered.partition(kth)
    best: Positions = (scores >= ordered[kth]).nonzero()[0]
    return best


def best_rows(rows: npt.NDArray[np.uint32], scores: Scores, k: int) -> Positions:
    """Return indices of chunks that hold the best chunks of the best ``k`` rows, ties with the last of them included.

    ``rows`` and ``scores`` are ``(n,)``: each chunk's row and score.
    """
    n = k
    while True:
        indices = top(scores, n)
        if len(indices) == len(scores) or len(np.unique(rows[indices])) >= k:
            return indices
        n *= 4


def rank(candidates: Sequence[Candidates], segments: Sequence[OpenSegment], spec: CollectionSpec, k: int) -> Ranked:
    """Return the best ``k`` distinct rows among ``candidates``.

    A row's best chunk stands for it, the earlier of two equally good ones; rows of equal score are ordered by key.
    """
    candidates = [part for part in candidates if len(part.positions)]
    if not candidates:
        return NOTHING
    if len(candidates) == 1:
        places = None  # one segment: worth a short way, it is the usual case of a compacted collection
        positions, scores = candidates[0].positions, candidates[0].scores
    else:
        places = np.concatenate([np.full(len(part.positions), part.place) for part in candidates])
        positions = np.concatenate([part.positions for part in candidates])
        scores = np.concatenate([part.scores for part in candidates])
    single = all(segments[part.place].one_chunk_rows for part in candidates)
    if single and places is None and len(scores) <= FEW:
        few = _few(candidates[0], k)
        if few is not None:
            return few
    if single:
        order = (-scores).argsort(kind="stable")
    else:
        every = np.full(len(positions), candidates[0].place) if places is None else places
        order = _best_chunks(every, positions, scores, segments)
    ordered = scores[order]
    if (ordered[1 : k + 1] == ordered[:-1][:k]).any():

        def keys(tied: Positions) -> list[Key]:
            of = [candidates[0].place] * len(tied) if places is None else places[tied].tolist()
            return keys_at(segments, spec, of, positions[tied].tolist())

        order = ties_by_key(order, ordered, k, keys)
    order = order[:k]
    named = [candidates[0].place] * len(order) if places is None else places[order].tolist()
    return Ranked(named, positions[order].tolist(), scores[order].tolist())


def _few(found: Candidates, k: int) -> Ranked | None:
    """Rank a few candidates of one segment in plain Python; None where a tie needs their keys."""
    scores, positions = found.scores.tolist(), found.positions.tolist()
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    best = [scores[at] for at in order[: k + 1]]
    if any(map(operator.eq, best, best[1:])):
        return None
    order = order[:k]
    return Ranked([found.place] * len(order), [positions[at] for at in order], best[:k])


def row_ids(ranked: Ranked, segments: Sequence[Chunks]) -> Positions:
    """Return each hit's row as one number, unique in the snapshot."""
    places, positions = np.array(ranked.places, dtype=np.int64), np.array(ranked.positions, dtype=np.int64)
    return rows_of(places, positions, segments)


def rows_of(places: Positions, positions: Positions, segments: Sequence[Chunks]) -> Positions:
    """Return the rows of chunks, as one number each that is unique in the snapshot; all arrays are ``(n,)``."""
    rows = np.empty(len(positions), dtype=np.int64)
    for place in np.unique(places).tolist():
        mine = places == place
        rows[mine] = (place << ROW_BITS) | segments[place].row_of_chunk[positions[mine]].astype(np.int64)
    return rows


def _best_chunks(places: Positions, positions: Positions, scores: Scores, segments: Sequence[Chunks]) -> Positions:
    """Return the index of each row's best chunk, best rows first."""
    order = np.lexsort((positions, places, -scores))
    rows = rows_of(places, positions, segments)
    _, first = np.unique(rows[order], return_index=True)
    return order[np.sort(first)]


def ties_by_key(
    order: Positions, scores: npt.NDArray[np.floating], k: int, keys: Callable[[Positions], Sequence[Any]]
) -> Positions:
    """Return what is in ``order`` of ``scores``, each run of equal ones that begins within the first ``k`` by key."""
    same = scores[1:] == scores[:-1]
    runs = np.concatenate([[0], np.cumsum(~same)])
    tied = np.concatenate([same, [False]]) | np.concatenate([[False], same])
    tied &= runs <= runs[min(k, len(runs)) - 1]
    at = order[tied]
    by = list(zip(runs[tied].tolist(), keys(at), strict=True))
    result = order.copy()
    result[tied] = at[sorted(range(len(at)), key=by.__getitem__)]
    return result


def rank_by_key(
    parts: Sequence[Chunks],
    positions: Sequence[Positions],
    schema: Mapping[str, pl.DataType],
    spec: CollectionSpec,
    k: int,
    after: Key | None = None,
) -> Ranked:
    """Return the first ``k`` by key of the chunks, of distinct rows, at ``positions`` of each part, with score 0.

    With ``after``, of those whose key comes after that one.
    """
    if sum(map(len, positions)) <= FEW_KEYS:
        return _few_by_key(parts, positions, spec, k, after)
    names = list(spec.key)
    kinds = {name: schema[name] for name in names if name in schema}  # a collection without rows has no types
    frames = [
        part.frame(kinds)[at].with_columns(pl.lit(place).alias("_place"), pl.Series("_position", at, pl.Int64))
        for place, (part, at) in enumerate(zip(parts, positions, strict=True))
        if len(at)
    ]
    if not frames:
        return NOTHING
    rows = pl.concat(frames)
    if after is not None:
        rows = rows.filter(_behind(names, after))
    best = rows.bottom_k(k, by=names).sort(names)
    return Ranked(best["_place"].to_list(), best["_position"].to_list(), [0.0] * best.height)


def _few_by_key(
    parts: Sequence[Chunks], positions: Sequence[Positions], spec: CollectionSpec, k: int, after: Key | None
) -> Ranked:
    """Return the same of few chunks, in plain Python."""
    found = [
        (comparable(key), place, position)
        for place, at in enumerate(positions)
        for key, position in zip(keys_of(parts[place], spec, at.tolist()), at.tolist(), strict=True)
    ]
    if after is not None:
        behind = comparable(after)
        found = [each for each in found if each[0] > behind]
    found = sorted(found)[:k]
    return Ranked([place for _, place, _ in found], [position for *_, position in found], [0.0] * len(found))


def comparable(key: Key) -> list[Any]:
    """Return a key as Python compares it in the order of keys: NaN comes after all other numbers."""
    return [_comparable(value) if isinstance(value, float) else value for value in key]


def _comparable(value: float) -> tuple[bool, float]:
    return (True, 0.0) if math.isnan(value) else (False, value)


def _behind(names: Sequence[str], key: Key) -> pl.Expr:
    """Return the condition that a row's key comes after ``key``."""
    behind = pl.lit(False)
    for name, value in reversed(list(zip(names, key, strict=True))):
        behind = (pl.col(name) > value) | ((pl.col(name) == value) & behind)
    return behind


def merged(parts: Sequence[Chunks], lists: Sequence[Candidates], spec: CollectionSpec, k: int) -> Ranked:
    """Return the best ``k`` of several lists of distinct rows, ties by key; each of ``lists`` names its part."""
    places = np.concatenate([np.full(len(part.positions), part.place) for part in lists])
    positions = np.concatenate([part.positions for part in lists])
    scores = np.concatenate([part.scores for part in lists])
    order = (-scores).argsort(kind="stable")

    def keys(tied: Positions) -> list[Key]:
        return keys_at(parts, spec, places[tied].tolist(), positions[tied].tolist())

    ordered = scores[order]
    if (ordered[1 : k + 1] == ordered[:-1][:k]).any():
        order = ties_by_key(order, ordered, k, keys)
    order = order[:k]
    return Ranked(places[order].tolist(), positions[order].tolist(), scores[order].tolist())
