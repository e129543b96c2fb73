"""Applying a spec: creating a collection, or changing one in place.

What decides vectors and terms is in the spec's fingerprint; a change of it is kept as the catalog's *pending* spec,
and the next sync builds the new index beside the old one and swaps it in by one commit. Everything else changes at
once, and so do the policies of a spec that is pending: what they close must not stay open until a sync has run.
"""

from __future__ import annotations

from typing import Literal

from indexer.catalog import Catalog
from indexer.errors import CollectionNotFound, SpecError
from indexer.format.records import Ledger
from indexer.format.store import Store
from indexer.load_plan import forget, loads_of
from indexer.spec import CollectionSpec

Outcome = Literal["created", "unchanged", "changed", "rebuild pending"]


def apply(store: Store, spec: CollectionSpec, *, rebuild: bool = False) -> Outcome:
    """Make ``spec`` the collection's spec.

    Raises :class:`indexer.errors.SpecError` if the change needs a rebuild that was not asked for.
    """
    try:
        catalog = Catalog.open(store, spec.name)
    except CollectionNotFound:
        Catalog.create(store, spec)
        return "created"
    state = catalog.read()
    if spec == (state.pending or state.spec) and not rebuild:
        return "unchanged"
    reasons = rebuild_reasons(state.spec, spec)
    if state.position is None:
        new = state.model_copy(update={"spec": spec, "fingerprint": spec.fingerprint})
    elif rebuild:
        new = state.model_copy(update={"spec": _governed(state.spec, spec), "pending": spec})
    elif reasons:
        raise SpecError(
            f"{spec.name}: {'; '.join(reasons)}: this needs a new index; run the same command with --rebuild, "
            "and the old index keeps serving until the new one is built"
        )
    else:
        # An index that is to be built anew of the same spec is still to be.
        new = state.model_copy(update={"spec": spec, "pending": spec if state.pending == state.spec else None})
    catalog.commit(state, new.model_copy(update={"ledger": Ledger(), "operation": "apply"}), batch_end=None)
    if rebuild:
        forget(loads_of(catalog.store))  # what was built for a rebuild before is not what is asked for now
    return "rebuild pending" if new.pending else "changed"


def _governed(serving: CollectionSpec, pending: CollectionSpec) -> CollectionSpec:
    """Return the spec that serves until ``pending`` does: its own, under the policies of ``pending``."""
    try:
        return serving.under(pending)
    except ValueError as error:
        raise SpecError(
            f"{serving.name}: the policies do not fit the index that serves until the rebuild: {error}; apply the new "
            "policies without the rebuild first, or drop the collection and load it anew"
        ) from error


def rebuild_reasons(old: CollectionSpec, new: CollectionSpec) -> list[str]:
    """Say what about ``new`` the segments built under ``old`` cannot serve."""
    reasons = []
    if old.source.rows != new.source.rows:
        reasons.append("'source' is another table")
    if old.fingerprint != new.fingerprint:
        parts = ("key", "text", "vector", "isolation", "shards")
        changed = [part for part in parts if getattr(old, part) != getattr(new, part)]
        reasons.append(f"{', '.join(repr(part) for part in changed)} changed")
    added = [name for name in new.stored_columns if name not in old.stored_columns]
    if added:
        reasons.append(f"'columns' gained {', '.join(added)}, which the stored rows lack")
    return reasons
