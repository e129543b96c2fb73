"""A decay over a stored column: what is refused of it, and the distances of rows' values in one unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from indexer.spec import CollectionSpec
from retrieval.chunks import Chunks
from retrieval.errors import RequestError
from retrieval.policies import Sight
from retrieval.refine.columns import column_type, values_of
from retrieval.refine.decay import LARGEST, Floats, distances, seconds
from retrieval.refine.stages import Decay

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecayColumn:
    """The column ``name`` of type ``dtype``; ``origin``, ``scale`` and ``offset`` are in its unit.

    That is the second of a date (at its midnight, UTC) or timestamp, since 1970, and 1 of a number.
    """

    name: str
    dtype: pl.DataType
    origin: float
    scale: float
    offset: float

    @classmethod
    def of(
        cls, decay: Decay, spec: CollectionSpec, schema: Mapping[str, pl.DataType], sight: Sight, now: datetime
    ) -> DecayColumn | None:
        """Return the column that ``decay`` names for a request at ``now``; None in a collection without rows.

        Raises RequestError for one that is not stored, that ``sight`` masks (the order of the rows would tell its
        values), or whose type or unit does not fit.
        """
        dtype = column_type("decay", decay.column, spec, schema, sight)
        if dtype is None:
            return None
        if dtype == pl.Date or dtype == pl.Datetime:
            origin, length = _moment(decay.origin, now), _in_seconds
        elif dtype.is_numeric():
            origin, length = _number("origin", decay.origin, decay), _number
        else:
            raise RequestError(
                f"{decay.column} is of type {dtype}",
                field="decay.column",
                hint="a decay goes by a date, a timestamp or a number",
            )
        scale, offset = length("scale", decay.scale, decay), length("offset", decay.offset, decay)
        return cls(name=decay.column, dtype=dtype, origin=origin, scale=scale, offset=offset)

    def distances(
        self, parts: Sequence[Chunks], places: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]
    ) -> Floats:
        """Return how far the rows of chunks, ``(n,)`` each, are from the origin; NaN for those without a value."""
        values = _as_numbers(values_of(self.name, self.dtype, parts, places, positions))
        return distances(values, origin=self.origin, offset=self.offset)


def _as_numbers(column: pl.Series) -> Floats:
    if column.dtype.is_temporal():
        return column.dt.epoch("us").cast(pl.Float64).to_numpy() / 1e6
    return column.cast(pl.Float64).to_numpy()


def _in_seconds(name: str, value: str | timedelta | float, decay: Decay) -> float:
    if isinstance(value, str | timedelta):
        return seconds(value)
    if value == 0:
        return 0.0
    raise RequestError(
        f"expected a duration, because {decay.column} is of dates, got {value!r}",
        field=f"decay.{name}",
        hint="as in '30d' or '12h'",
    )


def _number(name: str, value: object, decay: Decay) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return float(value)
    hint = "give the number from which the distance counts" if name == "origin" else "as in 10 or 0.5"
    raise RequestError(
        f"expected a number, because {decay.column} is of numbers, got {value!r}", field=f"decay.{name}", hint=hint
    )


def _moment(origin: object, now: datetime) -> float:
    """Return ``origin``, or ``now`` if there is none, in seconds since 1970."""
    moment = now if origin is None else origin
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            moment = None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001 - the zone follows
    if not isinstance(moment, datetime):
        raise RequestError(
            f"expected a date or time, got {origin!r}",
            field="decay.origin",
            hint="as in '2026-03-01' or '2026-03-01T12:00:00Z'; without it, the request's time is taken",
        )
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH).total_seconds()
