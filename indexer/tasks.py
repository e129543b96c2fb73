"""What Spark's tasks raise, as it was: Spark hands their errors on as text, with a stack trace around it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import PySparkException

import connectors.errors
import indexer.errors

_ROOMS = {"indexer": indexer.errors, "connectors": connectors.errors}
_OURS = re.compile(r"\b(indexer|connectors)\.errors\.(\w+): (.+)")


@contextmanager
def raised_by_tasks() -> Iterator[None]:
    """Raise what a task raised within; any other error than the two rooms' own is left as it is.

    Those are :class:`indexer.errors.IndexerError` and :class:`connectors.errors.SourceError`, of a row that a task
    reads. The latter comes without Spark's text as its cause: an address in it may let its reader in.
    """
    try:
        yield
    except PySparkException as error:
        found = _OURS.findall(str(error))
        if not found:
            raise
        room, name, said = found[-1]
        kind = getattr(indexer.errors if room == "indexer" else connectors.errors, name, None)
        if not (
            isinstance(kind, type) and issubclass(kind, indexer.errors.IndexerError | connectors.errors.SourceError)
        ):
            raise
        raise kind(said.strip()) from (error if room == "indexer" else None)
