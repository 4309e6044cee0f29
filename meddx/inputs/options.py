"""What a model may look at: one block an input."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from meddx.yamlconf import Options, Text, Texts


class TableInput(Options):
    """Columns of a table: numbers are imputed and scaled with a missing mask, texts become categories."""

    kind: Literal["table"] = Field("table", description="a table")
    source: Text | None = Field(None, alias="from", description="the source, where there are several")
    columns: Texts = Field(
        ("*",), description="names or patterns; `*` is every column that is not id, patient, target or declared after_outcome"
    )
    drop: Texts = Field((), description="names or patterns left out")
    category: Texts = Field((), description="names or patterns of number-like codes that are categories")
    min_count: int = Field(10, ge=1, description="a category seen less often in train counts as `other`")
    optional: bool = Field(False, description="true: a case without it is scored all the same")


class ImageInput(Options):
    """One picture a case, as PNG or JPEG bytes in a column."""

    kind: Literal["image"] = Field(description="a picture")
    source: Text | None = Field(None, alias="from", description="the source, where there are several")
    column: Text = Field("image", description="the column with the encoded picture")
    size: int = Field(ge=8, le=1024, description="height and width in pixels that the model sees")
    channels: Literal[1, 3] = Field(1, description="1 grey, 3 RGB")
    optional: bool = Field(False, description="true: a case without it is scored all the same")


def _kind(value: Any) -> str:
    kind = value.get("kind", "table") if isinstance(value, dict) else getattr(value, "kind", "table")
    return str(kind)


InputOptions = Annotated[
    Annotated[TableInput, Tag("table")] | Annotated[ImageInput, Tag("image")],
    Discriminator(
        _kind,
        custom_error_type="input_kind",
        custom_error_message="no such kind of input",
        custom_error_context={"expected": "'table' or 'image'"},
    ),
]
