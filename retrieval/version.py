"""One version of a collection, open for searching, wherever its segments are: what both kinds of it have in common.

A version never changes, but for who may see what of it. One that is closed while requests use it goes when the last is
done.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Self

import polars as pl
import pyarrow as pa

from indexer.catalog import CatalogState
from indexer.spec import CollectionSpec
from retrieval.errors import SnapshotClosed
from retrieval.filter import FilterSchema, schema_of
from retrieval.policies import Caller, Sight, Sights, digest_of


class OpenVersion(ABC):
    """An open version; safe to share between threads.

    ``version`` is the catalog's; ``epoch`` and ``source_version`` name the source position (None before the first
    load) and ``source_committed_at`` (UTC) is when the source committed it.
    """

    def __init__(self, state: CatalogState) -> None:
        self.state = state
        self.spec: CollectionSpec = state.spec
        self._sights: Sights | None = None
        self._digested: tuple[CollectionSpec, str] | None = None
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        self._gone = False

    @property
    def version(self) -> int:
        """The catalog version."""
        return self.state.version

    @property
    def epoch(self) -> str | None:
        """The id of the source table that was read."""
        return self.state.position.epoch if self.state.position else None

    @property
    def source_version(self) -> int | None:
        """The last source version that is in it."""
        return self.state.position.version if self.state.position else None

    @property
    def source_committed_at(self) -> datetime | None:
        """When the source committed that version (UTC)."""
        return self.state.source_committed_at

    @property
    @abstractmethod
    def n_chunks(self) -> int:
        """Chunks that count."""

    @property
    @abstractmethod
    def dim(self) -> int | None:
        """The width of the vectors; None while nothing is indexed and the spec does not say."""

    @property
    @abstractmethod
    def arrow_schema(self) -> pa.Schema:
        """The stored columns that the segments have, as Arrow types, in spec order; empty without segments."""

    @cached_property
    def schema(self) -> dict[str, pl.DataType]:
        """The same as polars types: what a filter is checked against."""
        frame = pl.from_arrow(self.arrow_schema.empty_table())
        assert isinstance(frame, pl.DataFrame)
        return dict(frame.schema)

    @cached_property
    def filter_schema(self) -> FilterSchema:
        """The same in the form that filters compile against fastest."""
        return schema_of(self.schema, self.spec.text.fields)

    def govern(self, newer: CollectionSpec) -> None:
        """Put the policies of ``newer`` in force for searches that begin from now on.

        All else stays: the version's data, and what is cached by predicate. Raises ValueError if they do not fit.
        """
        self.spec = self.spec.under(newer)

    def sight_of(self, caller: Caller) -> Sight:
        """Return what ``caller`` sees of the collection."""
        spec, sights = self.spec, self._sights
        if sights is None or sights.spec is not spec:  # what a slower thread left behind is of older policies
            sights = self._sights = Sights(spec, self.filter_schema)
        return sights.of(caller)

    @property
    def policies_digest(self) -> str:
        """What tells the policies in force from others."""
        spec, digested = self.spec, self._digested
        if digested is None or digested[0] is not spec:
            digested = self._digested = (spec, digest_of(spec.policies))
        return digested[1]

    @contextmanager
    def pinned(self) -> Iterator[Self]:
        """Keep the version open for the block; raises :class:`SnapshotClosed` if it is closed already."""
        with self._lock:
            if self._closed:
                raise SnapshotClosed(f"version {self.version} has been closed: use the one that took its place")
            self._users += 1
        try:
            yield self
        finally:
            with self._lock:
                self._users -= 1
            self._go_if_unused()

    def close(self) -> None:
        """Let no new request in, and free everything once the last one is done; may be called twice."""
        with self._lock:
            self._closed = True
        self._go_if_unused()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _go_if_unused(self) -> None:
        with self._lock:
            going = self._closed and not self._users and not self._gone
            self._gone = self._gone or going
        if going:
            self._free()

    @abstractmethod
    def _free(self) -> None:
        """Let go of what the version holds; called once."""
