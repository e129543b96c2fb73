"""What a search may ask for after fusion: rerank, decay, collapse, diversify, each over the first rows of the last.

The order is that of what needs what. The reranker's score replaces the one before, so a decay before it would be lost;
which rows of a value are its best is known when scores are; diversity is a matter of the whole list, so whatever
changes it afterwards would undo it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, get_args

from retrieval.errors import RequestError
from retrieval.refine.decay import LARGEST, DecayKind, seconds

StageName = Literal["rerank", "decay", "collapse", "diversify"]
STAGE_NAMES: tuple[StageName, ...] = get_args(StageName)
MAX_DEPTH = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Rerank:
    """Let the collection's cross-encoder score the first ``depth`` rows anew (50, or ``k`` if that is more).

    See :mod:`retrieval.refine.rerank`.
    """

    depth: int | None = None

    def __post_init__(self) -> None:
        _check_depth("rerank", self.depth)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decay:
    """Let scores fall with the distance of a stored column's value from ``origin``; see :mod:`retrieval.refine.decay`.

    Of a date or timestamp ``scale`` and ``offset`` are durations (``"30d"``, or a timedelta) and ``origin`` is the
    request's time, or an ISO 8601 text or datetime; those without a zone are UTC. Of a number all three are numbers,
    and ``origin`` has to be given. The first ``depth`` rows (200, or ``k`` if that is more) take part.
    """

    column: str
    scale: str | timedelta | float
    kind: DecayKind = "exp"
    offset: str | timedelta | float = 0
    midpoint: float = 0.5
    weight: float = 1.0
    origin: datetime | date | str | float | None = None
    depth: int | None = None

    def __post_init__(self) -> None:
        _check_depth("decay", self.depth)
        if self.kind not in get_args(DecayKind):
            raise RequestError(f"expected 'exp', 'gauss' or 'linear', got {self.kind!r}", field="decay.kind")
        if not _length("scale", self.scale) > 0:
            raise RequestError(f"must be above 0, got {self.scale!r}", field="decay.scale")
        if not _length("offset", self.offset) >= 0:
            raise RequestError(f"must be at least 0, got {self.offset!r}", field="decay.offset")
        if not 0 < self.midpoint < 1:
            raise RequestError(f"must be between 0 and 1, got {self.midpoint!r}", field="decay.midpoint")
        if not 0 <= self.weight <= 1:
            raise RequestError(f"must be from 0 to 1, got {self.weight!r}", field="decay.weight")


@dataclass(frozen=True, kw_only=True, slots=True)
class Collapse:
    """Keep the best ``most`` rows of each value of a stored column, of the first ``depth`` (200, or ``k`` if more).

    Rows without a value all stay; see :mod:`retrieval.refine.collapse`.
    """

    column: str
    most: int = 1
    depth: int | None = None

    def __post_init__(self) -> None:
        _check_depth("collapse", self.depth)
        if isinstance(self.most, bool) or not isinstance(self.most, int) or not 1 <= self.most <= MAX_DEPTH:
            raise RequestError(
                f"expected a whole number from 1 to {MAX_DEPTH}, got {self.most!r}", field="collapse.most"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Diversify:
    """Pick rows that are unlike those before them, of the first ``depth`` (100, or ``k`` if that is more).

    ``diversity`` 0 is the order as it is, 1 looks at nothing but difference; see :mod:`retrieval.refine.diversity`.
    """

    diversity: float = 0.5
    depth: int | None = None

    def __post_init__(self) -> None:
        _check_depth("diversify", self.depth)
        if not 0 <= self.diversity <= 1:
            raise RequestError(f"must be from 0 to 1, got {self.diversity!r}", field="diversify.diversity")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """The stages of one search; those that are None are left out."""

    rerank: Rerank | None = None
    decay: Decay | None = None
    collapse: Collapse | None = None
    diversify: Diversify | None = None

    @property
    def names(self) -> tuple[StageName, ...]:
        """The stages that are asked for, in the order in which they run."""
        return tuple(name for name in STAGE_NAMES if getattr(self, name) is not None)

    def depths(self, k: int) -> dict[StageName, int]:
        """Return how many rows each stage takes at most, in order: never more than the stage before it leaves.

        Raises RequestError where a stage would take fewer than the ``k`` that are to be returned.
        """
        depths: dict[StageName, int] = {}
        most = MAX_DEPTH
        for name in self.names:
            asked = getattr(self, name).depth
            if asked is not None and asked < k:
                raise RequestError(
                    f"must be at least k, which is {k}, got {asked}",
                    field=f"{name}.depth",
                    hint="rows beyond the depth are not returned",
                )
            most = depths[name] = min(most, asked or max(k, DEFAULT_DEPTHS[name]))
        return depths


DEFAULT_DEPTHS: dict[StageName, int] = {"rerank": 50, "decay": 200, "collapse": 200, "diversify": 100}
"""A reranker's time grows with each row (docs/ranking.md has it measured); the others take next to none."""

NO_STAGES = Stages()


def _check_depth(stage: StageName, depth: object) -> None:
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or not 1 <= depth <= MAX_DEPTH):
        raise RequestError(f"expected a whole number from 1 to {MAX_DEPTH}, got {depth!r}", field=f"{stage}.depth")


def _length(name: str, value: object) -> float:
    """Return a duration's seconds or a finite number."""
    if isinstance(value, str | timedelta):
        try:
            return seconds(value)
        except ValueError as error:
            hint = "months and years have no fixed length: give days"
            raise RequestError(str(error), field=f"decay.{name}", hint=hint) from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise RequestError(f"expected a duration or a finite number, got {value!r}", field=f"decay.{name}")
    return float(value)
