"""A bundle that is not as it was written is refused, and nothing in it ever runs.  Each twin shows what would happen otherwise."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predict_helper import edit, sign_again

from meddx.errors import BundleError
from meddx.predict.bundle import Bundle

pytestmark = pytest.mark.slow


class Evil:
    """A pickle that writes a file when it is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.marker, "it ran"))


@pytest.mark.parametrize("predictor", ["mlp", "logistic"])
def test_one_flipped_bit_anywhere_is_refused(make_bundle, predictor: str) -> None:
    path = make_bundle(predictor)
    tried = 0
    for info in list(path.list()):
        data = info.path.read_bytes()
        for place in sorted({round(step * (len(data) - 1) / 40) for step in range(41)}):
            flipped = bytearray(data)
            flipped[place] ^= 1 << (place % 8)
            info.path.replace(bytes(flipped))
            with pytest.raises(BundleError):
                Bundle.load(path)
            tried += 1
        info.path.replace(data)
    assert tried > 110
    Bundle.load(path)


def test_twin_without_digests_a_flipped_bit_changes_scores_in_silence(make_bundle, patients) -> None:
    path = make_bundle("mlp")
    before = Bundle.load(path).predict(patients)
    flipped = bytearray((path / "weights.safetensors").read_bytes())
    flipped[8 + int.from_bytes(flipped[:8], "little") + 3] ^= 0x01  # in the exponent of the first weight
    (path / "weights.safetensors").replace(bytes(flipped))
    sign_again(path)
    assert not np.array_equal(before["probability"], Bundle.load(path).predict(patients)["probability"])


@pytest.mark.parametrize("name", ["bundle.json", "weights.safetensors", "digests.json"])
@pytest.mark.parametrize("left", [0, 1, -1])
def test_a_cut_off_file_is_refused(make_bundle, name: str, left: int) -> None:
    path = make_bundle("mlp")
    (path / name).replace((path / name).read_bytes()[:left])
    with pytest.raises(BundleError, match="damaged"):
        Bundle.load(path)


def test_missing_and_extra_files_are_refused(make_bundle) -> None:
    path = make_bundle("logistic")
    (path / "helper.py").replace(b"print('hello')")
    with pytest.raises(BundleError, match=r"does not list: helper\.py"):
        Bundle.load(path)
    (path / "helper.py").delete()
    (path / "inner" / "x.pkl").replace(b"")
    with pytest.raises(BundleError, match=r"inner/x\.pkl"):
        Bundle.load(path)
    (path / "inner" / "x.pkl").delete()
    (path / ".DS_Store").replace(b"rubbish")  # a desktop's rubbish is no reason to refuse, and never read
    Bundle.load(path)
    (path / "model.skops").delete()
    with pytest.raises(BundleError, match=r"model\.skops is missing"):
        Bundle.load(path)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no finished bundle"):
        Bundle.load(tmp_path / "nowhere")
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match="no finished bundle"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize(
    "raw",
    [b"[]", b"{}\n", b'{"a": "b"}', b'{"../x":"' + b"0" * 64 + b'"}', b'{"bundle.json":1}', b"\xff\xfe", b"[" * 100_000],
)
def test_strange_digests_are_refused(make_bundle, raw: bytes) -> None:
    path = make_bundle("logistic")
    (path / "digests.json").replace(raw)
    with pytest.raises(BundleError):
        Bundle.load(path)


@pytest.mark.parametrize("predictor, name", [("mlp", "weights.safetensors"), ("logistic", "model.skops")])
@pytest.mark.parametrize("shape", ["pickle", "torch"])
def test_a_pickle_in_place_of_the_model_is_refused_and_does_not_run(
    make_bundle, tmp_path: Path, predictor: str, name: str, shape: str
) -> None:
    import torch

    marker, stream = tmp_path / "marker", io.BytesIO()
    if shape == "pickle":
        pickle.dump(Evil(marker), stream)
    else:
        torch.save({"weights": Evil(marker)}, stream)
    path = make_bundle(predictor)
    (path / name).replace(stream.getvalue())
    sign_again(path)
    with pytest.raises(BundleError, match="pickle"):
        Bundle.load(path)
    assert not marker.exists()
    stream.seek(0)
    pickle.load(stream) if shape == "pickle" else torch.load(stream, weights_only=False)
    assert marker.exists()  # the twin: opened without care, it does run


@pytest.mark.parametrize("garbage", [b"", b"\0" * 100, b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0{}"])
def test_weights_that_are_no_weights(make_bundle, garbage: bytes) -> None:
    path = make_bundle("mlp")
    (path / "weights.safetensors").replace(garbage)
    sign_again(path)
    with pytest.raises(BundleError):
        Bundle.load(path)


def test_weights_of_another_network_do_not_fit(make_bundle) -> None:
    path, other = make_bundle("mlp", "binary"), make_bundle("mlp", "multiclass")
    (path / "weights.safetensors").replace((other / "weights.safetensors").read_bytes())
    sign_again(path)
    with pytest.raises(BundleError, match="do not fit the network"):
        Bundle.load(path)


def test_a_users_own_code_is_only_used_when_allowed(make_bundle) -> None:
    path = make_bundle("mlp")
    page = json.loads((path / "bundle.json").read_text())
    page["predictor"]["encoders"]["table"]["kind"] = "no_such_package.nets:build"
    edit(path, predictor=page["predictor"])
    with pytest.raises(BundleError, match="allow_code=True"):
        Bundle.load(path)
    with pytest.raises(BundleError, match="cannot import 'no_such_package"):
        Bundle.load(path, allow_code=True)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format": 2}, "format 2, known is 1"),
        ({"surprise": 1}, "surprise"),
        ({"kind": "network"}, r"has no weights\.safetensors"),
        ({"inputs": {}}, "state of the inputs"),
        ({"inputs": {"inputs": [{"kind": "table"}]}}, "not readable"),
        ({"threshold": {}}, "threshold does not fit"),
        ({"calibration": {"kind": "pickle"}}, "calibration 'pickle' is not known"),
        ({"calibration": {"kind": "logistic", "slope": [1, 2], "intercept": [0]}}, "calibration does not fit"),
    ],
)
def test_a_page_that_says_something_else_is_refused(make_bundle, changes: dict, message: str) -> None:
    path = make_bundle("logistic")
    edit(path, **changes)
    with pytest.raises(BundleError, match=message):
        Bundle.load(path)


def test_a_page_that_is_no_page(make_bundle) -> None:
    path = make_bundle("logistic")
    for data in (b"", b"[]", b"null", b"[" * 100_000):
        (path / "bundle.json").replace(data)
        sign_again(path)
        with pytest.raises(BundleError):
            Bundle.load(path)


def repacked(data: bytes, change: Any) -> bytes:
    """The skops archive with its outline changed."""
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
        {"__class__": "check_array", "__module__": "sklearn.utils.validation", "__loader__": "TypeNode"},
        {"__class__": "dict", "__module__": "builtins", "__loader__": "FunctionNode"},
        {"__class__": "dict", "__module__": "builtins", "__loader__": "MethodNode"},
        {"__class__": "LinearRegression", "__module__": "sklearn.linear_model._base", "__loader__": "ObjectNode"},
        {"__class__": ["x"], "__module__": None},
    ],
)
def test_a_type_off_the_list_is_refused_before_it_is_imported(make_bundle, node: dict) -> None:
    path = make_bundle("logistic")
    data = repacked((path / "model.skops").read_bytes(), lambda outline: outline["content"]["content"].update(steps=node))
    (path / "model.skops").replace(data)
    sign_again(path)
    with pytest.raises(BundleError, match="list of trusted|as a function|loader"):
        Bundle.load(path)


def test_a_tree_that_points_outside_itself_is_refused(make_bundle) -> None:
    from meddx.predict.estimators import load_estimator

    for predictor in ("forest", "boosting"):
        data = (make_bundle(predictor) / "model.skops").read_bytes()
        load_estimator(data)
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                if name.endswith(".npy"):
                    array = np.load(io.BytesIO(content))
                    for field in ("left_child", "left"):
                        if field in (array.dtype.names or ()) and len(array) > 1:
                            array[field][0] = 1_000_000
                    stream = io.BytesIO()
                    np.save(stream, array)
                    content = stream.getvalue()
                new.writestr(name, content)
        with pytest.raises(BundleError, match="outside itself"):
            load_estimator(out.getvalue())
