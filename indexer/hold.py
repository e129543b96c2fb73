"""Holds: what a sync does not do without a person's word.

A batch that would delete more than ``max_delete_ratio`` of a collection (a table truncated by mistake, a filter turned
round in the job that fills it) is not applied. The catalog says so, and an older index goes on being served.
"""

from __future__ import annotations

from datetime import UTC, datetime

from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.errors import CollectionHeld, CommitConflict, HoldError
from indexer.format.records import Ledger
from indexer.format.states import Hold

MIN_ROWS = 100
"""Of fewer rows any part may go: a small table is often emptied and filled again."""


def mass_delete(state: CatalogState, removes: int, end: SourcePosition, approved: Hold | None) -> Hold | None:
    """Return the hold for a batch that ``removes`` too many rows; the ``approved`` hold's deletes are granted.

    They are so up to the hold's end: a sync that goes on behind it asks again.
    """
    granted = min(approved.deletes, removes) if approved and not _is_behind(state, approved) else 0
    rows, removed = state.live_rows - granted, removes - granted
    if state.live_rows < MIN_ROWS or removed <= state.spec.sync.max_delete_ratio * rows:
        return None
    return Hold(kind="mass_delete", since=datetime.now(UTC), end=end, deletes=removes, rows=state.live_rows)


def _is_behind(state: CatalogState, held: Hold) -> bool:
    position = state.position
    return position is not None and position.epoch == held.end.epoch and position.version >= held.end.version


def hold(catalog: Catalog, seen: CatalogState, held: Hold) -> CatalogState:
    """Commit ``held`` on top of ``seen``, whose position stays; one that is there already is left as it is."""
    if seen.held and (seen.held.kind, seen.held.end, seen.held.deletes) == (held.kind, held.end, held.deletes):
        return seen
    state = seen
    while (state.position, state.held) == (seen.position, seen.held):
        new = state.model_copy(update={"held": held, "ledger": Ledger(), "operation": "hold"})
        try:
            return catalog.commit(state, new, batch_end=None)
        except CommitConflict:
            state = catalog.read()
    return state


def approval(state: CatalogState, version: int | None) -> Hold | None:
    """Return the hold that ``version`` approves; raises :class:`HoldError` if that is not what is held."""
    if version is None:
        return None
    held = state.held
    if held is None or held.kind != "mass_delete":
        raise HoldError(f"{state.spec.name}: nothing waits for an approval; run the sync without --approve")
    if held.end.version != version:
        raise HoldError(
            f"{state.spec.name}: what is held ends at source version {held.end.version}, not {version}; "
            f"look at `grebe status {state.spec.name}`, then use --approve {held.end.version}"
        )
    return held


def require_free(state: CatalogState) -> None:
    """Raise :class:`CollectionHeld` after a rollback: syncs wait for a release."""
    if state.held and state.held.kind == "rollback":
        raise CollectionHeld(sentence(state, state.held))


def sentence(state: CatalogState, held: Hold) -> str:
    """Say what is held and what to do."""
    name = state.spec.name
    if held.kind == "rollback":
        at = state.position.version if state.position else "nothing"
        return (
            f"{name}: was rolled back to source version {at} and is held there; "
            f"`grebe sync {name} --release` reads on from it"
        )
    return (
        f"{name}: the changes up to source version {held.end.version} would delete {held.deletes} of {held.rows} rows, "
        f"more than sync.max_delete_ratio ({state.spec.sync.max_delete_ratio:g}) allows, and are held; searches see "
        f"the rows as before. If it is meant: `grebe sync {name} --approve {held.end.version}`; if not, put the rows "
        "back at the source and sync again"
    )
