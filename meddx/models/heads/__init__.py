"""A kind of target and its classes in, the head that knows its losses, probabilities and numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meddx.models.heads.base import Head
from meddx.models.heads.classes import Binary, Multiclass, Multilabel
from meddx.models.heads.ordinal import Ordinal
from meddx.models.heads.regression import Regression
from meddx.models.heads.several import Several
from meddx.models.heads.tags import Tags

HEADS: dict[str, type[Head]] = {
    "binary": Binary,
    "multiclass": Multiclass,
    "multilabel": Multilabel,
    "ordinal": Ordinal,
    "regression": Regression,
    "tags": Tags,
}
KINDS = tuple(HEADS)

__all__ = ["HEADS", "KINDS", "Head", "make_head"]


def make_head(page: Mapping[str, Any]) -> Head:
    """The head of a page {"kind", "classes"}, for regression {"kind", "mean", "std"}, for tags {"kind", "classes", "tokens"}, for several
    {"kind", "of": {name: page}}.

    RecipeError for an impossible one.
    """
    if page["kind"] == "several":
        return Several({name: make_head(one) for name, one in page["of"].items()})
    if page["kind"] == "regression":
        return Regression("regression", (), float(page["mean"]), float(page["std"]))
    if page["kind"] == "tags":
        return Tags("tags", page["classes"], int(page["tokens"]))
    return Head(page["kind"], page["classes"])
