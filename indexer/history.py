"""The history of a collection: its kept versions, newest first, with who made each and what it changed of the spec."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from indexer.catalog import Catalog, CatalogState
from indexer.versions import list_versions, made_by, read_versions


@dataclass(frozen=True, kw_only=True)
class Past:
    """One version: its ``state``, who made it (``user@host``, None where that was not noted), and which parts of the
    spec, or of the one that waits for a rebuild, are others than in the kept version before.
    """

    state: CatalogState
    by: str | None
    changed: tuple[str, ...]


def history(catalog: Catalog, *, limit: int | None = None) -> list[Past]:
    """Return the newest ``limit`` versions that can be read, or all of them, newest first."""
    newest_first = reversed(list_versions(catalog).versions)
    most = None if limit is None else limit + 1  # the last one is compared with the one before
    states = list(itertools.islice(read_versions(catalog.store, newest_first), most))
    pairs = itertools.zip_longest(states, states[1:])
    return [
        Past(state=state, by=made_by(catalog.store, state.version), changed=changed_parts(before, state))
        for state, before in itertools.islice(pairs, limit)
    ]


def changed_parts(before: CatalogState | None, after: CatalogState) -> tuple[str, ...]:
    """Return the names of the parts of the spec that ``after`` has others of than ``before``; none without one."""
    if before is None:
        return ()
    old, new = before.pending or before.spec, after.pending or after.spec
    parts = tuple(name for name in type(new).model_fields if getattr(old, name) != getattr(new, name))
    if "policies" not in parts and before.spec.policies != after.spec.policies:  # a rebuild that waits changes no rows
        parts += ("policies",)
    return parts
