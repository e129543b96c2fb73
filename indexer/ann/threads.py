"""How many threads FAISS uses; OpenMP keeps the setting for the calling thread only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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


def spare_threads() -> int:
    """Return one less than there are: a segment's keywords are indexed at the same time."""
    import faiss

    return max(1, faiss.omp_get_max_threads() - 1)
