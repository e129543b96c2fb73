"""What Spark's tasks raise, as it was: Spark hands their errors on as text, with a stack trace around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import PySparkException

import connectors.errors
import indexer.errors
from connectors.errors import SourceError
from connectors.told import told_by
from indexer.errors import IndexerError


@contextmanager
def raised_by_tasks() -> Iterator[None]:
    """Raise what a task raised within; any other error than the two rooms' own is left as it is.

    Those are :class:`indexer.errors.IndexerError` and :class:`connectors.errors.SourceError`, of a row that a task
    reads. The latter comes without Spark's text as its cause: an address in it may let its reader in.
    """
    try:
        yield
    except PySparkException as error:
        told = told_by(error, indexer.errors, connectors.errors)
        if told is None or told.kind is None or not told.message:
            raise
        if issubclass(told.kind, SourceError):
            raise told.kind(told.message) from None
        if issubclass(told.kind, IndexerError):
            raise told.kind(told.message) from error
        raise
