"""Nodes in this process: for tests, and for who wants a collection's parts without machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from retrieval.distributed.messages import (
    Answer,
    Asker,
    Part,
    Question,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
)
from retrieval.distributed.node import answer_question
from retrieval.distributed.routed import Answers, RoutedVersion
from retrieval.snapshot import Snapshot


class NearbyNodes:
    """One open snapshot per part, each of its share; implements :class:`retrieval.distributed.routed.Nodes`.

    Questions and answers are written and read as they are between machines.
    """

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self.snapshots = snapshots

    def ask(self, asker: Asker, questions: Mapping[int, Part], *, deadline: float | None) -> _Asked:
        """Ask each part its question."""
        return _Asked({part: self._answer(part, asker, question, deadline) for part, question in questions.items()})

    def _answer(self, part: int, asker: Asker, question: Part, deadline: float | None) -> tuple[Answer, pa.Table]:
        sent = decode_question(encode_question(Question(asker=asker, part=question)))
        with self.snapshots[part].pinned() as snapshot:
            return decode_answer(encode_answer(*answer_question(snapshot, sent, deadline=deadline)))

    def version(self) -> RoutedVersion:
        """Return the version that all of them have open, as a router sees it."""
        columns = [snapshot.own_columns for snapshot in self.snapshots]
        return RoutedVersion(self.snapshots[0].state, self, tuple(range(len(self.snapshots))), columns)


@dataclass(frozen=True, slots=True)
class _Asked:
    _answers: Answers

    def answers(self) -> Answers:
        """Return the answers, which are there."""
        return self._answers

    def cancel(self) -> None:
        """Do nothing: there is nothing under way."""
