"""How the vector leg searches one segment under one filter, prepared once and used by many queries.

Planned by how many chunks pass. Few (or no index): score exactly those. Many: the index with the bitmap as selector,
refined with the exact vectors. How many lists a query probes is decided per query, by how many *passing* chunks its
nearest lists hold: a filter that leaves the query's neighbourhood thin makes the search go further by itself, and one
that empties it makes it go as far as it takes. A graph cannot tell where the passing chunks are: it goes further by the
passing share alone, and below a tenth all that passes is scored.

FAISS ignores a selector when ``bounded_queue=False`` (its issue 5504), so that field keeps its default.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval import bitmap
from retrieval.bitmap import Bitmap, Positions
from retrieval.lru import ByteLru
from retrieval.narrowed import narrowed, size_bytes
from retrieval.scores import raw_faiss
from retrieval.segments import OpenSegment

Gathered = Any
"""What is kept for a plan that is used again and again: its vectors, ``(n, dim) float32``, or its narrowed index."""

PlanToken = tuple[int, int]
"""The view's token and the plan's own."""

EXACT_FLOATS = 1_200_000
"""Up to this many passing numbers (3,000 chunks of 384) an exact scan is as fast as probing, and exact."""

GRAPH_SHARE = 0.1
"""Below this passing share of a graph's segment all that passes is scored: the paths between what passes break off."""

DEFAULT_EF, DEFAULT_GRAPH_K_FACTOR, DEFAULT_EF_GROWTH = 64, 3.0, 0.5

MOSTLY = 0.5
"""From this share of a segment on, scanning all of it in order beats picking vectors one by one."""

DEFAULT_NPROBE = 16
DEFAULT_K_FACTOR = 16

DEFAULT_GROWTH = 0.3
"""The lists that hold the answer grow as the passing share falls, by share to the minus this power, if the index's
record does not say (``nprobe_tenth``, the lists needed at a share of a tenth). Measured at 100,000 vectors: 0 for
clustered ones, 0.33 for latent semantic vectors of sentences."""

DEFAULT_K_GROWTH = -0.5
"""The candidates that a hit needs change with the passing share in the same way (``k_factor_tenth``): codes are coarse,
but the fewer chunks compete for a place, the fewer must be refined."""

DEFAULT_DEEP_GROWTH, DEFAULT_DEEP_K_GROWTH, DEFAULT_DEEP_EF_GROWTH = 0.2, -0.2, 1.0
"""Lists, candidates for each hit and ``efSearch`` by the hits that are wanted over ten, to this power, if the record
does not say (``nprobe_hundred``, ``k_factor_hundred``, ``ef_search_hundred``). Those of lists were measured with
100,000 sentences; a graph's record that does not say has an ``efSearch`` that was measured too low."""

MEASURED_K = 10
"""An index's effort was measured for so many hits, and for ten times as many."""

NEARLY = 0.95

K_FACTORS = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""The candidates for each hit that are asked for: few, so that few sizes of result memory are in use."""

THIN = 0.5
FAR_BOOST = 4
"""Where less than this part of the usual share passes near a query, the filter excludes its neighbourhood: the answer
is far off, spread over many lists and among many that are about as far."""

PLAIN_SHARE = 0.9
"""From this passing share on (tombstones, mostly) the plain probe count serves."""

USES_BY_CHUNKS = 1 / 400
"""A plan is worth an index of its own after so many searches for each passing chunk: as much as they cost more."""


class VectorPlan:
    """How to search one segment's passing chunks; immutable but for what it derives on demand.

    ``kind`` is ``none`` (nothing passes), ``exact`` or ``approximate``. ``token`` is unique in the process
    and begins with the view's.
    """

    _tokens = itertools.count()

    def __init__(self, segment: OpenSegment, bits: Bitmap, view_token: int) -> None:
        self.token: PlanToken = (view_token, next(self._tokens))
        self.segment = segment
        self.bits = bits
        self.passing = bitmap.count(bits)
        self.kind = self._choose()
        self.uses = 0
        self._positions: Positions | None = None
        self._excluded: Positions | None = None
        self._parameters: dict[int, Any] = {}
        if self.kind == "approximate":
            self._prepare()

    @classmethod
    def of(cls, segment: OpenSegment, bits: Bitmap, *, view_token: int) -> VectorPlan:
        """Return the plan for the chunks in ``bits``, which must all have a vector, of the view with ``view_token``."""
        return cls(segment, bits, view_token)

    def _choose(self) -> str:
        if not self.passing:
            return "none"
        index = self.segment.index
        if index is None or self.passing * self.segment.vectors.shape[1] <= EXACT_FLOATS:
            return "exact"
        if self.segment.is_graph and self.passing < GRAPH_SHARE * self.segment.n:
            return "exact"
        return "approximate"

    def _prepare(self) -> None:
        self.index: Any = self.segment.index
        self.selector: Any = None
        if self.passing < self.segment.n:
            self.selector = raw_faiss.IDSelectorBitmap(self.bits)
        self.share = self.passing / self.segment.n
        if self.segment.is_graph:
            self._prepare_walking()
        else:
            self._prepare_probing()

    def _prepare_walking(self) -> None:
        parameters = self.segment.record.index.parameters
        measured = float(parameters.get("ef_search", DEFAULT_EF))
        growth = _growth(parameters.get("ef_search_tenth"), measured, DEFAULT_EF_GROWTH)
        self.ef, self.widening = measured, self.share**-growth
        self.k_factor = float(parameters.get("k_factor", DEFAULT_GRAPH_K_FACTOR))
        self.deep_growth = _growth(parameters.get("ef_search_hundred"), measured, DEFAULT_DEEP_EF_GROWTH)
        self.deep_k_growth = _growth(parameters.get("k_factor_hundred"), self.k_factor, 0.0)

    def _prepare_probing(self) -> None:
        index, share = self.index, self.share
        parameters = self.segment.record.index.parameters
        self.nlist: int = index.nlist
        self.nprobe = min(self.nlist, int(parameters.get("nprobe", DEFAULT_NPROBE)))
        self.k_factor = float(parameters.get("k_factor", DEFAULT_K_FACTOR))
        self.list_counts: npt.NDArray[np.int64] | None = None
        if share < PLAIN_SHARE:
            lists = self.segment.lists_of_chunks[self.positions]
            self.list_counts = np.bincount(lists, minlength=self.nlist)
        growth = _growth(parameters.get("nprobe_tenth"), self.nprobe, DEFAULT_GROWTH)
        self.k_growth = _growth(parameters.get("k_factor_tenth"), self.k_factor, DEFAULT_K_GROWTH)
        self.deep_growth = _growth(parameters.get("nprobe_hundred"), self.nprobe, DEFAULT_DEEP_GROWTH)
        self.deep_k_growth = _growth(parameters.get("k_factor_hundred"), self.k_factor, DEFAULT_DEEP_K_GROWTH)
        self.target = min(self.nlist, self.nprobe * share**-growth) * self.passing / self.nlist
        self.chunks_per_list = self.segment.n / self.nlist

    @property
    def positions(self) -> Positions:
        """The passing chunks' positions, ascending."""
        if self._positions is None:
            self._positions = bitmap.positions_of(self.bits, self.segment.n)
        return self._positions

    @property
    def excluded(self) -> Positions:
        """The positions of all other chunks, ascending."""
        if self._excluded is None:
            self._excluded = bitmap.positions_of(bitmap.invert(self.bits, self.segment.n), self.segment.n)
        return self._excluded

    @property
    def mostly(self) -> bool:
        """Whether so much passes that an exact scan should run over the whole segment."""
        return self.passing >= MOSTLY * self.segment.n

    def where(self, local_share: float) -> tuple[int, float]:
        """Return how much further to probe and how many candidates a hit needs, by the share that passes near a query.

        The candidates are as many as were measured to be needed or a little more, one of ``K_FACTORS``.
        """
        if local_share < THIN * self.share:
            return FAR_BOOST, self.k_factor * FAR_BOOST
        needed = self.k_factor * max(local_share, 1e-6) ** -self.k_growth if local_share < 1 else self.k_factor
        return 1, K_FACTORS[min(bisect.bisect_left(K_FACTORS, needed * NEARLY), len(K_FACTORS) - 1)]

    def deeper(self, chunks: float) -> tuple[float, float]:
        """Return how much broader to search for so many chunks than for ten, and how many more candidates each needs.

        The candidates for each are those for a hundred where still more are wanted.
        """
        if chunks <= MEASURED_K:
            return 1.0, 1.0
        tens = chunks / MEASURED_K
        return tens**self.deep_growth, min(tens, 10.0) ** self.deep_k_growth

    def parameters(self, effort: int) -> Any:
        """Return FAISS' parameters for ``effort`` lists, or for a graph's ``efSearch``; shared, never changed."""
        found = self._parameters.get(effort)
        if found is None:
            if self.segment.is_graph:
                found = raw_faiss.SearchParametersHNSW(efSearch=effort, sel=self.selector)
            else:
                found = raw_faiss.SearchParametersIVF(nprobe=effort, sel=self.selector)
            self._parameters[effort] = found
        return found

    def narrowed_index(self, kept: ByteLru[PlanToken, Gathered]) -> Any | None:
        """Return an index over the passing chunks alone, from ``kept``; made once the plan has been used often.

        None until then, and where the segment's index can't be narrowed.
        """
        index = kept.get(self.token)
        if index is None:
            self.uses += 1
            if self.uses < self.passing * USES_BY_CHUNKS:
                return None
            self.uses = 0
            plain = self.segment.plain_codes
            if plain is not None:
                index = narrowed(self.index, plain, self.bits)
                kept.put(self.token, index, size_bytes=size_bytes(index))
        return index


@functools.lru_cache(maxsize=1024)
def all_of(nprobe: int) -> Any:
    """Return FAISS' search parameters for ``nprobe`` lists without a selector; shared, never changed."""
    return raw_faiss.SearchParametersIVF(nprobe=nprobe)


def _growth(grown: float | str | None, plain: float, default: float) -> float:
    """The exponent by which an effort grows with what makes it grow, from its values at one and at ten times that.

    >>> _growth(32, 16, 0.3) == math.log10(2)
    True
    """
    return math.log10(float(grown) / plain) if grown else default
