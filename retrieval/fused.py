"""The ranked lists of a search's legs as one list, with what made its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from indexer.spec import CollectionSpec
from retrieval.chunks import Key
from retrieval.explanation import Explanation
from retrieval.fusion import Contribution, Ids, Leg, contributions, fuse
from retrieval.ranking import Ranked
from retrieval.request import SearchRequest

KeysAt = Callable[[Sequence[int], Sequence[int]], list[Key]]
"""The keys of chunks, from their places and positions."""


def fused(
    request: SearchRequest,
    legs: Mapping[str, Ranked],
    spec: CollectionSpec,
    *,
    ids_of: Callable[[Ranked], Ids],
    keys_at: KeysAt,
    limit: int | None = None,
) -> tuple[Ranked, list[Explanation] | None]:
    """Return the legs as one list; a single leg keeps its own scores. Explanations are there if the request wants them.

    It has ``limit`` rows, by default as many as the request's pool.

    What the vector leg found that is less similar than the request wants is left out of it; the others' scores are as
    if it were not.

    ``ids_of`` gives each hit's row as one number, ``keys_at`` the keys at these places and positions.
    """
    similar = _similar(request, legs)
    if len(legs) == 1:
        if similar:
            legs = {"vector": legs["vector"].part(0, similar["vector"])}
        return _explained_leg(legs) if request.explain else (next(iter(legs.values())), None)
    chunks: dict[int, tuple[int, int]] = {}
    scored: dict[str, Leg] = {}
    # The keyword leg's passage shows the words that were asked for; it is named last and so wins.
    for name, ranked in sorted(legs.items(), reverse=True):
        ids = ids_of(ranked)
        chunks.update(zip(ids.tolist(), zip(ranked.places, ranked.positions, strict=True), strict=True))
        scored[name] = Leg(ids, np.array(ranked.scores, dtype=np.float64), similar.get(name))

    def keys_of(rows: list[int]) -> list[Key]:
        places, positions = zip(*(chunks[row] for row in rows), strict=True)
        return keys_at(places, positions)

    kind, weights = request.fusion.under(spec)
    best = fuse(kind, scored, weights, keys_of=keys_of, limit=limit or request.pool)
    ranked = Ranked([chunks[row][0] for row in best.ids], [chunks[row][1] for row in best.ids], best.scores)
    if not request.explain:
        return ranked, None
    return ranked, [Explanation(legs=parts) for parts in contributions(kind, scored, weights, best.ids)]


def _similar(request: SearchRequest, legs: Mapping[str, Ranked]) -> dict[str, int]:
    """Return how many of the vector leg's rows are as similar as the request wants, if it says so."""
    if request.min_similarity is None:
        return {}
    return {"vector": legs["vector"].n_at_least(request.min_similarity)}


def _explained_leg(legs: Mapping[str, Ranked]) -> tuple[Ranked, list[Explanation]]:
    """Explain a single leg: its raw scores are the scores."""
    ((name, ranked),) = legs.items()
    return ranked, [
        Explanation(legs={name: Contribution(rank=rank, raw_score=score, normalised=score, weight=1.0)})
        for rank, score in enumerate(ranked.scores, start=1)
    ]
