"""A network with a baseline beside it: the mean of their logits, in one bundle; from page to comparison in test_beside_page."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from predict_helper import HEADS, sign_again

from meddx.dataset.options import CohortOptions
from meddx.errors import BundleError
from meddx.predict.bundle import Bundle, write_bundle
from meddx.storage import StoragePath

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=sorted(HEADS))
def three(request, make_bundle, tmp_path_factory) -> tuple[Bundle, Bundle, StoragePath]:  # noqa: ANN001
    """(a network, a forest, the path of a bundle with both) for each kind of answer."""
    kind = request.param
    network, forest = Bundle.load(make_bundle("mlp", kind)), Bundle.load(make_bundle("forest", kind))
    return network, forest, _with_beside(network, forest.predictor, tmp_path_factory.mktemp("both") / kind)


def _with_beside(network: Bundle, estimator: object, place) -> StoragePath:  # noqa: ANN001
    from predict_helper import network_parts

    parts = replace(network_parts(network.preparations, network.head, "mlp"), beside=estimator)
    parts.model_options["beside"] = {"kind": "forest"}
    page = network.page
    write_bundle(
        StoragePath.of(place), name="both", head=page.head.page, preparations=network.preparations, predictor=parts,
        calibration=page.calibration, threshold=page.threshold, cohort=CohortOptions(), target=page.target, about={},
    )  # fmt: skip
    return StoragePath.of(place)


def test_its_logits_are_the_mean_of_both(three, patients) -> None:  # noqa: ANN001
    network, forest, path = three
    both = Bundle.load(path)
    prepared = both.preparations.transform(patients)
    first, second, mean = network.logits(prepared), forest.logits(prepared), both.logits(prepared)
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(mean, (first + second) / 2)
    assert "scikit-learn" in both.page.versions and "torch" in both.page.versions


def test_a_row_alone_scores_as_among_all_and_an_embedding_is_the_networks(three, patients) -> None:  # noqa: ANN001
    network, _, path = three
    both = Bundle.load(path)
    everything = both.predict(patients, outputs=["embedding"])
    assert both.predict(patients.slice(17, 1), outputs=["embedding"]).equals(everything.slice(17, 1))
    assert everything["embedding"].equals(network.predict(patients, outputs=["embedding"])["embedding"])


def test_a_bundle_that_lost_its_baseline_is_refused(three, tmp_path) -> None:  # noqa: ANN001
    path = three[2]
    copy = StoragePath.of(tmp_path / "copy")
    for info in path.list():
        (copy / info.path.name).replace(info.path.read_bytes())
    assert Bundle.load(copy).digest == Bundle.load(path).digest
    (tmp_path / "copy/model.skops").unlink()
    with pytest.raises(BundleError, match="model.skops"):
        Bundle.load(copy)
    sign_again(copy)
    with pytest.raises(BundleError, match="has no model.skops"):
        Bundle.load(copy)


def test_one_whose_page_does_not_name_the_baseline_is_the_network_alone(three, patients, tmp_path) -> None:  # noqa: ANN001
    network, _, path = three
    copy = StoragePath.of(tmp_path / "copy")
    for info in path.list():
        (copy / info.path.name).replace(info.path.read_bytes())
    page = json.loads((copy / "bundle.json").read_text())
    page["predictor"]["options"]["beside"] = None
    (copy / "bundle.json").replace(json.dumps(page).encode())
    sign_again(copy)
    prepared = network.preparations.transform(patients)
    np.testing.assert_array_equal(Bundle.load(copy).logits(prepared), network.logits(prepared))
