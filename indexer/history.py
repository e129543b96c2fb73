"""The history of a collection: its kept versions, newest first, with who made each and what it changed of the spec."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from indexer.catalog import Catalog, CatalogState
from indexer.versions import list_versions, read_commits


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
    commits = list(itertools.islice(read_commits(catalog.store, newest_first), most))
    befores = [*(state for state, _ in commits[1:]), None]
    return [
        Past(state=state, by=by, changed=changed_parts(before, state))
        for (state, by), before in itertools.islice(zip(commits, befores, strict=True), limit)
    ]


def changed_parts(before: CatalogState | None, after: CatalogState) -> tuple[str, ...]:
    """Return the names of the parts of the spec that ``after`` has others of than ``before``.

    Of a collection that was just made, those that were given; none where what was before is not known.
    """
    new = after.pending or after.spec
    if before is None:
        given = (name for name, field in type(new).model_fields.items() if getattr(new, name) != field.get_default())
        return tuple(given) if after.operation == "create" else ()
    old = before.pending or before.spec
    parts = tuple(name for name in type(new).model_fields if getattr(old, name) != getattr(new, name))
    if "policies" not in parts and before.spec.policies != after.spec.policies:  # a rebuild that waits changes no rows
        parts += ("policies",)
    return parts
