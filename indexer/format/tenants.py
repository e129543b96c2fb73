"""Tenants: whose a row is, where the spec keeps rows apart; a segment then holds rows of one of them alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from indexer.errors import BuildError
from indexer.format.keys import key_hashes
from indexer.format.records import SegmentRecord


def tenants_of(values: pa.ChunkedArray, name: str) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return which tenant each row is of, ``(n,) int64``, as a place in a list of tenants, and that list.

    A tenant is the hash (hex) of its value in column ``name``, the same for equal values of all widths and units. A
    null, which no key has, is no tenant's: -1.
    """
    encoded = values.combine_chunks().dictionary_encode()
    hashes = key_hashes(pa.table({name: encoded.dictionary}), [name])
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [row.tobytes().hex() for row in hashes]


def only_tenant(values: pa.ChunkedArray, name: str) -> str:
    """Return the one tenant of all rows; raises :class:`indexer.errors.BuildError` if there are several."""
    _, tenants = tenants_of(values, name)
    if len(tenants) != 1:
        raise BuildError(f"a segment holds rows of one tenant, and these have {len(tenants)} values of {name!r}")
    return tenants[0]


def segments_of(tenants: Collection[str], segments: Iterable[SegmentRecord]) -> tuple[SegmentRecord, ...]:
    """Return those of ``segments`` that can hold a row of one of ``tenants``."""
    return tuple(segment for segment in segments if segment.tenant is None or segment.tenant in tenants)
