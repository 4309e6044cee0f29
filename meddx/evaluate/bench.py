"""Models and the cases they share in; estimates, draws and the cells of a table out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meddx.evaluate.bootstrap import Interval, draw
from meddx.evaluate.frame import Frame
from meddx.evaluate.metrics import Numbers, one_weighting
from meddx.evaluate.multi import numbers_for
from meddx.evaluate.options import ComparisonOptions
from meddx.evaluate.types import Floats, ModelScores
from meddx.evaluate.verdict import difference, number


class Bench:
    """The models on the compared cases: estimates, draws, and the cells made of them."""

    def __init__(self, models: Mapping[str, ModelScores], found: Frame, options: ComparisonOptions) -> None:
        self.frame, self.models = found, {name: one for name, one in models.items() if one.kind != "prior"}
        self.numbers: dict[str, Numbers] = {
            name: numbers_for(found.truth, one, found.rows, options.classes) for name, one in self.models.items()
        }
        ones = one_weighting(None, int(found.rows.sum()))
        self.points = {name: {m: float(v[0]) for m, v in one(ones).items()} for name, one in self.numbers.items()}
        none = all(found.no_interval)
        self.draws: dict[str, dict[str, Floats]] = {} if none else draw(self.numbers, found.patients, options.bootstrap, options.seed)

    def pair(self, name: str, metric: str) -> tuple[float, Floats | None]:
        return self.points[name][metric], self.draws[name][metric] if self.draws else None

    def cell(self, name: str, metric: str) -> dict[str, Any]:
        why = self.frame.why_no_interval(metric)
        return number(metric, *self.pair(name, metric), why, self.numbers[name].why_undefined(metric))

    def difference(self, metric: str, model: str, other: str) -> tuple[float, Interval]:
        return difference(metric, self.pair(model, metric), self.pair(other, metric), self.frame.why_no_interval(metric))
