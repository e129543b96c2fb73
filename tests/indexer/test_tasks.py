from __future__ import annotations

import pytest
from pyspark.errors import PySparkException

from connectors.errors import BatchLost
from indexer.errors import SpecError
from indexer.tasks import raised_by_tasks

TEXT = """Job aborted due to stage failure: PythonException: Traceback (most recent call last):
  File "tasks.py", line 7, in task
{kind}: {said}

    at org.apache.spark.Task.run"""


def spark_says(kind: str, said: str) -> PySparkException:
    return PySparkException(TEXT.format(kind=kind, said=said))


def test_an_error_of_the_indexer_is_raised_as_it_was_and_keeps_where_it_came_from() -> None:
    with pytest.raises(SpecError, match=r"^no such field$") as caught, raised_by_tasks():
        raise spark_says("indexer.errors.SpecError", "no such field")
    assert isinstance(caught.value.__cause__, PySparkException)


def test_an_error_of_the_source_is_raised_as_it_was_without_sparks_text() -> None:
    with pytest.raises(BatchLost, match=r"^batch 2 of 3$") as caught, raised_by_tasks():
        raise spark_says("connectors.errors.BatchLost", "batch 2 of 3")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kind", ["ValueError", "indexer.errors.annotations", "connectors.errors.Gone"])
def test_any_other_error_is_left_as_it_is(kind: str) -> None:
    with pytest.raises(PySparkException, match="it broke"), raised_by_tasks():
        raise spark_says(kind, "it broke")
