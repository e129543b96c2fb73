"""Errors of the index builder.

::

    IndexerError
    ├── SpecError               the collection's YAML is wrong (file, line and field are named)
    ├── StoreError              the object store failed
    │   └── ObjectNotFound      no object at that path
    ├── CorruptFile             a file's bytes are not those that were written (named by its checksum)
    ├── CatalogError
    │   ├── NewerCatalog        a newer release of Grebe wrote it: upgrade this one
    │   ├── CollectionNotFound  no catalog under that name
    │   ├── CollectionExists    there is one already
    │   ├── CommitConflict      another writer committed first: read again and rebase
    │   ├── ProgressMoved       the catalog's progress is not the batch's start: start anew from the catalog
    │   ├── CollectionBusy      another sync of the collection is running: wait for it, or try again later
    │   └── HoldError           an approval or a release of what is not held
    │       └── CollectionHeld  syncs wait for a person's word (the message says which)
    ├── ModelError
    │   ├── EmbeddingError      the embedding model cannot be loaded or gave unusable vectors
    │   └── RerankError         the reranking model cannot be loaded or gave unusable scores
    └── BuildError              a segment cannot be built
        └── RecallTooLow        no index over its vectors finds as much as the spec asks for
"""

from __future__ import annotations

from collections.abc import Callable


class IndexerError(Exception):
    """Anything that the index builder raises on purpose."""


class SpecError(IndexerError):
    """The collection's spec is wrong; the message names file, line and field."""


class StoreError(IndexerError):
    """The object store failed."""


class ObjectNotFound(StoreError):
    """There is no object at that path."""


class CorruptFile(IndexerError):
    """A file's bytes are not those that were written; ``path`` is its place in the collection's folder, if known."""

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class CatalogError(IndexerError):
    """The catalog refused or could not be read."""


class NewerCatalog(CatalogError):
    """A newer release of Grebe wrote the catalog, with what this one does not know of."""


class CollectionNotFound(CatalogError):
    """There is no collection of that ``name`` in the store; ``others`` looks up which there are."""

    def __init__(self, message: str, *, name: str = "", others: Callable[[], list[str]] = list) -> None:
        super().__init__(message)
        self.name = name
        self.others = others


class CollectionExists(CatalogError):
    """There is a collection of that name already."""


class CommitConflict(CatalogError):
    """Another writer committed first; read the catalog again, rebase and retry."""


class ProgressMoved(CatalogError):
    """The catalog's progress is not the batch's start; the stream must start anew from the catalog."""


class CollectionBusy(CatalogError):
    """Another sync of the collection is running."""


class HoldError(CatalogError):
    """An approval or a release does not fit what is held."""


class CollectionHeld(HoldError):
    """Syncs of the collection wait for a person's word."""


class ModelError(IndexerError):
    """A model cannot be loaded or gave what is of no use."""


class EmbeddingError(ModelError):
    """The model cannot be loaded, or gave unusable vectors."""


class RerankError(ModelError):
    """The reranking model cannot be loaded or gave unusable scores."""


class BuildError(IndexerError):
    """A segment cannot be built."""


class RecallTooLow(BuildError):
    """No index over a segment's vectors finds as many neighbours as the spec's ``min_recall`` asks for."""
