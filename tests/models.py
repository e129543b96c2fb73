"""Small real models, made on the spot: no weights can be downloaded where the tests run."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def cross_encoder_folder(folder: Path, words: Sequence[str], *, labels: int = 1) -> str:
    """Write a cross-encoder that knows ``words``, with one narrow layer of fixed random weights; return the folder."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    folder.mkdir()
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join([*SPECIAL, *words]) + "\n")
    transformers.BertTokenizerFast(vocab=str(vocabulary), model_max_length=64).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(SPECIAL) + len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=labels,
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)
