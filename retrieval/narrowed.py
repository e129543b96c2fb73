"""A fast-scan index narrowed to the chunks that pass a filter: the same codes in the same lists, without the others.

A selector makes FAISS score every code of a list and then ask whether it counts. A filter that is asked again and again
is worth an index of its own, which is made by copying: a list's codes lie in blocks of 32 vectors or a multiple, their
nibbles interleaved (``pq4_pack_codes`` in FAISS' ``pq4_fast_scan.cpp``), so they are laid out plainly once for each
segment, chosen from, and interleaved again, in blocks of 32: a filter leaves short lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval import bitmap
from retrieval.bitmap import Bitmap, Positions
from retrieval.scores import pointer, raw_faiss

Codes = npt.NDArray[np.uint8]

BLOCK = 32
_HALF = BLOCK // 2
_ORDER = np.arange(_HALF).reshape(2, _HALF // 2).T.reshape(-1)
"""Which of 16 vectors each byte of half a block is about: 0, 8, 1, 9, ..."""


@dataclass(frozen=True, slots=True)
class PlainCodes:
    """An index's codes, ``(n, code_size) uint8``, and ids, ``(n,)``, list after list; ``ends`` has ``nlist + 1``."""

    codes: Codes
    ids: Positions
    ends: Positions


def plain_codes(index: Any) -> PlainCodes | None:
    """Return the codes of ``index``; None if it is no fast-scan index or lays them out in another way."""
    if not isinstance(index, raw_faiss.IndexIVFPQFastScan):
        return None
    lists, width, block = raw_faiss.downcast_InvertedLists(index.invlists), index.code_size, index.bbs
    if not all(_interleaves_as_known(index, size) for size in {block, BLOCK}):
        return None
    sizes = np.array([lists.list_size(number) for number in range(index.nlist)], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    codes, ids = np.empty((ends[-1], width), np.uint8), np.empty(ends[-1], np.int64)
    for number in np.flatnonzero(sizes).tolist():
        mine, n = slice(ends[number], ends[number + 1]), int(sizes[number])
        blocks = -(-n // block)
        packed = raw_faiss.rev_swig_ptr(lists.get_codes(number), blocks * block * width)
        codes[mine] = _plain(packed.reshape(blocks, width, block)).reshape(-1, width)[:n]
        ids[mine] = raw_faiss.rev_swig_ptr(lists.get_ids(number), n)
    return PlainCodes(codes, ids, ends)


def narrowed(index: Any, plain: PlainCodes, bits: Bitmap) -> Any:
    """Return an index over the chunks in ``bits`` alone, whose searches give what ``index`` gives with them selected.

    It borrows the quantizer of ``index``, which must outlive it.
    """
    chosen = np.flatnonzero(bitmap.contains(bits, plain.ids))
    bounds = np.searchsorted(chosen, plain.ends)
    counts = np.diff(bounds)
    first_block = np.concatenate([[0], np.cumsum(-(-counts // BLOCK))])
    width = plain.codes.shape[1]
    padded = np.zeros((first_block[-1] * BLOCK, width), np.uint8)
    padded[np.arange(len(chosen)) + np.repeat(first_block[:-1] * BLOCK - bounds[:-1], counts)] = plain.codes[chosen]
    blocks = _interleaved(padded.reshape(first_block[-1], BLOCK, width))
    ids = plain.ids[chosen]
    made = raw_faiss.IndexIVFPQFastScan(
        index.quantizer, index.d, index.nlist, index.pq.M, index.pq.nbits, index.metric_type, BLOCK
    )
    made.implem = index.implem
    made.pq, made.by_residual, made.is_trained, made.ntotal = index.pq, index.by_residual, True, len(ids)
    for number in np.flatnonzero(counts).tolist():
        at = pointer(ids[bounds[number] :]), pointer(blocks[first_block[number] :])
        made.invlists.add_entries(number, int(counts[number]), *at)
    return made


def size_bytes(index: Any) -> int:
    """Return the bytes that a narrowed index takes, half-filled blocks included."""
    return int(index.ntotal * (8 + index.code_size) + index.nlist * BLOCK * index.code_size)


def _interleaved(blocks: Codes) -> Codes:
    """Return blocks ``(n, block, code_size)`` as FAISS keeps them: ``(n, code_size, block)``.

    A code's byte is about two dimensions of the product; of 32 vectors the low nibbles come first, then the high ones.
    """
    n, block, code_size = blocks.shape
    by_byte = blocks.transpose(0, 2, 1).reshape(n, code_size, block // BLOCK, BLOCK)
    low, high = by_byte & 15, by_byte >> 4
    out = np.empty(by_byte.shape, np.uint8)
    for half, nibbles in ((out[..., :_HALF], low), (out[..., _HALF:], high)):
        half[...] = nibbles[..., _ORDER] | (nibbles[..., _ORDER + _HALF] << 4)
    return out.reshape(n, code_size, block)


def _plain(blocks: Codes) -> Codes:
    """Return what :func:`_interleaved` made of them: blocks ``(n, block, code_size)``."""
    n, code_size, block = blocks.shape
    parts = blocks.reshape(n, code_size, block // BLOCK, BLOCK)
    by_byte = np.empty(parts.shape, np.uint8)
    low, high = parts[..., :_HALF], parts[..., _HALF:]
    by_byte[..., _ORDER] = (low & 15) | (high << 4)
    by_byte[..., _ORDER + _HALF] = (low >> 4) | (high & 240)
    return by_byte.reshape(blocks.shape).transpose(0, 2, 1)


def _interleaves_as_known(index: Any, block: int) -> bool:
    """Ask FAISS itself: its layout is its own, and another version may have another.

    It is asked by adding vectors: ``CodePackerPQ4`` knows blocks of 32 alone (1.15).
    """
    if block % BLOCK:
        return False
    flat = raw_faiss.IndexPQFastScan(index.d, index.pq.M, index.pq.nbits, index.metric_type, block)
    flat.pq, flat.is_trained = index.pq, True
    vectors = np.random.default_rng(0).standard_normal((block, index.d), dtype=np.float32)
    flat.add(vectors)
    known = _interleaved(index.pq.compute_codes(vectors)[None]).reshape(-1)
    return np.array_equal(raw_faiss.rev_swig_ptr(flat.codes.get(), flat.codes.size()), known)
