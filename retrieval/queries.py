"""Several queries of one search: each is searched for as it would be alone, and their lists become one.

    score(d) = sum over queries of  1 / (60 + rank of d in the query's list)

Reciprocal ranks (:mod:`retrieval.fusion`), because scores of different queries do not compare. A query that does not
find d adds nothing. Rackauckas, "RAG-Fusion: a new take on retrieval-augmented generation", 2024, is this over the
rewritings of a question by a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from retrieval.chunks import Key
from retrieval.explanation import Asked, Explanation
from retrieval.fused import KeysAt
from retrieval.fusion import Contribution, Ids, Leg, contributions, fuse
from retrieval.ranking import Ranked
from retrieval.request import FUSION_DEPTH, Mode

Found = tuple[Ranked, list[Explanation] | None]
"""The list of one query, and what made its scores if the request wants that."""


def depth_of_query(pool: int) -> int:
    """Return how many rows each query brings where ``pool`` are wanted of all: what none finds first can still win."""
    return max(pool, FUSION_DEPTH)


def pool_of_query(mode: Mode | None, pool: int) -> int:
    """Return how many rows the legs of each query are to bring surely; of hybrid ones each leg brings more anyhow."""
    return pool if mode == "hybrid" else depth_of_query(pool)


def together(
    lists: Mapping[int, Found], *, ids_of: Callable[[Ranked], Ids], keys_at: KeysAt, limit: int, explain: bool
) -> Found:
    """Return the best ``limit`` rows of the ``lists`` by the places of their queries, ties by key.

    A row is named by the chunk that it has in the list in which it ranks best, the first of several.
    """
    chunks: dict[int, tuple[int, int]] = {}
    best_rank: dict[int, int] = {}
    legs: dict[str, Leg] = {}
    for place, (ranked, _) in sorted(lists.items()):
        ids = ids_of(ranked)
        legs[_name(place)] = Leg(ids, np.array(ranked.scores, dtype=np.float64))
        for rank, row in enumerate(ids.tolist()):
            if rank < best_rank.get(row, len(ids)):
                best_rank[row] = rank
                chunks[row] = ranked.places[rank], ranked.positions[rank]

    def keys_of(rows: list[int]) -> list[Key]:
        places, positions = zip(*(chunks[row] for row in rows), strict=True)
        return keys_at(places, positions)

    best = fuse("rrf", legs, {}, keys_of=keys_of, limit=limit)
    ranked = Ranked([chunks[row][0] for row in best.ids], [chunks[row][1] for row in best.ids], best.scores)
    if not explain:
        return ranked, None
    parts = contributions("rrf", legs, {}, best.ids)
    return ranked, [Explanation(queries=_asked(lists, given)) for given in parts]


def _asked(lists: Mapping[int, Found], given: Mapping[str, Contribution]) -> dict[int, Asked]:
    """Return what each query gave to a hit, from what was ``given`` by its rank in each list."""
    asked = {}
    for place, (_, explanations) in sorted(lists.items()):
        fused = given.get(_name(place))
        if fused is not None and explanations is not None:
            asked[place] = Asked(fused=fused, legs=explanations[fused.rank - 1].legs)
    return asked


def _name(place: int) -> str:
    """Return the name of a query's list; in the order of names lists are added up."""
    return f"{place:02}"
