"""Numbers of a directory's tokenizer in, one vector a text out of the network that the directory's configuration describes.

Only the configuration is needed to build it, so a bundle needs no directory.  Its first weights are the directory's where
`meddx.train.transfer` brings them; here they are drawn like all others.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from meddx.errors import RecipeError
from meddx.inputs.pretrained import INSTALL, LEFT_OUT, check_config
from meddx.models.sequence import Pool, Spec, valid_steps

POOLS = ("mean", "first")
_WHERE = "model.encoders"


class PretrainedEncoder(nn.Module):
    """The network's last states, then their mean over the text, or the first of them ([CLS] of BERT)."""

    def __init__(self, network: nn.Module, width: int, pad: int, pool: str) -> None:
        super().__init__()
        self.network = network
        self.out_features, self.pad = width, pad
        self.mean = Pool("mean", width) if pool == "mean" else None

    def forward(self, tokens: Tensor, length: Tensor) -> Tensor:
        """[n, out_features] of tokens int [n, L] and length int [n]; what stands right of the length is not read."""
        mask = valid_steps(length, tokens.shape[1])
        if self.training and len(mask):  # not in evaluation: a batch's shape moves the last bits
            longest = max(1, int(length.max()))
            tokens, mask = tokens[:, :longest], mask[:, :longest]
        ids = tokens.long().masked_fill(~mask, self.pad)
        states = cast(Tensor, self.network(input_ids=ids, attention_mask=mask.long())[0])
        return self.mean(states, mask) if self.mean is not None else states[:, 0].masked_fill(~mask[:, :1], 0.0)


def pretrained(spec: Spec, *, pool: str = "mean") -> nn.Module:
    """The network of `spec["config"]`, without the layer for its own answer.  `pool`: mean, or first.

    RecipeError where the input has no directory, the configuration is refused, or the extra `text` is not installed.
    """
    if "config" not in spec:
        raise RecipeError("the network `pretrained` needs the input's `pretrained`, a directory", _WHERE, "say inputs.<name>.pretrained")
    if pool not in POOLS:
        raise RecipeError(f"pool is {' or '.join(POOLS)}, not {pool!r}", _WHERE)
    config = dict(spec["config"])
    try:
        check_config(config)
    except ValueError as error:
        raise RecipeError(f"the network's configuration cannot be used: {error}", _WHERE) from error
    if int(spec["words"]) > config["vocab_size"]:
        raise RecipeError("the tokenizer has more numbers than the network knows", _WHERE, "are both from one directory?")
    network = _network(config)
    pad = config.get("pad_token_id")
    return PretrainedEncoder(network, int(network.config.hidden_size), pad if isinstance(pad, int) else 0, pool)


def _network(config: dict[str, Any]) -> Any:
    try:
        from huggingface_hub.errors import StrictDataclassError
        from transformers import CONFIG_MAPPING, AutoModel
    except ImportError as error:
        raise RecipeError("the network `pretrained` needs the extra `text`", _WHERE, INSTALL) from error
    kind = config["model_type"]
    config = {key: value for key, value in config.items() if key != "model_type" and key not in LEFT_OUT}
    try:
        made = CONFIG_MAPPING[kind](**copy.deepcopy(config))
        # eager: the attention that is the same on every machine, and computes with the mask that it is given
        network = cast(Any, AutoModel).from_config(made, attn_implementation="eager", dtype=torch.float32, trust_remote_code=False)
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError, StrictDataclassError) as error:
        first = " ".join(str(error).split())[:200]
        raise RecipeError(f"the network's configuration cannot be used: {type(error).__name__}: {first}", _WHERE) from error
    if hasattr(network, "pooler"):
        network.pooler = None  # a dense layer over the first state; nothing here reads it
    return network
