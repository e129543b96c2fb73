"""The history of a collection: its kept versions, newest first."""

from __future__ import annotations

import itertools

from indexer.catalog import Catalog, CatalogState
from indexer.versions import list_versions, read_versions


def history(catalog: Catalog, *, limit: int | None = None) -> list[CatalogState]:
    """Return the newest ``limit`` versions that can be read, or all of them, newest first."""
    newest_first = reversed(list_versions(catalog).versions)
    return list(itertools.islice(read_versions(catalog.store, newest_first), limit))
