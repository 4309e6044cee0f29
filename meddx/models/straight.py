"""A fitted scikit-learn preparation and a matrix in, its own answer out bit for bit, without what it checks and copies on the way.

Its transformers take ten times as long as their arithmetic.  Only preparations as meddx fits them for a table of numbers go the short
way; any other goes scikit-learn's.  A test compares the bits of both.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Matrix = Any  # a numpy array or a scipy CSR matrix


def transformed(plain: Any, dense: np.ndarray) -> Matrix:
    """`plain.transform(dense)` of a ColumnTransformer; `dense` float32 [n, f] is not changed, and may be what comes back."""
    step = _only_step(plain, dense)
    if step == "passthrough":
        return dense
    steps = dict(getattr(step, "steps", ()))
    if list(steps) != ["impute", "centre"] or not _fills_and_marks(steps["impute"]):
        return plain.transform(dense)
    return _centred(steps["impute"], steps["centre"], dense)


def _only_step(plain: Any, dense: np.ndarray) -> Any:
    """What the ColumnTransformer does to all columns alike, in their order; None where there is no such thing."""
    fitted = plain.transformers_
    alone = len(fitted) == 1 and dense.dtype == np.float32 and plain.n_features_in_ == dense.shape[1]
    whole = alone and isinstance(fitted[0][2], list) and fitted[0][2] == list(range(dense.shape[1]))
    if not whole or plain.sparse_output_ or plain.transformer_weights:
        return None
    step = fitted[0][1]
    return "passthrough" if type(step).__name__ == "FunctionTransformer" and step.func is None else step


def _fills_and_marks(impute: Any) -> bool:
    fits = type(impute).__name__ == "SimpleImputer" and impute.add_indicator and impute.keep_empty_features
    return bool(fits and impute.indicator_.features == "missing-only" and impute.statistics_.dtype == np.float32)


def _centred(impute: Any, centre: Any, dense: np.ndarray) -> np.ndarray:
    """float32 [n, f + marks]: gaps filled, a mark for each column that had gaps in train; less the mean, over the deviation."""
    marked, width = impute.indicator_.features_, dense.shape[1]
    mean = centre.mean_.astype(np.float32)
    ready = np.empty((len(dense), width + len(marked)), np.float32, order=_order(dense, marked))
    gone = np.isnan(dense)
    filled = np.where(gone, impute.statistics_, dense) if gone.any() else dense
    np.subtract(filled, mean[:width], out=ready[:, :width])
    np.subtract(gone[:, marked].astype(np.float32), mean[width:], out=ready[:, width:])
    if centre.with_std:
        ready /= centre.scale_.astype(np.float32)
    return ready


def _order(dense: np.ndarray, marked: np.ndarray) -> Literal["C", "F"]:
    """How scikit-learn's matrix comes to lie in memory: BLAS rounds by it.  Its steps, with two rows."""
    taken = dense[:2][:, list(range(dense.shape[1]))]
    gone = np.isnan(taken)
    joined = np.hstack([np.hstack([taken, gone if len(marked) == dense.shape[1] else gone[:, marked]])])
    return "C" if joined.flags.c_contiguous else "F"
