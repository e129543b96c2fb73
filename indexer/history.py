"""The history of a collection: its kept versions, newest first, with who made each and what it changed of the spec."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from indexer.catalog import Catalog, CatalogState
from indexer.spec import CollectionSpec
from indexer.versions import list_versions, read_commits


@dataclass(frozen=True, kw_only=True)
class Change:
    """A part of the spec as it was and as it is, as JSON has them; None for a part that is not given."""

    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True)
class Past:
    """One version: its ``state``, who made it (``user@host``, None where that was not noted), and the parts of the
    spec, or of the one that waits for a rebuild, that are others than in the kept version before, by name.
    """

    state: CatalogState
    by: str | None
    changed: Mapping[str, Change]


def history(catalog: Catalog, *, limit: int | None = None) -> list[Past]:
    """Return the newest ``limit`` versions that can be read, or all of them, newest first."""
    newest_first = reversed(list_versions(catalog).versions)
    most = None if limit is None else limit + 1  # the last one is compared with the one before
    commits = list(itertools.islice(read_commits(catalog.store, newest_first), most))
    befores = [*(state for state, _ in commits[1:]), None]
    return [
        Past(state=state, by=by, changed=changes(before, state))
        for (state, by), before in itertools.islice(zip(commits, befores, strict=True), limit)
    ]


def changes(before: CatalogState | None, after: CatalogState) -> dict[str, Change]:
    """Return the parts of the spec that ``after`` has others of than ``before``.

    Of a collection that was just made, those that were given; none where what was before is not known.
    """
    new = after.pending or after.spec
    if before is None:
        if after.operation != "create":
            return {}
        given = [name for name, field in type(new).model_fields.items() if getattr(new, name) != field.get_default()]
        return {name: Change(before=None, after=value) for name, value in _parts(new).items() if name in given}
    parts = _changes(_parts(before.pending or before.spec), _parts(new))
    in_force = _changes(_parts(before.spec), _parts(after.spec)).get("policies")
    # Those of a spec that waits for a rebuild are in force as far as they fit what is indexed; the rest comes with it.
    return parts | ({"policies in force": in_force} if in_force and in_force != parts.get("policies") else {})


def _changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Change]:
    names = dict.fromkeys([*old, *new])
    return {name: Change(before=old.get(name), after=new.get(name)) for name in names if old.get(name) != new.get(name)}


def _parts(spec: CollectionSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json")
