"""A local Hugging Face directory and texts in; numbers of its tokenizer, of one length, out.

Of the directory are read `config.json`, `tokenizer.json` and (by `meddx.train.transfer`, once) `model.safetensors`; nothing is looked up
on the net, and no code of the directory runs.  Tokenizer and configuration go into the state, so a bundle needs the directory no more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from meddx.errors import BundleError, DataError, RecipeError
from meddx.inputs.options import TextInput
from meddx.inputs.text import TextPreparation
from meddx.storage import StoragePath

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
INSTALL = "pip install meddx[text]"
# model_type: what stands before the names of its weights when a network with another answer was saved
NETWORKS = {
    "bert": "bert",
    "distilbert": "distilbert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "electra": "electra",
    "mpnet": "mpnet",
    "albert": "albert",
    "deberta-v2": "deberta",
}
_COUNT_FROM_PAD = ("roberta", "xlm-roberta", "camembert", "mpnet")  # their first place has the number of padding + 1
# Where it came from, what it once answered, and how its maker's machine computed: none of it is the network.
LEFT_OUT = (
    "_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype", "attn_implementation", "_attn_implementation",
    "id2label", "label2id", "problem_type", "gradient_checkpointing",
)  # fmt: skip
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model.pt", "tf_model.h5", "flax_model.msgpack")


@dataclass(frozen=True)
class PretrainedTextPreparation(TextPreparation):
    """The fitted way of one text input whose numbers are those of a directory's tokenizer (`words` stays empty).

    `config`: the network's configuration; `tokenizer`: tokenizer.json as it was.
    """

    config: Mapping[str, Any]
    tokenizer: str

    @classmethod
    def fit(cls, name: str, options: TextInput, table: pa.Table) -> PretrainedTextPreparation:
        """Read the directory; of `table`, the train part, only the share of texts that are too long is learnt.

        RecipeError for what is no such directory, or `max_tokens` that it cannot do; DataError as without a directory.
        """
        where = f"inputs.{name}"
        config, tokenizer = read_directory(str(options.pretrained), f"{where}.pretrained")
        texts, source = cls.train_texts(name, options, table)
        made = cls(name, options.optional, source, options.column, options.many, options.max_tokens, (), 0.0, config, tokenizer)
        try:
            made.check()
        except ImportError as error:
            raise RecipeError("`pretrained` needs the extra `text`", f"{where}.pretrained", INSTALL) from error
        except ValueError as error:
            raise RecipeError(str(error), where, "look at the directory and at max_tokens") from error
        lengths = [made._whole(text)[1] for text in texts.to_pylist() if text]
        known = [one for one in lengths if one > made._marks]
        if not known:
            raise DataError(f"train has no text for the input {name!r}", where, "look at `column`, and at the dataset")
        return replace(made, truncated=sum(one > options.max_tokens for one in known) / len(known))

    def encode(self, text: str) -> list[int]:
        """The numbers of its pieces between the special ones; what is too long loses its middle.  Nothing for a text without a piece."""
        (front, body, back), length = self._whole(text)
        if length > self.max_tokens:
            room = self.max_tokens - len(front) - len(back)
            tail = room // 2
            body = body[: room - tail] + body[len(body) - tail :]
        return [*front, *body, *back] if body else []

    def _whole(self, text: str) -> tuple[tuple[list[int], list[int], list[int]], int]:
        """((special numbers before, of the text, special ones after), all together)."""
        found = self._coder.encode(text)
        ids, special = found.ids, found.special_tokens_mask
        own = [place for place, mark in enumerate(special) if not mark]
        if not own:
            return ([], [], []), 0
        first, last = own[0], own[-1] + 1
        return (ids[:first], ids[first:last], ids[last:]), len(ids)

    @cached_property
    def _coder(self) -> Tokenizer:
        return parse_tokenizer(self.tokenizer)

    @cached_property
    def _marks(self) -> int:
        """How many special numbers every text gets."""
        return int(self._coder.num_special_tokens_to_add(False))

    @cached_property
    def _size(self) -> int:
        return 1 + max(self._coder.get_vocab(True).values(), default=0)

    def check(self) -> None:
        """ValueError where tokenizer, network and length do not go together; ImportError without the extra."""
        check_config(self.config)
        if self._size > self.config["vocab_size"]:
            raise ValueError(f"the tokenizer has {self._size} numbers, the network knows {self.config['vocab_size']}")
        most = most_tokens(self.config)
        if not self._marks < self.max_tokens <= most:
            raise ValueError(f"max_tokens is {self.max_tokens}; this network takes {self._marks + 1} to {most}")

    def spec(self) -> dict[str, Any]:
        """As without a directory, and `config` for the encoder `pretrained`."""
        return {**super().spec(), "words": self._size, "config": dict(self.config)}

    def state(self) -> dict[str, Any]:
        return {**super().state(), "config": dict(self.config), "tokenizer": self.tokenizer}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> PretrainedTextPreparation:
        """The preparation that `state()` described.  BundleError where it is not such a description, or the extra is not installed."""
        made = cls(**cls.fields_of(state), config=state.get("config", {}), tokenizer=str(state.get("tokenizer")))
        try:
            made.check()
        except ImportError as error:
            raise BundleError(
                "the bundle reads texts with a tokenizer that needs the extra `text`", f"input {made.name}", INSTALL
            ) from error
        except ValueError as error:
            raise BundleError(f"the state of a text input is not usable: {error}", next_step="build the bundle again") from error
        return made


def read_directory(place: str, where: str) -> tuple[dict[str, Any], str]:
    """(configuration, tokenizer.json) of a local directory, its weights known to be there and no pickle.

    RecipeError for anything else; a hub's name is not looked up.
    """
    folder = StoragePath.of(place)
    if not folder.is_dir():
        what = f"{place!r} is not a folder"
        raise RecipeError(
            what, where, "nothing is downloaded: give the path of a directory with config.json, tokenizer.json, model.safetensors"
        )
    if not (folder / WEIGHTS).exists():
        _refuse_weights(folder, where)
    texts = {}
    for name in (CONFIG, TOKENIZER):
        if not (folder / name).exists():
            raise RecipeError(f"the directory has no {name}", where, "save network and fast tokenizer into it with save_pretrained")
        texts[name] = _utf8((folder / name).read_bytes(), name, where)
    try:
        page = json.loads(texts[CONFIG], parse_constant=_no_number)
        check_config(page)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"config.json cannot be used: {error}", where) from error
    return {key: value for key, value in page.items() if key not in LEFT_OUT}, texts[TOKENIZER]


def _refuse_weights(folder: StoragePath, where: str) -> None:
    for name in _PICKLES:
        if (folder / name).exists():
            what = f"the weights are in {name}, and only {WEIGHTS} is opened: a pickle runs code when it is opened"
            raise RecipeError(what, where, "have its maker save it with safe_serialization=True")
    if (folder / f"{WEIGHTS}.index.json").exists():
        raise RecipeError(f"the weights are in several files, not in one {WEIGHTS}", where, "save them again with a larger max_shard_size")
    raise RecipeError(f"the directory has no {WEIGHTS}", where, "save the network into it with save_pretrained")


def pretrained_digest(place: str) -> str:
    """16 hex digits that name configuration, tokenizer and weights of a directory, wherever it lies; a fingerprint needs them."""
    folder = StoragePath.of(place)
    return hashlib.sha256("\n".join((folder / name).digest() for name in (CONFIG, TOKENIZER, WEIGHTS)).encode()).hexdigest()[:16]


def check_config(config: Any) -> None:
    """ValueError where this is no configuration of a network that is known and needs no code but that of transformers."""
    if not isinstance(config, Mapping):
        raise ValueError("it is not a page of settings")
    if "auto_map" in config:
        raise ValueError("it names code of its own (auto_map), and code of a directory is never run")
    if config.get("model_type") not in NETWORKS:
        raise ValueError(f"model_type is none of {', '.join(NETWORKS)}")
    if "quantization_config" in config or config.get("is_decoder") or config.get("is_encoder_decoder"):
        raise ValueError("only plain encoders are known: neither quantized nor decoders")
    for key in ("vocab_size", "max_position_embeddings"):
        if not isinstance(config.get(key), int) or isinstance(config[key], bool) or config[key] < 1:
            raise ValueError(f"{key} is not a whole number above 0")


def most_tokens(config: Mapping[str, Any]) -> int:
    """The longest text that the network has places for."""
    pad = config.get("pad_token_id")
    lost = 1 + (pad if isinstance(pad, int) else 1) if config["model_type"] in _COUNT_FROM_PAD else 0
    return int(config["max_position_embeddings"]) - lost


def parse_tokenizer(text: str) -> Tokenizer:
    """A tokenizer that neither cuts, pads nor draws.  ValueError where the text is not tokenizer.json; ImportError without the extra."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    try:
        made = Tokenizer.from_str(text)
    except Exception as error:  # tokenizers raises nothing finer than Exception
        raise ValueError("tokenizer.json is not readable") from error
    made.no_truncation()
    made.no_padding()
    if isinstance(made.model, BPE):
        made.model.dropout = None  # it would cut a word differently each time
    return made


def _utf8(data: bytes, name: str, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RecipeError(f"{name} is not UTF-8", where, "is the file whole?") from error


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
