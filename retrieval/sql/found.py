"""The rows that a statement is about: where they are, and their columns as a frame."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from retrieval import bitmap
from retrieval.bitmap import Positions
from retrieval.chunks import Chunks
from retrieval.passing import Passing
from retrieval.ranking import Ranked
from retrieval.sql.scope import SCORE

ROW = "\0row"
"""The column of a frame that numbers the rows, from 0."""

Part = tuple[Chunks, Positions]


class FoundRows:
    """Rows, each by one of its chunks: ``parts`` are segments and ``(n,) int64`` chunk positions in them.

    ``order`` is None where the rows are in the parts' order, else ``(n,)``: the place there of each row. ``scores`` are
    those of rows that were searched for, ``(n,) float64``. ``is_ranked`` says that they are in the order that they have
    where a statement names none.
    """

    def __init__(
        self, parts: Sequence[Part], *, order: Positions | None = None, scores: npt.NDArray[np.float64] | None = None
    ) -> None:
        self.parts = parts
        self._order = order
        self.scores = scores
        self.is_ranked = order is not None
        self._ends = np.cumsum([len(positions) for _, positions in parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @classmethod
    def passing(cls, passing: Passing) -> FoundRows:
        """Return the rows that pass, in no particular order."""
        parts: list[Part] = []
        for selection in passing.selections:
            segment = selection.segment
            if segment.one_chunk_rows:
                parts.append((segment, selection.positions))
            else:
                parts.append((segment, segment.first_chunks[bitmap.contains(selection.bits, segment.first_chunks)]))
        return cls(parts)

    @classmethod
    def ranked(cls, ranked: Ranked, segments: Sequence[Chunks]) -> FoundRows:
        """Return the rows of a search, best first."""
        places, positions = np.array(ranked.places, dtype=np.int64), np.array(ranked.positions, dtype=np.int64)
        return cls.placed(places, positions, segments, np.array(ranked.scores, dtype=np.float64))

    @classmethod
    def placed(
        cls,
        places: Positions,
        positions: Positions,
        segments: Sequence[Chunks],
        scores: npt.NDArray[np.float64] | None = None,
    ) -> FoundRows:
        """Return the rows at these ``places`` among the segments and chunks there, all ``(n,)``, in this order."""
        by_place = np.argsort(places, kind="stable")
        kept, starts = np.unique(places[by_place], return_index=True)
        cut = np.split(positions[by_place], starts[1:]) if len(kept) else []
        order = np.empty(len(places), dtype=np.int64)
        order[by_place] = np.arange(len(places))
        parts = [(segments[place], part) for place, part in zip(kept.tolist(), cut, strict=True)]
        return cls(parts, order=order, scores=scores)

    def frame(
        self, names: Collection[str], schema: Mapping[str, pl.DataType], check_time: Callable[[], None]
    ) -> pl.DataFrame:
        """Return the stored columns ``names`` of the rows, in their order, with ``ROW`` and, if searched, ``SCORE``."""
        kinds = {name: schema[name] for name in sorted(names)}
        frames = []
        for segment, positions in self.parts if kinds else ():
            check_time()
            frame = segment.frame(kinds)
            whole = self._order is None and len(positions) == segment.n  # else they may be in another order
            frames.append(frame if whole else frame[positions])
        frame = pl.concat(frames) if frames else pl.DataFrame(schema=kinds)
        if self._order is not None and kinds:
            frame = frame[self._order]
        own = [pl.Series(ROW, np.arange(len(self), dtype=np.int64))]
        if self.scores is not None:
            own.append(pl.Series(SCORE, self.scores))
        return pl.DataFrame([*frame, *own])

    def take(self, rows: Positions) -> FoundRows:
        """Return the rows of these numbers, in this order."""
        places, positions = self.places(rows)
        scores = None if self.scores is None else self.scores[rows]
        return FoundRows.placed(places, positions, [segment for segment, _ in self.parts], scores)

    def each(self) -> list[tuple[Chunks, int]]:
        """Return every row's segment and chunk, in the rows' order."""
        places, positions = self.places(np.arange(len(self)))
        return [(self.parts[place][0], at) for place, at in zip(places.tolist(), positions.tolist(), strict=True)]

    def places(self, rows: Positions) -> tuple[Positions, Positions]:
        """Return the places among ``parts`` of the rows of these numbers, and their chunks there."""
        at = rows if self._order is None else self._order[rows]
        places = np.searchsorted(self._ends, at, side="right")
        starts = np.concatenate([[0], self._ends])[places] if len(at) else at
        positions = np.empty(len(at), dtype=np.int64)
        for place in np.unique(places).tolist():
            mine = places == place
            positions[mine] = self.parts[place][1][at[mine] - starts[mine]]
        return places, positions
