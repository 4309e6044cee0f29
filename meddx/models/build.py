"""Names and settings from the recipe in, a network {input: encoder} -> fusion -> head out."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from meddx.errors import RecipeError
from meddx.models.attention import attention
from meddx.models.bag import bag
from meddx.models.convolution import conv
from meddx.models.fusion import Fusion, fusion_of
from meddx.models.heads import Head, make_head
from meddx.models.image import IMAGE_ENCODERS
from meddx.models.many import FOLDS, Many
from meddx.models.options import DEFAULT_ENCODER, EncoderOptions, ModelOptions
from meddx.models.pretrained import pretrained
from meddx.models.recurrent import gru, lstm, rnn
from meddx.models.summary import SUMMARY_ENCODERS
from meddx.models.table import TABLE_ENCODERS
from meddx.models.tagging import TOKEN_ENCODERS, TaggingModel, tagging_model
from meddx.models.volume import VOLUME_ENCODERS
from meddx.yamlconf import nearest

SEQUENCE_ENCODERS: dict[str, Callable[..., nn.Module]] = {"rnn": rnn, "lstm": lstm, "gru": gru, "conv": conv, "attention": attention}
_BY_INPUT: dict[str, dict[str, Callable[..., nn.Module]]] = {
    "image": IMAGE_ENCODERS,
    "volume": VOLUME_ENCODERS,
    "table": TABLE_ENCODERS,
    "signal": SEQUENCE_ENCODERS,
    "events": {**SEQUENCE_ENCODERS, **SUMMARY_ENCODERS},
    "text": {**SEQUENCE_ENCODERS, "bag": bag, "pretrained": pretrained},
    "tokens": TOKEN_ENCODERS,
}


class DiagnosticModel(nn.Module):
    """{input: encoder} -> fusion -> dense -> logits.  `head` says what the logits mean."""

    def __init__(self, encoders: Mapping[str, nn.Module], fusion: Fusion, head: Head, hidden: int, dropout: float) -> None:
        super().__init__()
        self.names = tuple(encoders)
        self.encoders = nn.ModuleList(encoders.values())  # by place: a ModuleDict refuses names such as `keys` and `type`
        self.fusion = fusion
        self.dense = nn.Sequential(nn.Linear(fusion.out_features, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.answer = head.answer(hidden)
        self.head = head

    def forward(self, batch: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """Logits [n, k] (binary: k = 1) of a batch as `embed` takes it."""
        return cast(Tensor, self.answer(self.embed(batch)))

    def embed(self, batch: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """Fused features after the dense layer [n, hidden], from which the answer is made.

        `batch`: input to its prepared arrays as tensors (`pixels`; `numbers`, `missing`, `codes`; `samples`, `length`; `values`, `seen`,
        `since`; `tokens`, `length`), pixels still uint8 or uint16, or floats on the same scale; and `present` bool [n] where cases may
        lack the input.
        """
        features, present = {}, {}
        for name, encoder in zip(self.names, self.encoders, strict=True):
            arrays = {key: value for key, value in batch[name].items() if key != "present"}
            features[name] = encoder(**arrays)
            if "present" in batch[name]:
                present[name] = batch[name]["present"]
        return cast(Tensor, self.dense(self.fusion(features, present)))


def build_model(
    model: ModelOptions, encoders: Mapping[str, EncoderOptions], specs: Mapping[str, dict[str, Any]], head: Mapping[str, Any]
) -> DiagnosticModel | TaggingModel:
    """The network, with weights drawn from torch's generator (the same after the same `torch.manual_seed`).

    `specs`: input to its preparation's spec; an input without an encoder gets its kind's default.  `head`: the page that `make_head` takes.
    RecipeError for an unknown network, setting or module, or a network that does not fit the input.
    """
    made = {
        name: build_encoder(name, encoders.get(name) or EncoderOptions(kind=DEFAULT_ENCODER[spec["kind"]]), spec)
        for name, spec in specs.items()
    }
    optional = frozenset(name for name, spec in specs.items() if spec.get("optional"))
    if model.fusion.drop_inputs and not optional:
        raise RecipeError(
            "drop_inputs hides optional inputs, and no input is optional",
            "model.fusion.drop_inputs",
            "mark an input `optional: true`, or leave it out",
        )
    asked = make_head(head)
    if asked.kind == "tags":
        return tagging_model(made, specs, asked, model.hidden, model.dropout)
    fusion = fusion_of(model.fusion, {name: _out_features(name, one) for name, one in made.items()}, optional)
    return DiagnosticModel(made, fusion, asked, model.hidden, model.dropout)


def build_encoder(name: str, options: EncoderOptions, spec: Mapping[str, Any]) -> nn.Module:
    """One input's network: `builder(spec, **settings)`; for several pictures a case, on each, folded as the input says."""
    where = f"model.encoders.{name}"
    if ":" in options.kind:
        builder = _import(options.kind, where)
    else:
        table = _BY_INPUT.get(spec["kind"], {})
        if options.kind not in table:
            raise RecipeError(
                f"{options.kind!r} is not a network for a {spec['kind']}",
                where,
                f"allowed: {', '.join(table) or 'none by name'}, or package.module:function",
            )
        builder = table[options.kind]
    _check_settings(builder, options, where)
    encoder = builder(spec, **options.settings)
    if not isinstance(encoder, nn.Module):
        raise RecipeError(f"{options.kind} returned {type(encoder).__name__}, not a torch.nn.Module", where)
    many = spec.get("many")
    return Many(encoder, _out_features(name, encoder), many) if spec["kind"] == "image" and many in FOLDS else encoder


def _out_features(name: str, encoder: nn.Module) -> int:
    size = getattr(encoder, "out_features", None)
    if not isinstance(size, int) or size < 1:
        raise RecipeError(
            "the network has no `out_features`, a whole number: the width of what its forward returns", f"model.encoders.{name}"
        )
    return size


def _import(path: str, where: str) -> Callable[..., nn.Module]:
    module_name, _, function = path.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), function, None)
    except ImportError as error:
        raise RecipeError(f"cannot import {module_name!r}: {error}", where, "is the package installed, on the workers too?") from error
    except ValueError as error:
        raise RecipeError(f"{path!r} is not package.module:function", where) from error
    if not callable(found):
        raise RecipeError(f"{module_name!r} has no function {function!r}", where)
    return cast(Callable[..., nn.Module], found)


def _check_settings(builder: Callable[..., nn.Module], options: EncoderOptions, where: str) -> None:
    """RecipeError for a setting that the builder does not take, or a value of the wrong kind; builders take settings by keyword."""
    signature = inspect.signature(builder)
    open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.parameters.values())
    allowed = dict(list(signature.parameters.items())[1:])
    for name, value in options.settings.items():
        if name not in allowed and not open_ended:
            guess = nearest(name, allowed)
            raise RecipeError(
                f"{options.kind} has no setting {name!r}",
                f"{where}.settings",
                f"{f'did you mean {guess!r}? ' if guess else ''}known: {', '.join(allowed) or 'none'}",
            )
        default = allowed[name].default if name in allowed else None
        if not _fits(value, default):
            raise RecipeError(f"{options.kind}: {name} cannot be {value!r}", f"{where}.settings", f"the default is {default!r}")
    lacking = [
        name
        for name, one in allowed.items()
        if one.default is one.empty and name not in options.settings and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    if lacking:
        raise RecipeError(f"{options.kind} needs the setting {lacking[0]!r}", f"{where}.settings")


def _fits(value: Any, default: Any) -> bool:
    """Whether a value is of the default's kind; a default that says nothing (None, none given) takes all."""
    number = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int):
        return number
    if isinstance(default, float):
        return number or isinstance(value, float)
    if isinstance(default, str):
        return isinstance(value, str)
    return isinstance(value, list) or number if isinstance(default, tuple | list) else True
