"""Bundle.begin and Bundle.finish: rows in parts, each prepared while the one before is answered, and the same bits as in one piece."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from meddx.errors import DataError
from meddx.predict.ahead import ahead
from meddx.predict.bundle import Bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def many(patients: pa.Table) -> pa.Table:
    """20,000 rows: more than any planned batch, and no multiple of one."""
    rng = np.random.default_rng(0)
    return patients.select(["case_id", "size", "texture", "site"]).take(rng.integers(0, 300, 20_000))


@pytest.mark.parametrize("predictor", ["logistic", "boosting", "forest", "prevalence", "mlp"])
def test_a_row_alone_is_the_row_among_more_than_a_batch(make_bundle: Any, many: pa.Table, predictor: str) -> None:
    bundle = Bundle.load(make_bundle(predictor))
    everything = bundle.predict(many)
    assert everything["case_id"].equals(many["case_id"].cast(pa.string()))
    step = bundle.plan.batch_rows
    for place in (0, 255, step - 1, step, 19_999):
        if place < many.num_rows:
            assert bundle.predict(many.slice(place, 1)).equals(everything.slice(place, 1))
    assert bundle.predict(many.slice(5_000, 9_000)).equals(everything.slice(5_000, 9_000))


def test_begun_ahead_in_a_thread_is_predicted_at_once(make_bundle: Any, patients: pa.Table) -> None:
    bundle = Bundle.load(make_bundle("cnn"))
    pieces = [patients.slice(start, 70) for start in range(0, 300, 70)]
    found = [bundle.finish(begun()) for begun in ahead(bundle.begin, pieces)]
    assert pa.concat_tables(found).equals(bundle.predict(patients))
    assert bundle.finish(bundle.begin(patients.slice(0, 0))).equals(bundle.schema().empty_table())


def test_rows_that_the_bundle_refuses_are_refused_in_their_place(make_bundle: Any, patients: pa.Table) -> None:
    bundle = Bundle.load(make_bundle("logistic"))
    pieces = [patients.slice(0, 5), patients.slice(5, 5).drop(["size"]), patients.slice(10, 5)]
    begun = list(ahead(bundle.begin, pieces))
    with pytest.raises(DataError, match="lack 1 column"):
        begun[1]()
    whole = bundle.predict(patients.slice(0, 15))
    assert bundle.finish(begun[0]()).equals(whole.slice(0, 5)) and bundle.finish(begun[2]()).equals(whole.slice(10, 5))
