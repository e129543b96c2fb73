"""Embedding with no Python work per token, for the models whose inputs are token ids and a mask."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Task = Literal["document", "query"]

TOKENIZER_BATCH = 1024
"""Texts in one call of the tokenizer: enough for its threads, and few of its large encodings held at once."""
_PROMPTS: dict[Task, tuple[str, ...]] = {"document": ("document", "passage", "corpus"), "query": ("query",)}
"""The names under which a model may keep its own prompt for a task, in sentence-transformers' order."""
DIRECT_MODULES = {"Pooling", "Normalize", "Dense"}
"""sentence-transformers' modules that, after a Transformer, ask for no feature beside its own and the mask."""
NO_LIMIT = 1 << 31
"""Tokens: transformers gives a model without a limit one of 1e30, which the tokenizer's integers do not hold."""
SHORT = 32
"""Tokens: padding up to here is no loss."""
LONGEST_PROBE = 8192
"""Words of the text that shows how a model cuts what is too long."""


class DirectEncoder:
    """What ``encode_document`` or ``encode_query`` computes, for models that read token ids and a mask alone.

    sentence-transformers 6 goes over every token in Python, which holds any GPU to some thousand short texts a second.
    Here the Rust tokenizer's ids become one array, numpy cuts batches out of it in order of length, and the vectors
    stay on the device until the last batch. The model's own tokenizer is left as it is.
    """

    def __init__(self, model: Any, task: Task, prompt: str, tokenizer: Any) -> None:
        own = model.tokenizer
        self._model = model.eval()
        self._task, self._prompt = task, prompt
        self._limit = int(min(model.max_seq_length or NO_LIMIT, NO_LIMIT))
        tokenizer.enable_truncation(self._limit, direction=own.truncation_side)
        self._tokenized = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
        self._pad_id = own.pad_token_id
        self._pads_left = own.padding_side == "left"
        self._takes_types = "token_type_ids" in own.model_input_names

    @classmethod
    def of(cls, model: Any, task: Task, prompt: str | None, tokenizer: Any) -> DirectEncoder | None:
        """Return the encoder of ``model``, or None where only its own method knows what it is to be given.

        ``tokenizer`` is a copy of the model's without padding, which the encoder keeps.
        """
        prompt = prompt or own_prompt(model, task)
        if not _reads_ids_and_mask_alone(model, prompt):
            return None
        encoder = cls(model, task, prompt, tokenizer)
        return encoder if encoder._prepares_as_the_model_does() else None

    def __call__(self, texts: list[str], batch: int) -> Vectors:
        """Return ``(n_texts, dim) float32``, ``batch`` texts at a time."""
        torch = importlib.import_module("torch")
        ids, lengths = self._token_ids(texts)
        begins = np.cumsum(lengths) - lengths
        batches = list(_batches(lengths, batch, even=self._task == "query"))
        with torch.inference_mode():
            outputs = []
            for rows in batches:
                features = self._features(ids, begins[rows], lengths[rows])
                outputs.append(self._model(self._on_device(features))["sentence_embedding"])
            in_order: Vectors = torch.cat(outputs).float().cpu().numpy()
        vectors = np.empty_like(in_order)
        vectors[np.concatenate(batches)] = in_order
        return vectors

    def _token_ids(self, texts: list[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return the token ids of all texts, one after the other, and how many each has."""
        ids, lengths = [], []
        for at in range(0, len(texts), TOKENIZER_BATCH):
            encodings = self._tokenized([self._prompt + text for text in texts[at : at + TOKENIZER_BATCH]])
            lengths.append(np.fromiter(map(len, encodings), np.int64, len(encodings)))
            one_by_one = chain.from_iterable(encoding.ids for encoding in encodings)
            ids.append(np.fromiter(one_by_one, np.int32, int(lengths[-1].sum())))
        return np.concatenate(ids), np.concatenate(lengths)

    def _features(
        self, ids: npt.NDArray[np.int32], begins: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
    ) -> dict[str, npt.NDArray[np.int64]]:
        """Return the model's inputs for the texts whose tokens are at ``begins`` in ``ids``, each ``(n_texts, width)``.

        They are as wide as the longest, and not rounded up: a batch without padding, of which there are many when the
        texts are in order of length, lets attention go without a mask.
        """
        width = lengths.max()
        places = np.arange(width) - (width - lengths[:, None] if self._pads_left else 0)
        there = (places >= 0) & (places < lengths[:, None])
        padded = np.where(there, ids.take(begins[:, None] + places, mode="clip"), self._pad_id).astype(np.int64)
        features = {"input_ids": padded, "attention_mask": there.astype(np.int64)}
        return features | {"token_type_ids": np.zeros_like(padded)} if self._takes_types else features

    def _on_device(self, features: dict[str, npt.NDArray[np.int64]]) -> dict[str, Any]:
        torch, device = importlib.import_module("torch"), self._model.device
        tensors = torch.from_numpy(np.stack(list(features.values())))
        if device.type == "cuda":
            tensors = tensors.pin_memory()  # else the copy waits for the batch before
        return dict(zip(features, tensors.to(device, non_blocking=True).unbind(), strict=True))

    def _prepares_as_the_model_does(self) -> bool:
        """Return whether the model's own ``preprocess`` gives the same features for texts that show its ways."""
        specials = " ".join(self._model.tokenizer.all_special_tokens)
        short = ["A grebe's nest, déjà vu 🐦", "", f"two {specials} lines\n"]
        too_long = " ".join(map(str, range(min(self._limit, LONGEST_PROBE) + 1)))
        return self._prepares_so(short) and self._prepares_so([too_long, *short])

    def _prepares_so(self, texts: list[str]) -> bool:
        ids, lengths = self._token_ids(texts)
        ours = self._features(ids, np.cumsum(lengths) - lengths, lengths)
        theirs = self._model.preprocess(texts, prompt=self._prompt, task=self._task)
        return theirs.keys() - {"modality", "prompt_length"} == ours.keys() and all(
            np.array_equal(theirs[name], feature) for name, feature in ours.items()
        )


def _batches(lengths: npt.NDArray[np.int64], most: int, *, even: bool) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the positions of texts for one forward pass each, the longest first: what does not fit shows at once.

    Few texts are of many lengths: ``even`` batches hold none that is padded to more than twice its own (documents are
    so many that those of a batch are alike).

    >>> lengths = np.array([5, 100, 20, 40, 60])
    >>> [[rows.tolist() for rows in _batches(lengths, 4, even=even)] for even in (True, False)]
    [[[1, 4], [3, 2], [0]], [[1, 4, 3, 2], [0]]]
    """
    order, at = np.argsort(-lengths, kind="stable"), 0
    while at < len(order):
        rows = order[at : at + most]
        if even:
            rows = rows[np.maximum(2 * lengths[rows], SHORT) >= lengths[rows[0]]]
        at += len(rows)
        yield rows


def own_prompt(model: Any, task: Task) -> str:
    """Return the prompt that ``encode_document`` or ``encode_query`` takes when it is given none."""
    own = model.prompts or {}
    name = next((name for name in _PROMPTS[task] if name in own), model.default_prompt_name)
    return own.get(name) or ""


def _reads_ids_and_mask_alone(model: Any, prompt: str) -> bool:
    def is_own(part: Any, names: set[str]) -> bool:
        return type(part).__module__.startswith("sentence_transformers.") and type(part).__name__ in names

    first, *others = model
    return (
        is_own(model, {"SentenceTransformer"})
        and is_own(first, {"Transformer"})
        and all(is_own(other, DIRECT_MODULES) for other in others)
        and not (prompt and any(not getattr(other, "include_prompt", True) for other in others))
        and not model.get_model_kwargs()
        and model.truncate_dim is None
        and model.tokenizer.pad_token_id is not None
        and model.tokenizer.num_special_tokens_to_add() > 0  # so that no text, and no batch, is without a token
    )
