"""A bundle, a weights file or a Hugging Face directory in, a network that starts from what fits and keeps what is frozen out.

Names are the reader's: `encoders.<place>.` of the network is written as the input's name, so that `film.*` means all of
film's encoder, and an input finds its own weights in a bundle where it stood in another place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from meddx.errors import DataError, RecipeError
from meddx.predict.files import DIGESTS, read_files
from meddx.storage import StoragePath

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS, MANIFEST = "weights.safetensors", "bundle.json"
_START, _FREEZE = "training.start_from", "training.freeze"
_SHOWN = 30
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}


@dataclass(frozen=True)
class Start:
    """Weights to start from: `source` says whose, `tensors` by the reader's names; `must`: inputs of which something has to fit."""

    source: str
    tensors: dict[str, Tensor]
    must: tuple[str, ...] = ()


def read_start(place: str, inputs: Sequence[str]) -> Start:
    """The weights of a bundle's folder (its digests checked), or of a .safetensors file.  `inputs`: this network's, in their order.

    In a file, `encoders.<place>.` is understood in this network's order.  RecipeError where there is neither or the bundle has no
    network; BundleError, DataError where it is damaged.
    """
    path = StoragePath.of(place)
    if path.suffix == ".safetensors":
        if not path.exists():
            raise RecipeError("there is no such weights file", f"{_START}: {place}", "check the path")
        return Start(f"the weights file {path.name}", _renamed(_parse(path.read_bytes(), f"{_START}: {place}"), inputs))
    if not (path / DIGESTS).exists():
        raise RecipeError("this is neither a bundle nor a .safetensors file", f"{_START}: {place}", "name a bundle's folder")
    files, digest = read_files(path)
    if WEIGHTS not in files:
        raise RecipeError("the bundle holds no network", f"{_START}: {place}", "name the bundle of a network")
    page = json.loads(files[MANIFEST]) if MANIFEST in files else {}
    theirs = [str(one["name"]) for one in page.get("inputs", {}).get("inputs", [])]
    return Start(f"the bundle {path.name} ({digest})", _renamed(_parse(files[WEIGHTS], f"{_START}: {place}"), theirs))


def read_pretrained(place: str, name: str) -> Start:
    """The weights of a local Hugging Face directory for the encoder `pretrained` of the input `name`.

    Layers of the answer that its maker trained are taken along under names that nothing here has.  RecipeError where it is no such
    directory, DataError where its weights are damaged.
    """
    from meddx.inputs.pretrained import NETWORKS, WEIGHTS, read_directory

    where = f"inputs.{name}.pretrained"
    config, _ = read_directory(place, where)
    path = StoragePath.of(place)
    before = f"{NETWORKS[config['model_type']]}."
    tensors = {
        f"{name}.network.{_modern(key.removeprefix(before))}": tensor
        for key, tensor in _parse((path / WEIGHTS).read_bytes(), where).items()
    }
    return Start(f"the directory {path.name}", tensors, (name,))


def joined(starts: Sequence[Start]) -> Start | None:
    """All of them as one, a later one's tensors before an earlier one's; None of none."""
    if not starts:
        return None
    whole = starts[0]
    for one in starts[1:]:
        whole = replace(
            whole, source=f"{whole.source} and {one.source}", tensors={**whole.tensors, **one.tensors}, must=(*whole.must, *one.must)
        )
    return whole


def public_name(name: str, inputs: Sequence[str]) -> str:
    """`encoders.0.network.weight` as `film.network.weight`, where film is the first input; other names as they are."""
    head, _, rest = name.partition(".")
    place, _, inner = rest.partition(".")
    return f"{inputs[int(place)]}.{inner}" if head == "encoders" and place.isdigit() and int(place) < len(inputs) else name


def take(model: nn.Module, start: Start) -> list[str]:
    """Copy every tensor whose name and shape fit into the model; a line in words for what was taken and each that did not fit.

    RecipeError where nothing fits.
    """
    import torch

    here = _public_tensors(model)
    fitting = [name for name, tensor in here.items() if name in start.tensors and start.tensors[name].shape == tensor.shape]
    misfits = [
        f"{name} did not fit: {list(tensor.shape)} here, {list(start.tensors[name].shape)} there"
        for name, tensor in here.items()
        if name in start.tensors and start.tensors[name].shape != tensor.shape
    ]
    if not fitting:
        shown = "; ".join(misfits[:_SHOWN]) or f"here {_listed(here)}; there {_listed(start.tensors)}"
        raise RecipeError(f"nothing in {start.source} fits this network", _START, shown)
    for name in start.must:
        if not any(one.startswith(f"{name}.") for one in fitting):
            what = f"nothing in {start.source} fits the network of the input {name!r}"
            raise RecipeError(what, f"inputs.{name}.pretrained", "; ".join(misfits[:_SHOWN]) or f"here {_listed(here)}")
    with torch.no_grad():
        for name in fitting:
            here[name].copy_(start.tensors[name])
    lines = [f"started from {start.source}: {len(fitting)} of {len(here)} tensors taken", *misfits]
    if lacking := [name for name in here if name not in start.tensors]:
        lines.append(f"not there, drawn anew: {_listed(lacking)}")
    return lines


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Stop the training of every parameter that a pattern matches; a line in words.

    `*` matches dots too.  RecipeError for a pattern that matches nothing, or where nothing is left to train.
    """
    if not patterns:
        return []
    inputs = _inputs(model)
    parameters = {public_name(name, inputs): parameter for name, parameter in model.named_parameters()}
    for pattern in patterns:
        matched = [parameter for name, parameter in parameters.items() if fnmatchcase(name, pattern)]
        if not matched:
            raise RecipeError(f"no weight has a name like {pattern!r}", _FREEZE, f"known: {_listed(parameters)}")
        for parameter in matched:
            parameter.requires_grad_(False)
    frozen = sum(not parameter.requires_grad for parameter in parameters.values())
    if frozen == len(parameters):
        raise RecipeError("everything is frozen: there is nothing to train", _FREEZE, "leave out a pattern")
    keep_frozen_statistics(model)
    return [f"frozen: {', '.join(patterns)} ({frozen} of {len(parameters)} weights)"]


def keep_frozen_statistics(model: nn.Module) -> None:
    """Put every BatchNorm whose own weights are all frozen into evaluation: its running statistics are weights too."""
    from torch.nn.modules.batchnorm import _BatchNorm

    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, _BatchNorm) and own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _inputs(model: nn.Module) -> Sequence[str]:
    return tuple(getattr(model, "names", ()))


def _public_tensors(model: nn.Module) -> dict[str, Tensor]:
    inputs = _inputs(model)
    return {public_name(name, inputs): tensor for name, tensor in model.state_dict().items()}


def _renamed(tensors: Mapping[str, Tensor], inputs: Sequence[str]) -> dict[str, Tensor]:
    return {public_name(name, inputs): tensor for name, tensor in tensors.items()}


def _modern(name: str) -> str:
    """A normalisation's weights as they are called now; checkpoints that were made out of TensorFlow's say gamma and beta."""
    head, _, last = name.rpartition(".")
    return f"{head}.{_OLD_NAMES[last]}" if last in _OLD_NAMES else name


def _listed(names: Mapping[str, object] | Sequence[str]) -> str:
    """The layers of some weights, each once: what stands before the last dot."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    return ", ".join(layers[:_SHOWN]) + (f" and {len(layers) - _SHOWN} more" if len(layers) > _SHOWN else "")


def _parse(data: bytes, where: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(data)
    except SafetensorError as error:
        raise DataError("the weights are not in the safetensors format", where, "a pickle (.pt) is not opened") from error
    return tensors
