"""What a search asks for, checked on the way in."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from indexer.spec import CollectionSpec, FusionKind, VectorSpec, WeightsSpec
from retrieval.errors import RequestError
from retrieval.refine.stages import NO_STAGES, Stages

Mode = Literal["hybrid", "vector", "keyword"]
MAX_K = 1000
MAX_QUERY_CHARS = 32_768
"""Far beyond what any embedding model reads; keyword search costs by the term."""
MAX_QUERIES = 16
"""As many as a model embeds at once; whoever puts a question in other words makes three to ten."""

LONGEST_QUERY_VECTOR = 1e18
"""Under dot and as float32: with vectors of up to 3e20 no sum of products overflows, however it is added up."""

EVEN_WEIGHTS: Mapping[str, float] = MappingProxyType(WeightsSpec().model_dump())


@dataclass(frozen=True, kw_only=True, slots=True)
class Fusion:
    """How the legs of a hybrid search become one list; see :mod:`retrieval.fusion`.

    What is None is as the collection's spec has it; of ``weights`` that are given, a leg not named weighs 0.5.
    """

    kind: FusionKind | None = None
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.kind not in (None, "rrf", "minmax"):
            raise RequestError(f"expected 'rrf' or 'minmax', got {self.kind!r}", field="fusion.kind")
        if self.weights is None:
            return
        for name, weight in self.weights.items():
            if name not in EVEN_WEIGHTS:
                raise RequestError(f"there is no leg {name!r}; the legs are vector and keyword", field="fusion.weights")
            if not (math.isfinite(weight) and weight >= 0):
                raise RequestError(
                    f"the weight of {name} must be a finite number of at least 0, got {weight}", field="fusion.weights"
                )
        weights = {**EVEN_WEIGHTS, **self.weights}
        if not any(weight > 0 for weight in weights.values()):
            raise RequestError("at least one weight must be above 0", field="fusion.weights")
        object.__setattr__(self, "weights", weights)

    def under(self, spec: CollectionSpec) -> tuple[FusionKind, Mapping[str, float]]:
        """Return kind and weights for a collection of ``spec``."""
        own = spec.fusion_in_force
        weights = own.weights.model_dump() if self.weights is None else self.weights
        return self.kind or own.kind, weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A part of a list: of ranked rows those from place ``offset``, of rows in key order those behind key ``after``.

    ``after`` is as in a URL (:func:`indexer.format.keys.format_key`).
    """

    offset: int = 0
    after: str | None = None


DEFAULT_FUSION = Fusion()
MAX_CONTEXT = 10
"""Most chunks before and after a hit's own that its passage may have."""

FUSION_DEPTH = 200
"""Each leg of a hybrid search brings at least this many rows: what only one leg finds can still win."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRequest:
    """One search.

    ``queries`` are several texts in place of one ``query``, each of which is searched for
    (:mod:`retrieval.queries`); the first is the one that a reranker reads. ``vector`` is ``(dim,)`` numbers, of any
    length (it is normalised under cosine). ``like`` is the key of a row, as values in spec order, whose vector is taken
    instead, and which is not found itself. Without ``mode`` the search is hybrid, vector or keyword by what is given;
    with nothing to rank by it returns the rows that pass the filter in key order. ``include`` names the columns and
    text fields to return (None: the stored columns); a name that is repeated counts once. ``context`` chunks of a hit's
    row before and after its own are in its passage. ``min_similarity`` leaves out of the vector leg what has a lower
    score there. ``stages`` come after fusion; a search by filter alone ranks nothing and has none. With a ``page``,
    ``k`` rows of a list are returned: of the one of the best ``MAX_K`` rows, whatever page it is, or where nothing is
    ranked of all rows that pass. ``now`` (aware; by default the present) is what a filter takes for it. ``deadline`` is
    on the clock of ``time.monotonic()``.
    """

    query: str | None = None
    queries: tuple[str, ...] | None = None
    vector: npt.NDArray[np.floating[Any]] | Sequence[float] | None = None
    like: Sequence[Any] | None = None
    k: int = 10
    filter: str | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    dialect: str = "databricks"
    mode: Mode | None = None
    fusion: Fusion = DEFAULT_FUSION
    stages: Stages = NO_STAGES
    include: tuple[str, ...] | None = None
    min_similarity: float | None = None
    context: int = 0
    explain: bool = False
    page: Page | None = None
    now: datetime | None = None
    deadline: float | None = None
    pool: int = field(init=False, repr=False)
    """How many rows the legs are to bring: ``k``, what the first stage takes, or what pages are made of."""

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or not 1 <= self.k <= MAX_K:
            raise RequestError(f"expected a whole number from 1 to {MAX_K}, got {self.k!r}", field="k")
        if isinstance(self.context, bool) or not isinstance(self.context, int) or not 0 <= self.context <= MAX_CONTEXT:
            raise RequestError(
                f"expected a whole number from 0 to {MAX_CONTEXT}, got {self.context!r}", field="context"
            )
        if self.mode not in (None, "hybrid", "vector", "keyword"):
            raise RequestError(f"expected 'hybrid', 'vector' or 'keyword', got {self.mode!r}", field="mode")
        if self.query is not None:
            _check_length(self.query, "query")
        if self.queries is not None:
            self._check_queries(self.queries)
        if self.like is not None and self.vector is not None:
            raise RequestError("there is a vector already", field="like", hint="give one of 'like' and 'vector'")
        if self.params and self.filter is None:
            raise RequestError(
                f"there is no filter that uses {', '.join(f':{name}' for name in sorted(self.params))}",
                field="params",
                hint="give 'filter', or leave the parameters out",
            )
        if self.min_similarity is not None and not math.isfinite(self.min_similarity):
            raise RequestError(f"expected a finite number, got {self.min_similarity!r}", field="min_similarity")
        object.__setattr__(self, "pool", self._pool())
        if self.include is not None:
            object.__setattr__(self, "include", tuple(dict.fromkeys(self.include)))

    def _check_queries(self, queries: tuple[str, ...]) -> None:
        for name in ("query", "vector", "like"):
            if getattr(self, name) is not None:
                hint = "put it first among them" if name == "query" else f"leave '{name}' out"
                raise RequestError(f"there is a {name!r} already", field="queries", hint=hint)
        if not 1 <= len(queries) <= MAX_QUERIES:
            raise RequestError(f"expected 1 to {MAX_QUERIES} queries, got {len(queries)}", field="queries")
        for place, text in enumerate(queries):
            if not text or text.isspace():
                raise RequestError("a blank query finds nothing: leave it out", field=f"queries.{place}")
            _check_length(text, f"queries.{place}")

    def _pool(self) -> int:
        if self.page is None:
            return self.k if self.stages is NO_STAGES else self._checked_pool()
        if self.stages.names:
            hint = f"leave the cursor out, and ask for up to {MAX_K} rows at once"
            raise RequestError("what comes after fusion has no pages", field=self.stages.names[0], hint=hint)
        return MAX_K if self.text is not None or self.brings_vector else self.k + 1  # one more: is there another page?

    def _checked_pool(self) -> int:
        """Return what the first stage takes; raises RequestError where there is nothing to rank, or to rerank by."""
        for name in self.stages.names:
            if self.text is None and (not self.brings_vector or name == "rerank"):
                hint = "give 'query'" if name == "rerank" else "give 'query' or 'vector'; a filter alone ranks nothing"
                raise RequestError("there is no query to rank by", field=name, hint=hint)
        return next(iter(self.stages.depths(self.k).values()), self.k)

    @property
    def text(self) -> str | None:
        """The query, or the first of several; None when it is blank."""
        query = self.query if self.queries is None else self.queries[0]
        return query if query and not query.isspace() else None

    @property
    def texts(self) -> dict[int, str | None]:
        """What is searched for, by its place among the ``queries``; of those that are the same the first counts."""
        if self.queries is None:
            return {0: self.text}
        firsts = {text: place for place, text in reversed(list(enumerate(self.queries)))}
        return {place: text for place, text in enumerate(self.queries) if firsts[text] == place}

    @property
    def after(self) -> str | None:
        """The key behind which the page begins, if it does."""
        return None if self.page is None else self.page.after

    @property
    def brings_vector(self) -> bool:
        """Whether there is a vector to search by without a model."""
        return self.vector is not None or self.like is not None

    def resolved_mode(self, vectors: VectorSpec) -> Mode | None:
        """Return the mode to run in a collection of ``vectors``, or None for a search by filter alone.

        Raises RequestError when the mode asked for lacks its query or its vector, when there are no vectors to be
        similar to, or none can be as similar as that.
        """
        mode = self._mode(has_model=vectors.model is not None)
        least = self.min_similarity
        if least is None:
            return mode
        if mode not in ("hybrid", "vector"):
            what = "a filter alone" if mode is None else "a keyword search"
            hint = "leave it out, or give 'query' or 'vector' and search by meaning"
            raise RequestError(f"{what} compares no vectors", field="min_similarity", hint=hint)
        if vectors.metric == "cosine" and not -1 <= least <= 1:
            hint = "'explain' shows the cosine of each hit as the raw score of its vector leg"
            raise RequestError(f"expected a cosine, from -1 to 1, got {least:g}", field="min_similarity", hint=hint)
        return mode

    def _mode(self, *, has_model: bool) -> Mode | None:
        """Return the mode, whatever else is asked for with it."""
        can_vector = self.brings_vector or (self.text is not None and has_model)
        if self.mode is None:
            if self.text is None:
                return "vector" if can_vector else None
            return "hybrid" if can_vector else "keyword"
        if self.mode in ("hybrid", "keyword") and self.text is None:
            raise RequestError(f"a {self.mode} search needs a query", field="query")
        if self.mode in ("hybrid", "vector") and not can_vector:
            hint = "give 'vector', or use mode 'keyword'" if self.text else "give 'query' or 'vector'"
            raise RequestError(
                f"a {self.mode} search needs a vector" + (", and this collection has no model" if self.text else ""),
                field="vector",
                hint=hint,
            )
        return self.mode


def query_vector(values: Any, *, dim: int, normalise: bool) -> npt.NDArray[np.float32]:
    """Return ``values`` as a contiguous ``(dim,) float32`` vector, of unit length with ``normalise``.

    Raises RequestError, saying what was expected, for a wrong width, a value that is no finite number, zeros, or
    (without ``normalise``) a length beyond ``LONGEST_QUERY_VECTOR``.
    """
    expected = f"expected {dim} finite numbers"
    try:
        vector = _float32(values)
    except (TypeError, ValueError) as error:
        raise RequestError(f"{expected}, got something that is no list of numbers", field="vector") from error
    if vector.shape != (dim,):
        raise RequestError(f"{expected}, got the shape {'x'.join(map(str, vector.shape)) or '()'}", field="vector")
    wide = vector.astype(np.float64)  # squares of float32 may overflow or vanish
    squared = float(np.dot(wide, wide))
    if not math.isfinite(squared):
        place = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise RequestError(f"{expected}, got {vector[place]} at place {place}", field="vector")
    if squared == 0:
        raise RequestError(f"{expected} that are not all zero", field="vector", hint="zero has no direction")
    if not normalise:
        if squared > LONGEST_QUERY_VECTOR**2:
            raise RequestError(
                f"{expected} of a length of at most {LONGEST_QUERY_VECTOR:g}, got {math.sqrt(squared):.3g}",
                field="vector",
                hint="scale it down: the order of the results stays the same",
            )
        return vector
    unit: npt.NDArray[np.float32] = vector / math.sqrt(squared)
    return unit


def _float32(values: Any) -> npt.NDArray[np.float32]:
    if isinstance(values, np.ndarray) and values.dtype == np.float32:
        return np.ascontiguousarray(values)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused
        return np.ascontiguousarray(values, dtype=np.float32)


def unknown_names(names: Sequence[str], known: Sequence[str], *, where: str) -> None:
    """Raise RequestError for the first of ``names`` that is not ``known``, with the nearest ones that are.

    Distinct names that are more than there are hold an unknown one, so the look ends soon, however many are given.
    """
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
            raise RequestError(f"there is no field {name!r}", field=where, hint=hint)


def _check_length(text: str, field: str) -> None:
    if len(text) > MAX_QUERY_CHARS:
        raise RequestError(f"expected at most {MAX_QUERY_CHARS:,} characters, got {len(text):,}", field=field)
