"""Which network, which baselines."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from meddx.yamlconf import Options, Texts, nearest

# cnn: the small net of three convolutions; mlp: tables; rnn to attention: sequences; bag: the words of a text, whatever their order;
# summary: statistics of events; slices: a picture net over a volume's slices; pretrained: the network of a local Hugging Face directory;
# the rest are MONAI's, by their names there.
ENCODERS = (
    "cnn",
    "mlp",
    "rnn",
    "lstm",
    "gru",
    "conv",
    "attention",
    "bag",
    "summary",
    "resnet10",
    "resnet18",
    "resnet34",
    "resnet50",
    "densenet121",
    "densenet169",
    "efficientnet-b0",
    "efficientnet-b1",
    "vit",
    "slices",
    "pretrained",
)
BASELINES = ("prevalence", "logistic", "linear", "forest", "boosting", "dictionary")
USUAL_BASELINE: dict[str, Literal["linear", "dictionary"]] = {"regression": "linear", "tags": "dictionary"}
DEFAULT_ENCODER = {"table": "mlp", "image": "cnn", "volume": "cnn", "signal": "conv", "events": "gru", "text": "lstm", "tokens": "lstm"}
_PICTURES = ("cnn", *(name for name in ENCODERS if name[-1].isdigit()), "vit")
_SEQUENCES = ("rnn", "lstm", "gru", "conv", "attention")
FITTING = {
    "table": ("mlp",),
    "image": _PICTURES,
    "volume": (*_PICTURES, "slices"),
    "signal": _SEQUENCES,
    "events": (*_SEQUENCES, "summary"),
    "text": (*_SEQUENCES, "bag", "pretrained"),
    "tokens": _SEQUENCES,
}


def _by_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class EncoderOptions(Options):
    """One input's network, by name or by a dotted path `mypkg.nets:build` called with the input's spec and `settings`."""

    kind: str = Field(description=f"{', '.join(ENCODERS)}, or a dotted path `package.module:function`")
    settings: dict[str, int | float | str | bool | list[int]] = Field({}, description="keyword settings of that network")

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in ENCODERS and ":" not in value:
            guess = nearest(value, ENCODERS)
            hint = f"did you mean {guess!r}? " if guess else ""
            raise ValueError(f"{value!r} is not a network; {hint}allowed: {', '.join(ENCODERS)}, or package.module:function")
        return value


class FusionOptions(Options):
    """How several inputs become one."""

    kind: Literal["concat", "gated", "attention"] = Field("concat", description="side by side, weighted by learned gates, or by attention")
    drop_inputs: float = Field(0.0, ge=0, lt=1, description="share of optional inputs hidden in training")
    width: int = Field(64, ge=4, description="gated, attention: features that each input is brought to")


class BaselineOptions(Options):
    """A scikit-learn model on the same parts, on plain features (pixels, TF-IDF, summary statistics).  `prevalence` is always there."""

    kind: Literal["prevalence", "logistic", "linear", "forest", "boosting", "dictionary"] = Field(
        description="which; linear: least squares (regression, ordinal); dictionary: names seen in train (tags)"
    )
    name: str | None = Field(
        None, pattern=r"^[a-z][a-z0-9_-]*$", description="its name on the page, where a kind stands twice; default: the kind"
    )
    inputs: Texts = Field((), description="the inputs it looks at; default all")
    select: int | None = Field(None, ge=1, description="logistic, linear: so many numbers are kept, by F test inside each fit")
    trials: int = Field(8, ge=1, le=200, description="settings tried by cross-validation inside train")

    @property
    def label(self) -> str:
        return self.name or self.kind

    def fits(self, target: str) -> bool:
        """Whether it can answer a target of this kind."""
        if target == "tags" or self.kind == "dictionary":
            return self.kind == "prevalence" or (target == "tags" and self.kind == "dictionary")
        return {"logistic": target != "regression", "linear": target in ("regression", "ordinal")}.get(self.kind, True)


Baseline = Annotated[BaselineOptions, BeforeValidator(_by_name)]


class ModelOptions(Options):
    """{input: encoder} -> fusion -> head.  One input is a fusion of one."""

    name: str = Field("network", pattern=r"^[a-z][a-z0-9_-]*$", description="the model's name on the page and in folders")
    encoders: dict[str, Annotated[EncoderOptions, BeforeValidator(_by_name)]] = Field(
        {}, description="input: network; default mlp for tables, cnn for images"
    )
    fusion: Annotated[FusionOptions, BeforeValidator(_by_name)] = Field(FusionOptions(), description="how inputs are joined")
    hidden: int = Field(128, ge=1, description="units of the dense layer before the answer")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout before the answer")
    beside: Baseline | None = Field(
        None, description="a baseline that answers with the network: the mean of their logits; it is fitted on the same cases"
    )
