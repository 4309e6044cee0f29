from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from meddx.errors import BundleError
from meddx.predict.estimators import TRUSTED, dump_estimator, load_estimator

ROWS = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
VALUES = ROWS.sum(1)


def regressors() -> dict[str, Any]:
    from sklearn.dummy import DummyRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import Ridge

    return {
        "prevalence": DummyRegressor(),
        "linear": Ridge(),
        "forest": RandomForestRegressor(n_estimators=3, random_state=0),
        "boosting": HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=2, random_state=0),
    }


@pytest.mark.parametrize("name", ["prevalence", "linear", "forest", "boosting"])
def test_regressors_come_back_as_they_were(name: str) -> None:
    model = regressors()[name].fit(ROWS, VALUES)
    data = dump_estimator(model)
    assert np.array_equal(load_estimator(data).predict(ROWS), model.predict(ROWS))
    assert data == dump_estimator(regressors()[name].fit(ROWS, VALUES))


def test_a_dict_of_arrays_and_an_estimator_comes_back() -> None:
    model = {
        "inputs": ["a", "b"],
        "model": {"texts": [{"columns": np.arange(4), "idf": np.ones(4)}], "plain": None, "deviation": 0.5,
                  "model": regressors()["linear"].fit(ROWS, VALUES)},
    }  # fmt: skip
    again = load_estimator(dump_estimator(model))
    assert again["inputs"] == ["a", "b"] and again["model"]["plain"] is None and again["model"]["deviation"] == 0.5
    assert np.array_equal(again["model"]["texts"][0]["columns"], np.arange(4))
    assert np.array_equal(again["model"]["model"].coef_, model["model"]["model"].coef_)  # type: ignore[index]


def strangers() -> list[Any]:
    from functools import partial
    from operator import itemgetter

    from scipy import sparse
    from sklearn.feature_selection import SelectKBest, f_classif
    from sklearn.linear_model import LinearRegression, SGDRegressor
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.preprocessing import FunctionTransformer

    return [
        LinearRegression().fit(ROWS, VALUES),
        SGDRegressor(),
        KNeighborsRegressor().fit(ROWS, VALUES),
        SelectKBest(f_classif, k=2),
        sparse.csr_matrix(ROWS),
        {"model": FunctionTransformer(np.log)},
        {"model": partial(print)},
        {"columns": itemgetter(0)},
    ]


@pytest.mark.parametrize("place", range(8))
def test_what_meddx_does_not_write_is_refused(place: int) -> None:
    with pytest.raises(BundleError, match="list of trusted|loader"):
        dump_estimator(strangers()[place])


def changed(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "schema.json":
                outline = json.loads(content)
                change(outline)
                content = json.dumps(outline).encode()
            new.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    "node",
    [
        {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"},
        {"__class__": "f_classif", "__module__": "sklearn.feature_selection._univariate_selection", "__loader__": "FunctionNode"},
        {"__class__": "csr_matrix", "__module__": "scipy.sparse._csr", "__loader__": "SparseMatrixNode"},
        {"__class__": "dict", "__module__": "builtins", "__loader__": "MethodNode"},
        {"__class__": "RidgeCV", "__module__": "sklearn.linear_model._ridge", "__loader__": "ObjectNode"},
    ],
)
def test_a_stranger_deep_inside_a_dict_is_refused(node: dict[str, Any]) -> None:
    data = dump_estimator({"inputs": ["a"], "model": {"plain": None, "model": regressors()["linear"].fit(ROWS, VALUES)}})
    load_estimator(changed(data, lambda outline: None))
    with pytest.raises(BundleError, match="list of trusted|loader|function"):
        load_estimator(changed(data, lambda outline: outline["content"]["model"]["content"].update(plain=node)))


def test_a_pickle_is_named() -> None:
    with pytest.raises(BundleError, match="pickle"):
        load_estimator(pickle.dumps(regressors()["linear"]))


@pytest.mark.parametrize("name", ["forest", "boosting"])
@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: {"inputs": ["a"], "model": {"texts": [], "model": model}}])
def test_a_broken_tree_of_a_regressor_is_refused_inside_a_dict_too(name: str, wrap: Callable[[Any], Any]) -> None:
    data = dump_estimator(wrap(regressors()[name].fit(ROWS, VALUES)))
    load_estimator(data)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            if entry.endswith(".npy"):
                array = np.load(io.BytesIO(content))
                for field in ("left_child", "left"):
                    if field in (array.dtype.names or ()) and len(array) > 1:
                        array[field][0] = 1_000_000
                stream = io.BytesIO()
                np.save(stream, array)
                content = stream.getvalue()
            new.writestr(entry, content)
    with pytest.raises(BundleError, match="outside itself"):
        load_estimator(out.getvalue())


def test_the_list_names_no_sparse_matrix_no_selector_and_one_function() -> None:
    assert not [name for name in TRUSTED if name.startswith("scipy") or "feature_selection" in name or "text" in name]
    assert [name for name in sorted(TRUSTED) if name.rpartition(".")[2].islower() and name.startswith("sklearn")] == [
        "sklearn.utils.validation.check_array"
    ]
