"""What Spark's tasks raise, as it was: Spark hands their errors on as text, with a stack trace around it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import PySparkException

from indexer import errors

_OURS = re.compile(r"\bindexer\.errors\.(\w+): (.+)")


@contextmanager
def raised_by_tasks() -> Iterator[None]:
    """Raise an :class:`indexer.errors.IndexerError` of a task that runs within; any other error is left as it is."""
    try:
        yield
    except PySparkException as error:
        found = _OURS.findall(str(error))
        kind = getattr(errors, found[-1][0], None) if found else None
        if kind is None or not issubclass(kind, errors.IndexerError):
            raise
        raise kind(found[-1][1].strip()) from error
