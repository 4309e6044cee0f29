"""A network's parts in, safetensors bytes out; checked bytes and a manifest in, a network in evaluation mode out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meddx.errors import BundleError, RecipeError
from meddx.models.options import EncoderOptions, ModelOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class NetworkParts:
    """What makes a network: `model_options` and `encoders` as JSON, `weights` as `state_dict` gives them.

    `offset`: a number a logit, added to what the network says: it undoes exactly what class weights or balanced sampling did.
    `beside`: the fitted baseline of `model_options["beside"]`, whose logits are averaged with the network's.
    """

    model_options: dict[str, Any]
    encoders: dict[str, Any]
    weights: dict[str, Tensor]
    offset: list[float] | None = None
    beside: Any = None

    @property
    def page(self) -> dict[str, Any]:
        """The manifest's predictor page."""
        page = {"options": self.model_options, "encoders": self.encoders}
        return page if self.offset is None else {**page, "offset": [float(one) for one in self.offset]}


def check_offset(page: Mapping[str, Any], width: int) -> list[float] | None:
    """The offset of a manifest's predictor page.  Raises BundleError where it is not one finite number for each of `width` logits."""
    offset = page.get("offset")
    if offset is None:
        return None
    good = isinstance(offset, list) and len(offset) == width
    if not good or not all(isinstance(one, int | float) and math.isfinite(one) for one in offset):
        raise BundleError("the offset does not fit the answer", "bundle.json", "make the bundle again")
    return [float(one) for one in offset]


def dump_weights(weights: Mapping[str, Tensor]) -> bytes:
    """The tensors as safetensors, sorted by name: equal weights give equal bytes."""
    from safetensors.torch import save

    # a clone each: safetensors refuses tensors that share memory, and channels_last ones
    return bytes(save({name: weights[name].detach().cpu().contiguous().clone() for name in sorted(weights)}))


def load_network(
    data: bytes, network: Mapping[str, Any], specs: Mapping[str, dict[str, Any]], head: dict[str, Any], *, allow_code: bool
) -> nn.Module:
    """The network with its weights.  `network` = {"options", "encoders"} from the manifest.

    Raises BundleError where the weights are not safetensors (a pickle is named as such), do not fit the network, or an
    encoder is a user's own code and `allow_code` is False.
    """
    encoders = {name: _encoder(one) for name, one in network["encoders"].items()}
    if own := [one.kind for one in encoders.values() if ":" in one.kind]:
        _allow(own, allow_code)
    weights = _parse(data)
    from meddx.models.build import build_model

    try:
        model: nn.Module = build_model(ModelOptions.model_validate(network["options"]), encoders, specs, head)
    except (ImportError, RecipeError) as error:
        raise BundleError(f"the network cannot be built: {error}", "bundle.json", "install what it needs") from error
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise BundleError(f"the weights do not fit the network: {first}", WEIGHTS, "use the meddx that wrote the bundle") from error
    return model.eval()


def placed(model: nn.Module, device: str) -> nn.Module:
    """The network on its device.  BundleError where this machine has no such."""
    if device == "cpu":
        return model
    import torch

    if not torch.cuda.is_available():
        what = "the network is to run on a GPU, and CUDA finds none here"
        raise BundleError(what, "engine", "use a machine with a GPU and torch's CUDA build, or score into another folder")
    return model.to(device)


def _encoder(page: Any) -> EncoderOptions:
    return EncoderOptions.model_validate(page)


def _allow(own: list[str], allow_code: bool) -> None:
    if not allow_code:
        raise BundleError(
            f"the bundle needs code that it does not hold: {', '.join(own)}",
            "bundle.json",
            "install that code, look at it, and load with allow_code=True",
        )


def _parse(data: bytes) -> dict[str, Tensor]:
    # a safetensors file is 8 bytes of length, then JSON
    if data[8:9] != b"{":
        if data[:1] == b"\x80" or data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            raise BundleError(
                "the weights are a pickle (a torch or Python file), which runs code when it is opened: refused",
                WEIGHTS,
                "make the bundle with meddx train",
            )
        raise BundleError("the weights are not in the safetensors format", WEIGHTS, "make the bundle again")
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        weights: dict[str, Tensor] = load(data)
    except SafetensorError as error:
        raise BundleError(f"the weights are not readable: {error}", WEIGHTS, "make the bundle again") from error
    return weights
