"""A tiny Hugging Face directory with random weights, for the tests of `pretrained`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "chest",
    "pain",
    "since",
    "monday",
    "no",
    "fever",
    "cough",
    "rash",
    "the",
    "and",
    "left",
    "right",
    "lung",
    "heart",
    "normal",
    "acute",
]
PIECES = [*SPECIAL, *WORDS, *"abcdefghijklmnopqrstuvwxyz", *(f"##{sign}" for sign in "abcdefghijklmnopqrstuvwxyz")]
NUMBER = {piece: place for place, piece in enumerate(PIECES)}
SIZES: dict[str, Any] = {
    "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 24, "pad_token_id": 0,
}  # fmt: skip
OTHER_SIZES = {
    "distilbert": {"vocab_size": 100, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 24},
    "albert": {**SIZES, "embedding_size": 16},
}


def write_tokenizer(folder: Path) -> None:
    """A WordPiece tokenizer that puts [CLS] before and [SEP] behind."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordPiece(NUMBER, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(SPECIAL)
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made.save(str(folder / "tokenizer.json"))


def write_directory(folder: Path, kind: str = "bert", *, answer: bool = False, seed: int = 1) -> Path:
    """config.json, tokenizer.json and model.safetensors; `answer`: saved with a classifier, so its names have a prefix."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModel, AutoModelForSequenceClassification

    folder.mkdir(parents=True)
    config = CONFIG_MAPPING[kind](**OTHER_SIZES.get(kind, SIZES))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = (AutoModelForSequenceClassification if answer else AutoModel).from_config(config)
    network.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    """Change or (None) take out settings of config.json."""
    page = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps({key: value for key, value in page.items() if value is not None}))
