"""A kind of target and its classes in, the head that knows its losses, probabilities and numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meddx.models.heads.base import Head
from meddx.models.heads.classes import Binary, Multiclass, Multilabel
from meddx.models.heads.ordinal import Ordinal
from meddx.models.heads.regression import Regression

HEADS: dict[str, type[Head]] = {
    "binary": Binary,
    "multiclass": Multiclass,
    "multilabel": Multilabel,
    "ordinal": Ordinal,
    "regression": Regression,
}
KINDS = tuple(HEADS)

__all__ = ["HEADS", "KINDS", "Head", "make_head"]


def make_head(page: Mapping[str, Any]) -> Head:
    """The head of a page {"kind", "classes"}, for regression {"kind", "mean", "std"}.  RecipeError for an impossible one."""
    if page["kind"] == "regression":
        return Regression("regression", (), float(page["mean"]), float(page["std"]))
    return Head(page["kind"], page["classes"])
