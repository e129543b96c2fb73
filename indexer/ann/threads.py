"""How many threads FAISS uses; OpenMP keeps the setting for the calling thread only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Cores = Callable[[], int]
"""How many threads a build may use from now on: asked before each of its stages, because other work ends meanwhile."""


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let FAISS use ``number`` threads in this thread."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def all_threads() -> int:
    """Return as many as FAISS would use by itself."""
    import faiss

    return int(faiss.omp_get_max_threads())


def spare_threads() -> int:
    """Return one less than there are: other work has a core."""
    return max(1, all_threads() - 1)
