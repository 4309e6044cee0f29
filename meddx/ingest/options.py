"""How a raw archive is read: its sources, how they are joined, and which columns make a case."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from meddx.duration import Duration, is_duration, parse_duration
from meddx.yamlconf import Options, Text, Texts

Format = Literal["auto", "csv", "tsv", "xlsx", "parquet", "medmnist", "images", "dicom", "nifti", "wfdb", "iob"]


class LabelTable(Options):
    """A table joined to a folder of images, one row an image."""

    path: str = Field(description="the table; `${MEDDX_...}` is filled from the environment")
    key: Text = Field(description="the column of the table that names the image")
    match: Literal["file_name", "file_stem", "file_path", "accession_number", "sop_instance_uid", "series_instance_uid"] = Field(
        "file_name", description="what of the image the key names"
    )


class SignalSource(Options):
    """WFDB: which rows one record gives.  The signal is kept at the file's rate, in its units, with the names of its leads."""

    rows: Literal["record", "beats", "sliding"] = Field("record", description="one a record, one an annotated beat, or one a step")
    before: Duration = Field(timedelta(seconds=0.4), description="beats: signal before the beat")
    after: Duration = Field(timedelta(seconds=0.6), description="beats: signal after the beat")
    length: Duration = Field(timedelta(seconds=10), description="sliding: length of a window")
    step: Duration = Field(timedelta(seconds=10), description="sliding: from one window to the next")
    band: tuple[float, float] | None = Field(None, description="band-pass over the whole record before it is cut, low and high in Hz")
    apart: bool = Field(False, description="beats: one lead more, `apart`: how far the leads together are from the record's usual beat")
    annotator: Text = Field("atr", description="the ending of the annotation files")


class PivotOptions(Options):
    """A long table (one row a value) made wide: a column for each variable named here."""

    variable: Text = Field(description="the column that names the variable")
    value: Text = Field(description="the column with its value")
    only: Texts = Field(min_length=1, description="the variables that become columns")


def _join(value: Any) -> Any:
    return {value: value} if isinstance(value, str) else value


class SourceOptions(Options):
    """One table, one MedMNIST file, one folder of images, records or volumes; `.tar.*` and `.zip` archives are unpacked."""

    path: str = Field(description="file, folder, `*` pattern, `s3://bucket/prefix` or `package://name/file`; `${MEDDX_...}` is filled in")
    format: Format = Field("auto", description="by ending if auto")
    join: Annotated[dict[Text, Text], BeforeValidator(_join)] = Field(
        {}, description="how rows find their case: one name for both, or {column here: column of the cases}"
    )
    time: Text | None = Field(None, description="joined: the column with the instant at which a row was known")
    time_unit: Literal["s", "min", "h", "d"] | None = Field(None, description="`time` is a number of these since the case's own zero")
    zone: str | None = Field(None, description="the time zone of stamps that have none; default case.zone")
    window: tuple[Duration, Duration] | None = Field(None, description="joined: only rows from then to then, counted from predict_at")
    keep: Texts = Field(("*",), description="joined: the columns that are kept, names or patterns")
    pivot: PivotOptions | None = Field(None, description="a long table made wide while it is read")
    file_as: Text | None = Field(None, description="name of a column made from the name of the file")
    series: bool = Field(False, description="dicom: one row a series, a volume, instead of one a picture")
    signal: SignalSource = Field(SignalSource(), description="wfdb: which rows a record gives")
    encoding: str = Field("auto", description="text encoding; auto knows BOM, UTF-8, GB18030, latin-1 and says which")
    delimiter: Literal["auto", ",", ";", "\t", "|"] = Field("auto", description="between values")
    decimal: Literal["auto", ".", ","] = Field("auto", description="decimal mark")
    sheet: Text | None = Field(None, description="the sheet of an .xlsx file")
    skip_rows: int = Field(0, ge=0, description="lines before the header or the first row")
    header: bool = Field(True, description="false: the file has no header, `columns` names them")
    columns: Texts = Field((), description="the names of a headerless file's columns, in order")
    missing: Texts = Field(("",), description="texts that mean missing, in every column")
    missing_in: dict[str, Texts] = Field({}, description="texts that mean missing in one column, such as chol: 0")
    text: Texts = Field((), description="columns or patterns kept as text, leading zeros and all")
    dates: dict[str, Literal["ymd", "dmy", "mdy"]] = Field({}, description="order of day and month; needed where the values leave it open")
    label_from_folder: Text | None = Field(None, description="images: the name of the column made from the folder's name")
    labels: LabelTable | None = Field(None, description="images: a table joined to them")

    @field_validator("columns")
    @classmethod
    def _unique(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a column name stands twice")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> SourceOptions:
        if self.series and self.format not in ("auto", "dicom"):
            raise ValueError("`series` is for DICOM")
        if self.labels and self.labels.match == "series_instance_uid" and not self.series:
            raise ValueError("labels.match series_instance_uid needs `series: true`")
        given = [name for name in ("time", "window") if getattr(self, name) is not None]
        if given and not self.join:
            raise ValueError(f"`{given[0]}` is for a source that is joined to the cases: say `join`")
        if (self.time_unit or self.window) and not self.time:
            raise ValueError("`time_unit` and `window` need `time`")
        if self.window and self.window[0] > self.window[1]:
            raise ValueError("a window runs from the earlier to the later: [-72h, 0h]")
        return self


class PatientUnknown(Options):
    """For archives that have lost who is who; the page says that intervals may be too narrow."""

    unknown: str = Field(min_length=8, description="why the patient is not known")


class CaseOptions(Options):
    """Which columns say what a case is.  After ingest they are called case_id, patient_id, predict_at."""

    source: Text | None = Field(None, alias="from", description="the source whose rows are the cases; may be left out when there is one")
    id: Text = Field(description="the column with the case's unique id; `@row`: its row number, where the file has no id")
    patient: Text | PatientUnknown = Field(description="the column that groups a patient's cases; `@case`: each case is its own patient")
    site: Text | None = Field(None, description="the column that names the hospital or site")
    predict_at: Text | None = Field(
        None, description="the column with the instant at which the case is decided; or a duration such as 48h after the case's own zero"
    )
    zone: str | None = Field(None, description="the time zone of stamps that have none, such as Europe/Berlin")

    @property
    def predict_column(self) -> str | None:
        """The column of predict_at, None where it is a duration or not given."""
        return None if self.predict_at is None or is_duration(self.predict_at) else self.predict_at

    @property
    def predict_after(self) -> timedelta | None:
        """How long after the case's own zero it is decided, where predict_at is a duration."""
        found: timedelta | None = parse_duration(self.predict_at) if self.predict_at and is_duration(self.predict_at) else None
        return found
