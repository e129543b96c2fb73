"""Real text that every machine has: the sentences of the docstrings of installed packages."""

from __future__ import annotations

import ast
import json
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.harness import CACHE, SEED

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
SHORTEST, LONGEST = 25, 300
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
CLUSTERS = 500
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


def clustered(count: int, dim: int = 384) -> npt.NDArray[np.float32]:
    """Return ``(count, dim) float32`` unit vectors around seeded centres, as embeddings of a topical corpus lie."""
    random = np.random.default_rng(SEED)
    centres = random.standard_normal((CLUSTERS, dim), dtype=np.float32)
    vectors = centres[random.integers(CLUSTERS, size=count)]
    vectors += 0.7 * random.standard_normal((count, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
