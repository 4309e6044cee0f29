"""A fitted scikit-learn estimator in, skops bytes out, and back; only types on a short list are ever rebuilt.

skops stores arrays and plain values, no pickle.  Its own list of trusted types is wide (all of scikit-learn), so the
file's outline is checked here against the names that meddx writes before skops sees it.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from meddx.errors import BundleError
from meddx.models.dictionary import check_dictionary

MODEL = "model.skops"
AGAIN = "make the bundle again with meddx train"
MAX_UNPACKED = 4 << 30
MAX_ENTRIES = 200_000

# Loaders of plain values, arrays and scikit-learn's own objects.  Not among them: methods, operators, defaultdicts.
LOADERS = frozenset(
    {
        "DictNode", "ListNode", "TupleNode", "JsonNode", "TypeNode", "SliceNode", "CachedNode",
        "NdArrayNode", "DTypeNode", "RandomStateNode", "RandomGeneratorNode",
        "ObjectNode", "TreeNode", "LossNode", "PartialNode", "FunctionNode",
    }
)  # fmt: skip
PLAIN = frozenset(
    {"builtins." + name for name in ("dict", "list", "tuple", "str", "int", "float", "bool", "slice")}
    | {"numpy." + name for name in (
        "ndarray", "dtype", "bool", "bool_", "float32", "float64",
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")}
    | {"numpy.random.mtrand.RandomState", "numpy.random._generator.Generator"}
)  # fmt: skip
SKLEARN = frozenset(
    "sklearn." + name
    for name in (
        "dummy.DummyClassifier",
        "dummy.DummyRegressor",
        "pipeline.Pipeline",
        "preprocessing._data.StandardScaler",
        "preprocessing._label.LabelEncoder",
        "preprocessing._encoders.OneHotEncoder",
        "preprocessing._encoders.OrdinalEncoder",
        "preprocessing._target_encoder.TargetEncoder",
        "preprocessing._function_transformer.FunctionTransformer",
        "impute._base.SimpleImputer",
        "impute._base.MissingIndicator",
        "compose._column_transformer.ColumnTransformer",
        "decomposition._pca.PCA",
        "linear_model._logistic.LogisticRegression",
        "linear_model._ridge.Ridge",
        "multioutput.MultiOutputClassifier",
        "multiclass.OneVsRestClassifier",
        "ensemble._forest.RandomForestClassifier",
        "ensemble._forest.RandomForestRegressor",
        "tree._classes.DecisionTreeClassifier",
        "tree._classes.DecisionTreeRegressor",
        "tree._tree.Tree",
        "ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
        "ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor",
        "ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "ensemble._hist_gradient_boosting.binning._BinMapper",
        "_loss.loss.HalfBinomialLoss",
        "_loss.loss.HalfMultinomialLoss",
        "_loss.loss.HalfSquaredError",
        "_loss._loss.CyHalfBinomialLoss",
        "_loss._loss.CyHalfMultinomialLoss",
        "_loss._loss.CyHalfSquaredError",
        "_loss.link.IdentityLink",
        "_loss.link.Interval",
        "_loss.link.LogitLink",
        "_loss.link.MultinomialLogit",
    )
)
FUNCTION = "sklearn.utils.validation.check_array"  # the only function: histogram boosting keeps a partial of it
TRUSTED = PLAIN | SKLEARN | {FUNCTION, "functools.partial"}


@dataclass(frozen=True)
class EstimatorParts:
    """A fitted baseline: its kind in the recipe, and the estimator."""

    kind: str
    estimator: Any


def dump_estimator(estimator: Any) -> bytes:
    """The estimator as skops bytes; equal estimators give equal bytes.  Raises BundleError for a type off the list."""
    data = _steady(_skops().dumps(estimator))
    _check(data)
    return data


def load_estimator(data: bytes) -> Any:
    """The estimator from checked bytes.  Raises BundleError for a pickle, a damaged file or a type off the list."""
    skops = _skops()
    from skops.io.exceptions import UntrustedTypesFoundException

    _check(data)
    try:
        estimator = skops.loads(data, trusted=sorted(TRUSTED))
    except UntrustedTypesFoundException as error:
        raise BundleError("the model holds a type that is not on the list of trusted ones", MODEL, AGAIN) from error
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise BundleError(
            f"the model cannot be rebuilt: {type(error).__name__}: {str(error)[:200]}",
            MODEL,
            "use the scikit-learn version that bundle.json names, or make the bundle again",
        ) from error
    for tree, features in _trees(estimator):
        _check_tree(tree, features)
    inner = estimator.get("model") if isinstance(estimator, dict) and "inputs" in estimator else estimator
    if isinstance(inner, dict) and "dictionary" in inner:
        check_dictionary(inner)
    return estimator


def warm_up() -> None:
    """Import what an estimator may be made of: before a fork, so that it is done once."""
    _skops()
    for name in sorted({name.rpartition(".")[0] for name in SKLEARN}):
        import_module(name)


def _skops() -> Any:
    """skops.io without its own list of trusted types, for which it imports all of scikit-learn, and with that torch.

    That takes 3 s and 190 MB more of a process that only wants a baseline.  TRUSTED is given in its place, and is shorter.
    """
    import sklearn.utils

    listing = sklearn.utils.all_estimators
    sklearn.utils.all_estimators = list
    try:
        import skops.io
    finally:
        sklearn.utils.all_estimators = listing
    return skops.io


def _check(data: bytes) -> None:
    """Refuse whatever names a type or a loader that meddx does not write, before anything is imported or built."""
    for node in _nodes(_outline(data)):
        if "__class__" in node or "__module__" in node:
            name = f"{node.get('__module__')}.{node.get('__class__')}"
            if name not in TRUSTED:
                raise BundleError(f"the model holds the type {name[:120]}, which is not on the list of trusted ones", MODEL, AGAIN)
            if (name == FUNCTION) != (node.get("__loader__") == "FunctionNode"):
                raise BundleError(f"the model holds {name[:120]} as a function, which is refused", MODEL, AGAIN)
        if node.get("__loader__", "DictNode") not in LOADERS:
            raise BundleError(f"the model needs the loader {str(node['__loader__'])[:60]}, which is refused", MODEL, AGAIN)


def _outline(data: bytes) -> Any:
    if data[:1] == b"\x80":
        raise BundleError("the model is a pickle, which runs code when it is opened: refused", MODEL, AGAIN)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ENTRIES or sum(one.file_size for one in entries) > MAX_UNPACKED:
                raise BundleError("the model unpacks to more than is allowed", MODEL)
            if any(one.filename.endswith(".pkl") for one in entries):
                raise BundleError("the model is a torch file with a pickle inside, which runs code: refused", MODEL, AGAIN)
            return json.loads(archive.read("schema.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise BundleError("the model is not in the skops format", MODEL, AGAIN) from error


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _steady(data: bytes) -> bytes:
    """The same archive without what differs from run to run: addresses in memory as names, and the time of day."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    outline = json.loads(content.pop("schema.json"))
    numbers: dict[str, int] = {}
    for node in _nodes(outline):
        if "__id__" in node:
            node["__id__"] = numbers.setdefault(str(node["__id__"]), len(numbers) + 1)
        if isinstance(node.get("file"), str):
            stem, _, suffix = node["file"].partition(".")
            node["file"] = f"{numbers.setdefault(stem, len(numbers) + 1)}.{suffix}"
    named = {f"{numbers[name.partition('.')[0]]}.{name.partition('.')[2]}": value for name, value in content.items()}
    named["schema.json"] = json.dumps(outline, sort_keys=True).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(named):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), named[name], zipfile.ZIP_DEFLATED, 6)
    return packed.getvalue()


def _trees(estimator: Any) -> Iterator[tuple[Any, int]]:
    """Every tree inside with the number of features it may ask for, found by walking the estimators' own attributes."""
    waiting: list[tuple[Any, int]] = [(estimator, np.iinfo(np.int32).max)]
    seen = set()
    while waiting:
        one, limit = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if type(one).__name__ in ("Tree", "TreePredictor"):
            yield one, limit
        elif isinstance(one, list | tuple):
            waiting.extend((inner, limit) for inner in one)
        elif isinstance(one, dict):
            waiting.extend((inner, limit) for inner in one.values())
        elif isinstance(one, np.ndarray) and one.dtype == object:
            waiting.extend((inner, limit) for inner in one.ravel().tolist())
        elif type(one).__module__.startswith("sklearn."):
            own = getattr(one, "__dict__", {})
            limit = min(limit, int(own.get("n_features_in_", limit)))
            waiting.extend((inner, limit) for inner in own.values())


def _check_tree(tree: Any, features: int) -> None:
    """Children stand behind their parent and inside the tree: scikit-learn follows them in C without looking."""
    if type(tree).__name__ == "Tree":
        left, right, feature = tree.children_left, tree.children_right, tree.feature
        inner, good = left != -1, len(left) > 0
    else:
        nodes = tree.nodes
        left, right, feature = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64), nodes["feature_idx"]
        inner = nodes["is_leaf"] == 0
        by_set = inner & (nodes["is_categorical"] != 0)
        good = len(left) > 0 and bool((nodes["bitset_idx"][by_set] < len(tree.raw_left_cat_bitsets)).all())
    place = np.arange(len(left))[inner]
    good = good and all((place < child[inner]).all() and (child[inner] < len(left)).all() for child in (left, right))
    good = good and bool(((feature[inner] >= 0) & (feature[inner] < features)).all())
    if not good:
        raise BundleError("the model is damaged: a tree points outside itself", MODEL, AGAIN)
