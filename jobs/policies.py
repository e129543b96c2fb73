"""What policies do to a collection's rows: how many each role sees, and what a draft of the spec would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from indexer.format.keys import format_key
from indexer.spec import CollectionSpec
from retrieval import bitmap
from retrieval.bitmap import Positions
from retrieval.chunks import keys_of
from retrieval.policies import Caller, Sight, sight_of
from retrieval.snapshot import Snapshot

COLUMNS = ("role", "rows", "of", "masked", "tenants", "sees nothing because")
DRAFT_COLUMNS = ("role", "rows now", "rows then", "more", "fewer", "masked then", "sees nothing then because")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a caller sees: so many ``rows``, ``masked`` columns, ``tenants`` (None: not kept apart), or why none.

    ``places`` are the rows' first chunks, segment by segment.
    """

    rows: int
    masked: tuple[str, ...]
    tenants: int | None
    troubles: tuple[str, ...]
    places: Sequence[Positions]

    def as_json(self) -> dict[str, Any]:
        """Return it without the places."""
        return {"rows": self.rows, "masked": self.masked, "tenants": self.tenants, "troubles": self.troubles}


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What ``role``, or several together, see ``now`` of the rows that there are and, with a draft, would see ``then``.

    ``more`` and ``fewer`` count the rows that the draft shows and hides, ``shown`` and ``hidden`` are the first of
    their keys, as in a URL.
    """

    role: str
    of: int
    now: Seen
    then: Seen | None = None
    more: int = 0
    fewer: int = 0
    shown: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        found: dict[str, Any] = {"role": self.role, "of": self.of, "now": self.now.as_json()}
        if self.then is not None:
            found |= {"then": self.then.as_json(), "more": self.more, "fewer": self.fewer}
            found |= {"shown": self.shown, "hidden": self.hidden}
        return found

    def as_row(self) -> tuple[object, ...]:
        """Return the cells under :data:`COLUMNS`, or :data:`DRAFT_COLUMNS` where there is a draft."""
        now, then = self.now, self.then
        if then is None:
            return self.role, now.rows, self.of, ", ".join(now.masked), now.tenants, "; ".join(now.troubles)
        told = ", ".join(then.masked), "; ".join(then.troubles)
        return self.role, now.rows, then.rows, self.more, self.fewer, *told


def effect_of(
    snapshot: Snapshot, caller: Caller, role: str, draft: CollectionSpec | None = None, *, keys: int = 10
) -> Effect:
    """Return what ``caller`` sees of ``snapshot``, called ``role``, and what the policies of ``draft`` would change.

    At most so many ``keys`` are named of each kind. Raises ValueError where the draft's policies do not fit what is
    indexed.
    """
    live = (bitmap.contains(view.live, view.segment.first_chunks) for view in snapshot.views)
    of = sum(int(np.count_nonzero(rows)) for rows in live)
    now = _seen(snapshot, snapshot.spec, caller)
    if draft is None:
        return Effect(role=role, of=of, now=now)
    then = _seen(snapshot, snapshot.spec.under(draft), caller)
    shown = [np.setdiff1d(new, old) for new, old in zip(then.places, now.places, strict=True)]
    hidden = [np.setdiff1d(old, new) for new, old in zip(then.places, now.places, strict=True)]
    return Effect(
        role=role,
        of=of,
        now=now,
        then=then,
        more=sum(map(len, shown)),
        fewer=sum(map(len, hidden)),
        shown=_first_keys(snapshot, shown, keys),
        hidden=_first_keys(snapshot, hidden, keys),
    )


def roles_of(spec: CollectionSpec, draft: CollectionSpec | None) -> list[str]:
    """Return the roles that have a policy, those of the draft too, in their order."""
    policies = (*spec.policies, *(draft.policies if draft else ()))
    return list(dict.fromkeys(policy.role for policy in policies))


def troubles_of(spec: CollectionSpec, sight: Sight, caller: Caller) -> dict[str, str]:
    """Return, by role, why a policy of ``caller`` lets no row through, or that there is none."""
    named = [policy.role for policy in spec.policies]
    without = sorted(caller.roles.difference(named)) if named else ()
    return {**dict.fromkeys(without, f"no policy is for it; there are some for {', '.join(named)}"), **sight.troubles}


def _seen(snapshot: Snapshot, spec: CollectionSpec, caller: Caller) -> Seen:
    sight = sight_of(spec, snapshot.filter_schema, caller)
    places = [
        selection.segment.first_chunks[bitmap.contains(selection.bits, selection.segment.first_chunks)]
        for selection in snapshot.passing(None, sight).selections
    ]
    return Seen(
        rows=sum(map(len, places)),
        masked=tuple(sorted(sight.masks)),
        tenants=_tenants(snapshot, sight) if spec.tenant else None,
        troubles=tuple(troubles_of(spec, sight, caller).values()),
        places=places,
    )


def _tenants(snapshot: Snapshot, sight: Sight) -> int:
    return len({segment.record.tenant for segment in snapshot.within(sight).segments})


def _first_keys(snapshot: Snapshot, places: Sequence[Positions], most: int) -> tuple[str, ...]:
    """Return the first ``most`` keys of the rows at ``places`` of each segment."""
    found: list[tuple[Any, ...]] = []
    for segment, positions in zip(snapshot.segments, places, strict=True):
        found.extend(keys_of(segment, snapshot.spec, positions.tolist()))
    return tuple(format_key(key) for key in sorted(found)[:most])
