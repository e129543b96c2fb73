"""Rows that nodes found, by where they lie there, and what is fetched of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa

from retrieval.chunks import Chunks
from retrieval.distributed.messages import Asker, Fetch
from retrieval.distributed.node import ASKED, BEST, VECTOR
from retrieval.distributed.routed import RoutedVersion
from retrieval.ranking import Positions


class Lines(Chunks):
    """The lines of a table that the node of ``part`` answered with, one for each row that it found."""

    def __init__(self, part: int, table: pa.Table) -> None:
        super().__init__(table, np.zeros((len(table), 0), np.float32), np.arange(len(table), dtype=np.uint32))
        self.part = part

    def numbers(self, column: str) -> Positions:
        """Return a column of whole numbers, ``(n,)``."""
        values: Positions = self.table.column(column).to_numpy()
        return values


def fetched_chunks(table: pa.Table) -> Chunks:
    """Return a table that was fetched as chunks."""
    vectors = np.zeros((len(table), 0), np.float32)
    if VECTOR in table.column_names and len(table):
        column = table.column(VECTOR).combine_chunks()
        vectors = column.values.to_numpy().reshape(len(table), -1)
    return Chunks(table, vectors, table.column(ASKED).to_numpy().astype(np.uint32))


def fetch(
    version: RoutedVersion,
    asker: Asker,
    found: Sequence[Lines],
    places: Positions,
    lines: Positions,
    *,
    names: Collection[str],
    passages: bool,
    context: int = 0,
    vectors: bool = False,
    deadline: float | None,
) -> tuple[list[Chunks], Positions, Positions]:
    """Return what nodes hold of rows that they ``found``: ``(n,)`` places among them, and lines there.

    That is chunks, and of each row ``(n,)`` the place among these and the chunk there that was found. They have the
    stored columns and text fields ``names``, the rest as :class:`retrieval.distributed.messages.Fetch` has it.
    """
    spec = version.spec
    of_place = {place: np.flatnonzero(places == place) for place in np.unique(places).tolist()}
    questions = {}
    for place, mine in of_place.items():
        part = found[place]
        questions[part.part] = Fetch(
            places=part.numbers("_place")[lines[mine]].tolist(),
            positions=part.numbers("_position")[lines[mine]].tolist(),
            columns=[name for name in spec.stored_columns if name in names],
            fields=[field for field in spec.text.fields if field in names and field not in spec.stored_columns],
            passages=passages,
            context=context,
            vectors=vectors,
        )
    answers = version.nodes.ask(asker, questions, deadline=deadline).answers()
    chunks = [fetched_chunks(answers[found[place].part][1]) for place in of_place]
    placed, best = np.empty_like(places), np.empty_like(lines)
    for number, mine in enumerate(of_place.values()):
        placed[mine] = number
        best[mine] = np.flatnonzero(chunks[number].table.column(BEST).to_numpy(zero_copy_only=False))
    return chunks, placed, best
