"""Loading models of sentence-transformers: the heavy imports happen here, and only here."""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from indexer.ann.device import task_gpu
from indexer.errors import ModelError

Device = Literal["auto", "cpu", "cuda"]
Kind = Literal["SentenceTransformer", "CrossEncoder"]

LONGEST_WINDOW = 8192
"""What a model without a stated limit is held to, in tokens: the spec's own limit."""

_loading = threading.Lock()
"""One model at a time: while transformers builds one it replaces torch's initialisers for the whole process."""


def load_model(
    kind: Kind,
    name: str,
    location: Callable[[], str],
    *,
    revision: str | None,
    device: Device,
    threads: int | None,
    field: str,
    error: type[ModelError],
) -> Any:
    """Return the model at ``location()``, a hub name or folder; in half precision on a GPU.

    Whatever goes wrong is raised as an ``error`` that says what to do; it calls the model ``name``, as ``field`` of the
    spec does. ``threads`` sets how many threads torch uses in this process (None leaves that to torch).
    """
    with _loading, _quiet():
        try:
            torch = importlib.import_module("torch")
            transformers = importlib.import_module("sentence_transformers")
        except ImportError as missing:
            raise error(
                f"{name}: needs sentence-transformers and torch; install Grebe's extra 'cpu' or 'gpu'"
            ) from missing
        if device == "cuda" and not torch.cuda.is_available():
            raise error(f"{name}: device 'cuda' was asked for and torch sees none; use 'auto' or 'cpu'")
        if threads is not None:
            torch.set_num_threads(threads)
        place = f"cuda:{task_gpu()}" if device != "cpu" and torch.cuda.is_available() else "cpu"
        try:
            with _progress_bars_off():
                model = getattr(transformers, kind)(location(), revision=revision, device=place)
        except Exception as cause:  # vendors raise OSError, ValueError, RuntimeError, KeyError and errors of their own
            raise error(_advice(name, cause, field)) from cause
    return model.half() if place != "cpu" else model


def multiplies_bfloat16() -> bool:
    """Say whether this CPU has units for matrices of bfloat16: Intel's AMX, up to three times as fast as float32.

    Without them, AVX-512's instructions for it included, oneDNN is slower by it.
    """
    torch = importlib.import_module("torch")
    capabilities = getattr(torch.cpu, "get_capabilities", dict[str, bool])()  # an older torch has none
    return bool(torch.backends.mkldnn.is_available() and capabilities.get("amx_bf16"))


def plain_tokenizer(model: Any) -> Any | None:
    """Return a copy of a model's tokenizer that neither truncates nor pads; None where it has no fast one."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    plain = type(backend).from_str(backend.to_str())
    plain.no_truncation()
    plain.no_padding()
    return plain


def _advice(name: str, error: Exception, field: str) -> str:
    reason = " ".join(str(error).split())[:300]
    if os.environ.get("HF_HUB_OFFLINE") or "connect" in reason or "offline" in reason:
        return (
            f"{name}: the model is neither a folder nor in the Hugging Face cache, and the hub cannot be reached. "
            f"Download it where there is a network, or give its folder as {field}. ({reason})"
        )
    return f"{name}: cannot be loaded; check the name and revision, or give a folder as {field}. ({reason})"


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the warnings of torch and its kin while they load: none of them is the caller's to act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _progress_bars_off() -> Iterator[None]:
    logging = importlib.import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
