from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from nets_helper import events_spec

from meddx.errors import RecipeError
from meddx.models.build import build_encoder
from meddx.models.options import FITTING, EncoderOptions
from meddx.models.summary import Statistics, summary, with_tails

SPEC = events_spec()
NAMES = ("mean", "least", "largest", "any", "first", "last", "deviation", "slope", "count", "waited")


def grids(rows: int = 5, seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    values, seen = torch.randn(rows, 12, 3, generator=draw), torch.rand(rows, 12, 3, generator=draw) < 0.4
    seen[0], seen[1, :, 2] = False, False  # a case without anything, and one without a variable
    return {"values": values, "seen": seen.float(), "since": torch.rand(rows, 12, 3, generator=draw)}


def by_hand(values: np.ndarray, seen: np.ndarray) -> dict[str, float]:
    there = np.flatnonzero(seen)
    if not len(there):
        return dict.fromkeys(NAMES[:-1], 0.0)
    found, when = values[there], there / len(values)
    slope = np.polyfit(when, found, 1)[0] if len(there) > 1 else 0.0
    numbers = (found.mean(), found.min(), found.max(), 1.0, found[0], found[-1], found.std(), slope, np.log1p(len(there)))
    return dict(zip(NAMES, numbers, strict=False))


def test_statistics_are_those_of_the_steps_that_have_a_value() -> None:
    arrays = {name: one.double() for name, one in grids().items()}
    made = 4 * torch.atanh(Statistics(SPEC, 1)(**arrays) / 4)
    for case in range(5):
        for variable in range(3):
            asked = by_hand(arrays["values"][case, :, variable].numpy(), arrays["seen"][case, :, variable].numpy())
            asked["waited"] = float(arrays["since"][case, -1, variable]) - 1
            for place, name in enumerate(NAMES):
                near = 0.05 if name == "slope" else 1e-9  # the hyperbolic tangent of a steep slope leaves few digits
                assert float(made[case, 3 * place + variable]) == pytest.approx(asked[name], rel=near, abs=1e-9), name


def test_parts_look_at_their_own_steps_only() -> None:
    halves, arrays = Statistics(SPEC, 2), grids()
    plain = halves(**arrays)
    assert plain.shape == (5, halves.out_features) == (5, 3 * (10 + 2 * 4))
    arrays["values"][:, :6] += arrays["seen"][:, :6]
    changed = (halves(**arrays) != plain).any(0)
    assert changed[30:39].all() and not changed[39:].any() and not halves(**arrays)[0, 30:].any()


def test_tails_are_what_lies_beyond_one_deviation_on_either_side() -> None:
    assert with_tails(torch.tensor([[0.5, -0.75, 3.0, -2.5]])).tolist() == [[0.5, -0.75, 3.0, -2.5, 0.0, 0.0, 2.0, 1.5]]


def test_what_was_not_seen_and_the_other_cases_change_nothing() -> None:
    torch.manual_seed(3)
    network, arrays = summary(SPEC, hidden=8).double().eval(), {name: one.double() for name, one in grids().items()}
    plain = network(**arrays)
    carried = {**arrays, "values": torch.where(arrays["seen"] > 0, arrays["values"], 99.0)}
    torch.testing.assert_close(network(**carried), plain, atol=0, rtol=0)
    alone = torch.cat([network(**{name: one[row : row + 1] for name, one in arrays.items()}) for row in range(5)])
    torch.testing.assert_close(alone, plain, atol=1e-12, rtol=0)
    assert network.train()(**arrays).isfinite().all() and not torch.equal(network(**arrays), plain)


def test_a_recipe_can_ask_for_it_and_its_weights_learn() -> None:
    network: Any = build_encoder("course", EncoderOptions(kind="summary", settings={"hidden": 16, "layers": 2, "dropout": 0.0}), SPEC)
    assert network.out_features == 8 and "summary" in FITTING["events"] and "summary" not in FITTING["signal"]
    (network(**grids()) ** 3).sum().backward()
    assert all(weight.grad.isfinite().all() and weight.grad.any() for weight in network.parameters())


@pytest.mark.parametrize("settings", [{"hidden": 0}, {"layers": 0}, {"dropout": 1.0}, {"hide": -0.1}, {"parts": 0}, {"parts": 13}])
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="parts from 1 to the steps"):
        summary(SPEC, **settings)
