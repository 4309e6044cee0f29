"""meddx.predict.engine: every forward has the planned shape, so a row's logits do not hang on its neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from meddx.errors import BundleError
from meddx.inputs.types import Prepared
from meddx.predict.engine import EnginePlan, batches, network_logits, plan_for, rows_at_once, select


def prepared(n: int) -> dict[str, Prepared]:
    rng = np.random.default_rng(0)
    return {"film": Prepared({"pixels": rng.integers(0, 256, (n, 1, 16, 16), dtype=np.uint8)}, np.ones(n, bool), {})}


def shape_minded():  # noqa: ANN201
    """A network whose answer hangs on the shape of the batch, as real ones do in the last bits."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.shapes: list[tuple[int, ...]] = []
            self.last: list[bool] = []

        def forward(self, batch):  # noqa: ANN001, ANN202
            pixels = batch["film"]["pixels"]
            assert not self.training
            assert batch["film"]["present"].dtype == torch.bool
            self.shapes.append(tuple(pixels.shape))
            self.last.append(pixels.is_contiguous(memory_format=torch.channels_last))
            return self.weight * pixels.float().mean((1, 2, 3))[:, None] + len(pixels)

    return Net().train()


def test_every_forward_has_the_planned_shape() -> None:
    model, data = shape_minded(), prepared(21)
    found = network_logits(model, data, 8)
    assert found.shape == (21, 1)
    assert found.dtype == np.float64
    assert model.shapes == [(8, 1, 16, 16)] * 3
    assert all(model.last)
    assert model.training  # as it was before
    alone = [network_logits(model, {"film": select(data["film"], np.array([row]))}, 8) for row in range(21)]
    np.testing.assert_array_equal(np.concatenate(alone), found)


def test_twin_without_a_planned_shape_answers_move() -> None:
    import torch

    model, data = shape_minded().eval(), prepared(3)
    everything = torch.from_numpy(data["film"].arrays["pixels"])
    present = torch.ones(3, dtype=torch.bool)
    together = model({"film": {"pixels": everything, "present": present}})
    alone = model({"film": {"pixels": everything[:1], "present": present[:1]}})
    assert not torch.equal(together[:1], alone)


def test_padding_repeats_the_first_row() -> None:
    parts = list(batches(prepared(5), 4))
    assert [rows for _, rows in parts] == [4, 1]
    pixels = parts[1][0]["film"].arrays["pixels"]
    assert len(pixels) == 4
    np.testing.assert_array_equal(pixels[1:], np.repeat(prepared(5)["film"].arrays["pixels"][:1], 3, axis=0))
    assert list(batches(prepared(0), 4)) == []
    assert network_logits(shape_minded(), prepared(0), 4).shape[0] == 0


@pytest.mark.parametrize(
    "spec, rows",
    [
        ({"kind": "table"}, 256),
        ({"kind": "image", "channels": 1, "size": 28}, 256),
        ({"kind": "image", "channels": 1, "size": 64}, 64),
        ({"kind": "image", "channels": 3, "size": 128}, 8),
        ({"kind": "image", "channels": 3, "size": 512}, 8),
        ({"kind": "image", "channels": 1, "size": 64, "many": "mean", "items": 4}, 16),
        ({"kind": "image", "channels": 1, "size": 64, "many": None, "items": 1}, 64),
        ({"kind": "signal", "leads": 1, "steps": 500}, 256),
        ({"kind": "signal", "leads": 12, "steps": 1000}, 16),
        ({"kind": "events", "steps": 48, "variables": 20}, 256),
        ({"kind": "events", "steps": 48, "variables": 100}, 32),
        ({"kind": "text", "tokens": 32}, 128),
        ({"kind": "text", "tokens": 512}, 8),
    ],
)
def test_the_usual_plan(spec: dict, rows: int) -> None:
    assert plan_for({"x": spec}) == EnginePlan(batch_rows=rows)


def test_threads_are_put_back() -> None:
    import torch

    before = torch.get_num_threads()
    seen: list[int] = []
    model = shape_minded()
    model.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    network_logits(model, prepared(2), EnginePlan(batch_rows=2, threads=before + 1, channels_last=False))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_select_takes_what_lies_aside_too() -> None:
    whole = Prepared({"x": np.arange(4)}, np.ones(4, bool), {1: "bad"}, aside={"summary": np.arange(8).reshape(4, 2)})
    some = select(whole, np.array([3, 1]))
    assert some.aside["summary"].tolist() == [[6, 7], [2, 3]] and some.arrays["x"].tolist() == [3, 1] and some.errors == {}
    assert next(iter(batches({"a": whole}, 3)))[0]["a"].aside["summary"].shape == (3, 2)


def test_a_plan_is_read_as_it_was_written_and_an_older_one_has_no_engine() -> None:
    for plan in (EnginePlan(), EnginePlan(8, "bfloat16", False, 2, "openvino"), EnginePlan(threads=1)):
        assert EnginePlan.of_page(plan.page()) == plan
    assert EnginePlan().page() == {"batch_rows": 256, "dtype": "float32", "channels_last": True, "threads": None}
    assert EnginePlan.of_page({"batch_rows": 8, "trial": {"rows": 256}}) == EnginePlan(8)


@pytest.mark.parametrize(
    "page", [{"engine": "tensor"}, {"dtype": "int8"}, {"batch_rows": 0}, {"batch_rows": "8"}, {"threads": -1}, {"streams": 2}]
)
def test_a_plan_that_is_not_known_whole_is_refused(page: dict) -> None:
    with pytest.raises(BundleError, match="plan of these predictions is not known"):
        EnginePlan.of_page(page)


def test_a_baseline_takes_larger_batches_and_slow_inputs_are_prepared_in_parts() -> None:
    table, film = {"t": {"kind": "table"}}, {"x": {"kind": "image", "channels": 1, "size": 64}}
    assert plan_for(table, "boosting").batch_rows == 16_384 and plan_for(film, "boosting").batch_rows == 64
    assert rows_at_once(plan_for(table, "boosting"), table, 1) == 16_384 and rows_at_once(plan_for(film), film, 1) == 128


def test_bfloat16_of_torch_is_another_answer_of_the_same_shape() -> None:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = torch.nn.Linear(256, 1)

        def forward(self, batch):  # noqa: ANN001, ANN202
            return self.dense(batch["film"]["pixels"].float().flatten(1) / 255)

    model, data = Net(), prepared(5)
    wide, narrow = (network_logits(model, data, EnginePlan(4, dtype)) for dtype in ("float32", "bfloat16"))
    assert wide.shape == narrow.shape and 0 < np.abs(wide - narrow).max() < 0.05
