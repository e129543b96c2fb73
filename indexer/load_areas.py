"""The folders in which loads keep their finished parts, as maintenance sees them: what they name, and who needs it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from indexer.build import PartResult
from indexer.catalog import Catalog, CatalogState, SourcePosition
from indexer.errors import ObjectNotFound
from indexer.format.records import Record
from indexer.format.store import Entry, Store
from indexer.load_plan import BEGUN, FOLDER, PLAN, LoadPlan, compares_with

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, kw_only=True)
class LoadArea:
    """One load's folder: its ``files``, what it reads, its ``plan`` if there is one, and what its parts ``name``."""

    path: str
    files: tuple[Entry, ...]
    plan: LoadPlan | None
    position: SourcePosition | None
    names: frozenset[str]

    def needed(self, catalog: Catalog, state: CatalogState, oldest_job: datetime, dropped: Collection[int]) -> bool:
        """Whether the load runs, or could be resumed for what ``state`` wants without the ``dropped`` versions."""
        if any(entry.modified_at >= oldest_job for entry in self.files):
            return True
        plan = self.plan
        if plan is None or plan.compares in dropped:
            return False
        loading = state.position is None or state.pending is not None
        return plan.fits(state.pending or state.spec, plan.position.epoch) and compares_with(
            plan, state, None if loading else catalog
        )

    @property
    def everything(self) -> set[str]:
        """The paths of its own files and of those that its parts name."""
        return {entry.path for entry in self.files} | self.names


def load_areas(store: Store, entries: Iterable[Entry]) -> list[LoadArea]:
    """Read the areas that a listing's ``entries`` show."""
    by_area: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.path.startswith(f"{FOLDER}/"):
            by_area["/".join(entry.path.split("/")[:2])].append(entry)
    return [
        LoadArea(
            path=area,
            files=tuple(files),
            plan=_read(store, f"{area}{PLAN}", LoadPlan),
            position=_read(store, f"{area}{BEGUN}", SourcePosition),
            names=frozenset(
                name for file in files if file.path.startswith(f"{area}/part-") for name in _named(store, file.path)
            ),
        )
        for area, files in by_area.items()
    ]


def _read(store: Store, path: str, kind: type[R]) -> R | None:
    try:
        return kind.model_validate_json(store.get(path))
    except (ObjectNotFound, ValidationError):
        return None


def _named(store: Store, path: str) -> list[str]:
    """What a part names; nothing if it is gone meanwhile: a load forgets its parts once a version names the same."""
    try:
        part = PartResult.model_validate_json(store.get(path))
    except (ObjectNotFound, ValidationError):
        return []
    return [file.path for segment in part.segments for file in segment.files] + [file.path for file in part.letters]
