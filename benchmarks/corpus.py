"""Real text that every machine has: the sentences of the docstrings of installed packages."""

from __future__ import annotations

import ast
import json
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.harness import CACHE, SEED

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
SHORTEST, LONGEST = 25, 300
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
CLUSTERS = 500
BLOCK = 65_536
"""Vectors made at a time by one thread."""
PIECE = 2_048
"""Sentences embedded between two moves of the progress bar."""


def sentences(count: int) -> list[str]:
    """Return ``count`` distinct sentences in a seeded order; kept in the cache between runs.

    Raises ValueError if the installed packages have fewer.
    """
    file = CACHE / f"sentences-{count}.json"
    if not file.exists():
        found: dict[str, None] = {}
        for sentence in _all_sentences():
            found.setdefault(sentence)
            if len(found) == count:
                break
        else:
            raise ValueError(f"the installed packages have {len(found):,} sentences, {count:,} are wanted")
        CACHE.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(list(found)))
    return list(json.loads(file.read_text()))


def _all_sentences() -> Iterator[str]:
    """Yield the sentences of every installed module, module by module in a seeded order."""
    paths = sorted(Path(sysconfig.get_path("purelib")).rglob("*.py"))
    for at in np.random.default_rng(SEED).permutation(len(paths)):
        yield from _sentences_of(paths[at])


def _sentences_of(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for sentence in SENTENCE_END.split(ast.get_docstring(node) or ""):
                text = " ".join(sentence.split())
                if SHORTEST <= len(text) <= LONGEST and text.count(" ") >= 3 and ">>>" not in text:
                    yield text


def embedded(texts: list[str], name: str) -> npt.NDArray[np.float32]:
    """Return the texts' unit vectors, ``(n, 384) float32``, made once and kept in the cache under ``name``."""
    from indexer.embedding import load_embedder, normalised
    from indexer.spec import VectorSpec
    from jobs.progress import bars

    file = CACHE / f"{name}-{len(texts)}.npy"
    if not file.exists():
        embedder = load_embedder(VectorSpec(model=MODEL))
        pieces = []
        with bars(unit="sentences") as progress:
            for start in range(0, len(texts), PIECE):
                pieces.append(normalised(embedder.documents(texts[start : start + PIECE])))
                progress("embedding", min(start + PIECE, len(texts)), len(texts))
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(file, np.concatenate(pieces))
    vectors: npt.NDArray[np.float32] = np.load(file)
    return vectors


def topical(count: int, dim: int = 384) -> npt.NDArray[np.float32]:
    """Return ``(count, dim) float32`` unit vectors of seeded documents, each of which mixes three topics.

    There is a topic for every 25 documents. The spectrum falls as that of sentences embedded by all-MiniLM-L6-v2 (64 of
    384 dimensions hold 0.6 of the variance), and 50,000 of these vectors are a little easier than 50,000 of those: HNSW
    (M=16, ef=32) finds 0.97 and 0.94 of the nearest ten, IVF needs 48 and 64 of its 223 lists. Clusters
    (:func:`clustered`) are islands, which a graph of nearest neighbours alone does not connect.
    """
    order = np.arange(1, dim + 1)
    spectrum = order**-0.5 * np.exp(-order * 384 / dim / 110)
    spread = np.sqrt(spectrum / spectrum.sum()).astype(np.float32)
    topics = np.random.default_rng(SEED).standard_normal((max(1, count // 25), dim), dtype=np.float32) * spread
    topics /= np.linalg.norm(topics, axis=1, keepdims=True)

    def fill(block: npt.NDArray[np.float32], random: np.random.Generator) -> None:
        block *= 0.5 * spread
        block[:, 0] += 0.3  # what all texts have in common
        weights = random.gamma(0.6, size=(len(block), 3)).astype(np.float32)
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        for weight in weights.T:
            block += weight[:, None] * topics[random.integers(len(topics), size=len(block))]

    return _unit_vectors(count, dim, fill)


def clustered(count: int, dim: int = 384) -> npt.NDArray[np.float32]:
    """Return ``(count, dim) float32`` unit vectors around seeded centres, as embeddings of a topical corpus lie."""
    centres = np.random.default_rng(SEED).standard_normal((CLUSTERS, dim), dtype=np.float32)

    def fill(block: npt.NDArray[np.float32], random: np.random.Generator) -> None:
        block *= 0.7
        block += centres[random.integers(CLUSTERS, size=len(block))]

    return _unit_vectors(count, dim, fill)


def _unit_vectors(
    count: int, dim: int, fill: Callable[[npt.NDArray[np.float32], np.random.Generator], None]
) -> npt.NDArray[np.float32]:
    """Return unit vectors, made in blocks on all cores: ``fill`` gets each as seeded noise, and its generator."""
    vectors = np.empty((count, dim), dtype=np.float32)

    def make(start: int) -> None:
        block, random = vectors[start : start + BLOCK], np.random.default_rng((SEED, start))
        random.standard_normal(out=block, dtype=np.float32)
        fill(block, random)
        block /= np.linalg.norm(block, axis=1, keepdims=True)

    with ThreadPoolExecutor() as pool:
        list(pool.map(make, range(0, count, BLOCK)))
    return vectors
