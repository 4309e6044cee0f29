"""How a raw archive is read: one source, and which of its columns make a case."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from meddx.yamlconf import Options, Text, Texts


class LabelTable(Options):
    """A table joined to a folder of images, one row an image."""

    path: str = Field(description="the table; `${MEDDX_...}` is filled from the environment")
    key: Text = Field(description="the column of the table that names the image")
    match: Literal["file_name", "file_stem", "file_path", "accession_number", "sop_instance_uid"] = Field(
        "file_name", description="what of the image the key names"
    )


class SourceOptions(Options):
    """One table, one MedMNIST file, or one folder of images."""

    path: str = Field(description="file, folder, `*` pattern, `s3://bucket/prefix` or `package://name/file`; `${MEDDX_...}` is filled in")
    format: Literal["auto", "csv", "tsv", "xlsx", "parquet", "medmnist", "images", "dicom"] = Field("auto", description="by ending if auto")
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


class PatientUnknown(Options):
    """For archives that have lost who is who; the page says that intervals may be too narrow."""

    unknown: str = Field(min_length=8, description="why the patient is not known")


class CaseOptions(Options):
    """Which columns say what a case is.  After ingest they are called case_id, patient_id, predict_at."""

    source: Text | None = Field(None, alias="from", description="the source whose rows are the cases; may be left out when there is one")
    id: Text = Field(description="the column with the case's unique id; `@row`: its row number, where the file has no id")
    patient: Text | PatientUnknown = Field(description="the column that groups a patient's cases; `@case`: each case is its own patient")
    site: Text | None = Field(None, description="the column that names the hospital or site")
    predict_at: Text | None = Field(None, description="the column with the instant at which the case is decided")
    zone: str | None = Field(None, description="the time zone of stamps that have none, such as Europe/Berlin")
