"""A router's view of one version: its nodes hold the segments, and it knows the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from indexer.catalog import CatalogState
from retrieval.distributed.messages import Answer, Asker, Part, newest_schema
from retrieval.policies import Caller
from retrieval.version import OpenVersion

Answers = dict[int, tuple[Answer, pa.Table]]
"""Answers by the part that gave them."""


class Asked(Protocol):
    """Questions under way."""

    def answers(self) -> Answers:
        """Wait for all answers and return them.

        Raises :class:`retrieval.errors.NodeError`, DeadlineExceeded, and what a node's search raises.
        """

    def cancel(self) -> None:
        """Say that nobody waits for the answers, if they are not there yet."""


class Nodes(Protocol):
    """The machines that hold the parts of collections. Which of a part's machines answers is theirs to choose."""

    def ask(self, asker: Asker, questions: Mapping[int, Part], *, deadline: float | None) -> Asked:
        """Begin to ask each part its question, until ``deadline`` (time.monotonic()); returns at once."""


class RoutedVersion(OpenVersion):
    """A version that nodes have open.

    ``parts`` hold its shards, and have its ``columns``: each their schema, and when the segment was written that each
    has its type from. Together that is ``arrow_schema``; where nodes differ in it, they are told.
    """

    def __init__(
        self,
        state: CatalogState,
        nodes: Nodes,
        parts: tuple[int, ...],
        columns: Sequence[tuple[pa.Schema, Sequence[datetime]]],
    ) -> None:
        super().__init__(state)
        schema = newest_schema(columns, state.spec.stored_columns)
        is_told = any(not own.equals(schema) for own, _ in columns)
        self.nodes = nodes
        self.parts = parts
        self._arrow_schema = schema
        self._schema_bytes = schema.serialize().to_pybytes() if is_told else None

    @property
    def n_chunks(self) -> int:
        """Chunks that count."""
        return self.state.n_chunks

    @property
    def dim(self) -> int | None:
        """The width of the vectors; None while nothing is indexed and the spec does not say."""
        return self.state.dim or self.spec.vector.dim

    @property
    def arrow_schema(self) -> pa.Schema:
        """The stored columns that the segments have, as Arrow types, in spec order; empty without segments."""
        return self._arrow_schema

    def asker(self, caller: Caller, now: datetime) -> Asker:
        """Return what nodes are told of a caller who asks at ``now``."""
        return Asker(
            collection=self.spec.name,
            version=self.version,
            policies=self.policies_digest,
            roles=tuple(sorted(caller.roles)),
            claims=dict(caller.claims),
            unrestricted=caller.unrestricted,
            now=now,
            schema_bytes=self._schema_bytes,
        )

    def ask_all(self, asker: Asker, part: Part, *, deadline: float | None) -> Asked:
        """Begin to ask every part the same."""
        return self.nodes.ask(asker, dict.fromkeys(self.parts, part), deadline=deadline)

    def _free(self) -> None:
        """Nothing is held."""
