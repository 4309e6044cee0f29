"""What a model may look at: one block an input."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from meddx.duration import Duration
from meddx.yamlconf import Options, Text, Texts


def _rising(limits: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    low, high = limits
    if not all(one is None or math.isfinite(one) for one in limits) or (low is None and high is None):
        raise ValueError("limits are two numbers, of which one may be null")
    if low is not None and high is not None and low >= high:
        raise ValueError("limits go from the lower to the higher")
    return limits


Limits = Annotated[tuple[float | None, float | None], AfterValidator(_rising)]
KINDS = ("table", "image", "volume", "signal", "events", "text", "tokens")


class _Input(Options):
    source: Text | None = Field(None, alias="from", description="the source, where there are several")
    optional: bool = Field(False, description="true: a case without it is scored all the same")


class TableInput(_Input):
    """Columns of a table: numbers are imputed and scaled with a missing mask, texts become categories."""

    kind: Literal["table"] = Field("table", description="a table")
    columns: Texts = Field(
        ("*",), description="names or patterns; `*` is every column that is not id, patient, target or declared after_outcome"
    )
    drop: Texts = Field((), description="names or patterns left out")
    category: Texts = Field((), description="names or patterns of number-like codes that are categories")
    min_count: int = Field(10, ge=1, description="a category seen less often in train counts as `other`")
    many: Literal["latest", "first", "mean", "max"] | None = Field(
        None, description="a joined source with several rows a case: which counts"
    )
    limits: dict[str, Limits] = Field(
        {}, description="column: [low, high], a null for open; a row outside breaks the contract; default: as train"
    )
    units: dict[str, Text] = Field({}, description="column: its unit, stated in the contract")


class ImageInput(_Input):
    """Pictures as PNG or JPEG bytes in a column: one a case, or several of a joined source."""

    kind: Literal["image"] = Field(description="a picture")
    column: Text = Field("image", description="the column with the encoded picture")
    size: int = Field(ge=8, le=1024, description="height and width in pixels that the model sees")
    channels: Literal[1, 3] = Field(1, description="1 grey, 3 RGB")
    many: Literal["latest", "first", "mean", "max", "attention"] | None = Field(
        None, description="several pictures a case: which one, or how their features are folded"
    )
    at_most: int = Field(4, ge=1, le=64, description="mean, max, attention: the latest so many pictures")


class VolumeInput(_Input):
    """One volume a case (CT, MR), resampled to one spacing and cut or padded about its middle to one size."""

    kind: Literal["volume"] = Field(description="a volume")
    column: Text = Field("volume", description="the column with the volume, as NIfTI bytes")
    size: tuple[int, int, int] = Field(description="slices, rows and columns that the model sees")
    spacing: tuple[float, float, float] | None = Field(
        None, description="mm from slice to slice, row to row, column to column; left out: the whole volume is brought to `size`"
    )
    units: Text | None = Field(None, description="the unit of the stored values, stated in the contract: HU")
    window: tuple[float, float] | None = Field(None, description="stored values that become 0 and 1, such as [-1000, 400] HU for lungs")
    many: Literal["latest", "first"] | None = Field(None, description="several volumes a case: which one")

    @model_validator(mode="after")
    def _some_room(self) -> VolumeInput:
        if min(self.size) < 1 or max(self.size) > 512:
            raise ValueError("size: slices, rows and columns, each from 1 to 512")
        if self.spacing is not None and min(self.spacing) <= 0:
            raise ValueError("spacing: three distances in mm above 0")
        if self.window is not None and self.window[0] >= self.window[1]:
            raise ValueError("window: from the lower to the higher value")
        return self


class SignalInput(_Input):
    """One signal a case, leads found by name, resampled to one rate."""

    kind: Literal["signal"] = Field(description="a signal")
    column: Text = Field("signal", description="the column with the signal")
    leads: Texts = Field(min_length=1, description="names of the leads, in the order that the model sees")
    rate: float = Field(gt=0, description="samples a second that the model sees")
    seconds: float = Field(gt=0, description="length that the model sees; longer is cut about its middle, shorter is padded and masked")
    band: tuple[float, float] | None = Field(None, description="band-pass, low and high in Hz")
    normalize: Literal["train", "case", "none"] = Field("train", description="by mean and deviation of train, of the case, or not at all")
    limits: Limits | None = Field(
        None, description="[low, high] of every sample after filter and resampling; default: the leads' spread, as in train"
    )
    units: Text | None = Field(None, description="the unit of the samples, stated in the contract: mV")


class EventsInput(_Input):
    """Values of named variables over time (a long table), put on a grid with a mask and the time since last seen."""

    kind: Literal["events"] = Field(description="events over time")
    variable: Text = Field(description="the column that names the variable")
    value: Text = Field(description="the column with its value")
    unit: Text | None = Field(None, description="the column with its unit; a unit that train did not have is refused")
    convert: dict[str, dict[str, float]] = Field({}, description="variable: {unit: factor to the usual one}")
    variables: Texts = Field(("*",), description="names or patterns of the variables that count")
    drop: Texts = Field((), description="variables left out")
    window: tuple[Duration, Duration] = Field(description="from when to when, counted from predict_at: [-48h, 0h]")
    bin: Duration = Field(timedelta(hours=1), description="width of one step of the grid")
    limits: dict[str, Limits] = Field({}, description="variable: [low, high] in its usual unit, a null for open; default: as train")
    units: dict[str, Text] = Field({}, description="variable: its unit, stated in the contract where no column says it")
    min_share: float = Field(0.01, ge=0, le=1, description="a variable seen in a smaller share of the cases of train is left out")

    @model_validator(mode="after")
    def _some_steps(self) -> EventsInput:
        if self.window[0] >= self.window[1] or self.window[1] > timedelta(0):
            raise ValueError("window: from the earlier to the later, and not beyond predict_at: [-72h, 0h]")
        if not 1 <= self.steps <= 2000 or self.bin <= timedelta(0):
            raise ValueError("window and bin must make 1 to 2000 steps")
        return self

    @property
    def steps(self) -> int:
        return int(-(-(self.window[1] - self.window[0]) // self.bin))


class TextInput(_Input):
    """A text: words of Latin script and single Chinese characters, with a vocabulary from train."""

    kind: Literal["text"] = Field(description="a text")
    column: Text = Field("text", description="the column with the text")
    many: Literal["latest", "first", "join"] | None = Field(None, description="several texts a case: which one, or all, the latest last")
    max_tokens: int = Field(512, ge=1, le=16384, description="what is longer loses its middle, and that is counted")
    min_count: int = Field(2, ge=1, description="a word seen less often in train is unknown")
    max_words: int = Field(20000, ge=1, description="size of the vocabulary at most")
    pretrained: str | None = Field(
        None, description="a local Hugging Face directory: its tokenizer instead of words, its network as the encoder `pretrained`"
    )


class TokensInput(_Input):
    """A text whose words are each given a tag: words, their characters, and where they stand in the text."""

    kind: Literal["tokens"] = Field(description="a text to be tagged word by word")
    column: Text = Field("text", description="the column with the text")
    max_tokens: int = Field(256, ge=1, le=4096, description="a longer text is quarantined: no part of it goes unread without saying so")
    characters: int = Field(24, ge=1, le=64, description="of each word the first so many characters are read")
    min_count: int = Field(2, ge=1, description="a word seen less often in train is unknown, and read by its characters alone")
    max_words: int = Field(20000, ge=1, description="size of the vocabulary at most")


def _kind(value: Any) -> str:
    kind = value.get("kind", "table") if isinstance(value, dict) else getattr(value, "kind", "table")
    return str(kind)


InputOptions = Annotated[
    Annotated[TableInput, Tag("table")]
    | Annotated[ImageInput, Tag("image")]
    | Annotated[VolumeInput, Tag("volume")]
    | Annotated[SignalInput, Tag("signal")]
    | Annotated[EventsInput, Tag("events")]
    | Annotated[TextInput, Tag("text")]
    | Annotated[TokensInput, Tag("tokens")],
    Discriminator(
        _kind,
        custom_error_type="input_kind",
        custom_error_message="no such kind of input",
        custom_error_context={"expected": " or ".join(f"'{kind}'" for kind in KINDS)},
    ),
]
