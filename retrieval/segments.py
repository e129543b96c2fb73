"""One open segment, shared by every snapshot that has it, and a snapshot's view of it.

A segment's files never change, so what is derived from them (the frame that filters run on, the key columns) is
derived once. What a version adds are tombstones: a :class:`SegmentView` is a segment less its tombstoned chunks.
"""

from __future__ import annotations

import itertools
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from indexer.format.records import SegmentRecord
from indexer.format.segment import OpenSegmentFiles
from indexer.format.vectors import Entries
from retrieval import bitmap
from retrieval.bitmap import Bitmap
from retrieval.cache import Lease
from retrieval.chunks import Chunks
from retrieval.narrowed import PlainCodes, plain_codes
from retrieval.scores import lists_of_chunks, pointer, raw_faiss

if TYPE_CHECKING:
    from retrieval.passing import Selection

ONE_BY_ONE = 11
"""FAISS' way through the lists that packs a query's table once and not for each list: a sixth quicker for one query."""


class OpenSegment(Chunks):
    """A segment's files, open for reading; safe to share between threads.

    Closed by :meth:`release`, once for each :meth:`retain` and once for the opening.
    """

    def __init__(self, record: SegmentRecord, files: OpenSegmentFiles, lease: Lease) -> None:
        super().__init__(files.chunks(), files.vectors, files.row_of_chunk)
        self.record = record
        self.number = record.number
        self.files = files
        # FAISS reads float32 alone; the pointer saves asking for it on each request.
        self.vectors_at: Any = pointer(self.vectors) if self.vectors.dtype == np.float32 and self.n else None
        self.index = files.index
        self.is_graph = isinstance(self.index, raw_faiss.IndexHNSW)
        if isinstance(self.index, raw_faiss.IndexIVFPQFastScan):
            self.index.implem = ONE_BY_ONE
        self.chunks_per_row = -(-record.n_chunks // max(1, record.n_rows))
        self.one_chunk_rows = record.n_rows == record.n_chunks
        self.by_key: npt.NDArray[np.uint32] | None = None  # see retrieval.key_order
        self.is_asked_by_key = False
        self._lease = lease
        self._holders = 1
        self._lock = threading.Lock()

    def retain(self) -> OpenSegment:
        """Add a holder."""
        with self._lock:
            self._holders += 1
        return self

    def release(self) -> None:
        """Take a holder away; after the last one the cache may evict the files."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._lease.release()

    @cached_property
    def lists_of_chunks(self) -> npt.NDArray[np.int32]:
        """The inverted list of each chunk, ``(n_chunks,) int32``; -1 for chunks outside the index, if there is one."""
        return lists_of_chunks(self.index, self.n)

    @cached_property
    def centroids(self) -> npt.NDArray[np.float32]:
        """The centres of the index's lists, ``(nlist, dim) float32``."""
        index: Any = self.index
        centres: npt.NDArray[np.float32] = index.quantizer.reconstruct_n(0, index.nlist)
        return centres

    @cached_property
    def entries(self) -> Entries:
        """Where searches of a graph begin."""
        return Entries.of(self.vectors)

    @cached_property
    def plain_codes(self) -> PlainCodes | None:
        """The index's codes, laid out plainly to be chosen from; None if it can't be narrowed."""
        return plain_codes(self.index)


class SegmentView:
    """A segment less its tombstones.

    ``token`` is unique to the view in this process, so that caches may be keyed by it. ``live`` has the chunks that
    count. ``everything`` is the selection without a filter, once a search has needed it. The view takes over one holder
    of the segment; it is closed by :meth:`release`, once for each :meth:`retain` and once for the making.
    """

    _tokens = itertools.count()

    def __init__(self, segment: OpenSegment, tombstones: BitMap | None) -> None:
        self.token = next(self._tokens)
        self.segment = segment
        self.tombstones = tombstones
        self.everything: Selection | None = None
        self._holders = 1
        self._lock = threading.Lock()
        if tombstones:
            gone = bitmap.from_positions(np.asarray(tombstones.to_array()), segment.n)
            self.live: Bitmap = bitmap.invert(gone, segment.n)
        else:
            self.live = bitmap.full(segment.n)
        self.n_live = segment.n - (len(tombstones) if tombstones else 0)

    def retain(self) -> SegmentView:
        """Add a holder, of the view and of its segment."""
        self.segment.retain()
        with self._lock:
            self._holders += 1
        return self

    def release(self) -> bool:
        """Take a holder away, and say whether it was the last."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        self.segment.release()
        return last

    def same_as(self, tombstones: BitMap | None) -> bool:
        """Say whether a view with ``tombstones`` would be this one."""
        return (self.tombstones or None) == (tombstones or None)
