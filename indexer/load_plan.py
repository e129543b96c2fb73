"""What a load reads, kept in the store so that it can be resumed; maintenance, which has no Spark, reads it too."""

from __future__ import annotations

from datetime import datetime

from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.errors import CatalogError
from indexer.format.records import Record
from indexer.format.store import Store
from indexer.spec import CollectionSpec, SourceSpec

FOLDER = "loads"
BEGUN, PLAN = "/begun.json", "/plan.json"
"""A load's position, put down before anything is read, and its plan."""


def loads_of(store: Store) -> Store:
    """Return the folder of the loads of a collection, whose folder is ``store``."""
    return store.child(FOLDER)


def forget(area: Store) -> None:
    """Delete the plans and results in ``area``."""
    area.delete(area.list(""))


class LoadPlan(Record):
    """What a load reads, and in how many parts per shard.

    Its ``id`` names the folder of its parts, so that no part of another plan is ever taken for one of its own.
    ``compares`` is the catalog version that a resync compares with; None for a load that replaces everything. ``large``
    has the tenants (by the hash that places them) whose rows are too many for one part, and in how many pieces they are
    cut: no other tenant's rows have a say in that.
    """

    id: str
    position: SourcePosition
    committed_at: datetime
    source: SourceSpec
    fingerprint: str
    stored_columns: tuple[str, ...]
    rows: int
    parts: int
    dim: int | None
    compares: int | None = None
    large: dict[int, int] = {}

    def fits(self, spec: CollectionSpec, epoch: str) -> bool:
        """Whether the plan loads what ``spec`` wants of the table ``epoch``.

        The index that a rebuild replaces may have come further since: the new one catches up.
        """
        same = (self.source.rows, self.fingerprint, self.stored_columns, self.position.epoch)
        return same == (spec.source.rows, spec.fingerprint, spec.stored_columns, epoch)

    def total(self, spec: CollectionSpec) -> int:
        """How many parts there are; none of an empty table."""
        return self.parts * spec.shards if self.rows else 0


def compares_with(plan: LoadPlan, state: CatalogState, catalog: Catalog | None) -> bool:
    """Say whether ``plan`` is a load's or, with ``catalog``, a resync's for which ``state`` is still as it was.

    Merges do not count.
    """
    if catalog is None or plan.compares is None:
        return catalog is None and plan.compares is None
    try:
        return catalog.read(plan.compares).position == state.position
    except CatalogError:
        return False
