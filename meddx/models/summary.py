"""Events on a grid in, a few statistics of each variable out, and dense layers over them: a network that knows no order but first and last.

Where cases are few and variables many a sequence network hardly beats it.  PhysioNet 2012 (Silva et al., Computing in Cardiology 2012),
5 folds inside set a, AUROC: this .859 (two seeds), a GRU .838, the two side by side (without the tails below) .850.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from meddx.errors import RecipeError
from meddx.models.sequence import Spec

_WHOLE, _PART = 10, 4  # statistics of a variable over the window, and over each part of it
_SOFT = 4.0  # deviations: beyond them a statistic counts less and less
_TAIL = 1.0  # deviations: what lies beyond counts a second time


class Statistics(nn.Module):
    """Of each variable: first, last, least, largest, mean, deviation and slope of the steps that have a value, the share of these, the
    time since the last one, whether there is any; and for each of `parts` equal parts of the window mean, least, largest, any.

    0 where there is nothing, for values are standardised.  Nothing is learned here, and no case looks at another.
    """

    def __init__(self, spec: Spec, parts: int) -> None:
        super().__init__()
        steps = int(spec["steps"])
        self.edges = [round(place * steps / parts) for place in range(parts + 1)] if parts > 1 else []
        self.out_features = int(spec["variables"]) * (_WHOLE + _PART * (parts if parts > 1 else 0))

    def forward(self, values: Tensor, seen: Tensor, since: Tensor) -> Tensor:
        """[n, out_features] of three arrays [n, T, V]."""
        there = seen > 0
        found = [*_whole(values, there), torch.log1p(there.sum(1).to(values.dtype)), since[:, -1] - 1.0]
        for start, stop in zip(self.edges, self.edges[1:], strict=False):
            found += _ends(values[:, start:stop], there[:, start:stop])
        return _SOFT * torch.tanh(torch.cat(found, dim=1) / _SOFT)


def _ends(values: Tensor, there: Tensor) -> list[Tensor]:
    """Mean, least, largest, any: each [n, V]."""
    count = there.sum(1).to(values.dtype)
    some = count > 0
    mean = values.masked_fill(~there, 0.0).sum(1) / count.clamp(min=1)
    least = values.masked_fill(~there, torch.inf).amin(1).masked_fill(~some, 0.0)
    largest = values.masked_fill(~there, -torch.inf).amax(1).masked_fill(~some, 0.0)
    return [mean, least, largest, some.to(values.dtype)]


def _whole(values: Tensor, there: Tensor) -> list[Tensor]:
    """`_ends`, first, last, deviation and slope (least squares, in deviations a window): each [n, V]."""
    ends = _ends(values, there)
    count, steps = there.sum(1).to(values.dtype).clamp(min=1), values.shape[1]
    place = torch.arange(steps, device=values.device)[None, :, None]
    first = torch.where(there, place, steps).amin(1, keepdim=True).clamp(max=steps - 1)
    last = torch.where(there, place, -1).amax(1, keepdim=True).clamp(min=0)
    some = there.any(1)
    picked = [values.gather(1, one)[:, 0].masked_fill(~some, 0.0) for one in (first, last)]
    when = (place / max(steps, 1)).to(values.dtype).expand_as(values)
    away = (when - (when.masked_fill(~there, 0.0).sum(1) / count)[:, None]).masked_fill(~there, 0.0)
    rise = (values - ends[0][:, None]).masked_fill(~there, 0.0)
    spread = away.square().sum(1)
    slope = (away * rise).sum(1) / spread.clamp(min=1e-3)
    return [*ends, *picked, (rise.square().sum(1) / count).sqrt(), slope]


def with_tails(x: Tensor) -> Tensor:
    """[n, 2 f]: x, and how far it is out on either side beyond `_TAIL`, for too much and too little of most things are both bad.

    Two knots of a regression spline (Friedman 1991).  On the same folds AUROC .856 and .853 without, .861 and .856 with.
    """
    return torch.cat([x, torch.relu(x.abs() - _TAIL)], dim=1)


class SummaryEncoder(nn.Module):
    """Statistics and their tails, some of them hidden in training, then dense layers."""

    def __init__(self, spec: Spec, widths: list[int], dropout: float, hide: float, parts: int) -> None:
        super().__init__()
        self.statistics = Statistics(spec, parts)
        before = 2 * self.statistics.out_features
        steps: list[nn.Module] = [nn.Dropout(hide)]
        for width in widths:
            steps += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(dropout)]
            before = width
        self.network = nn.Sequential(*steps)
        self.out_features = before

    def forward(self, values: Tensor, seen: Tensor, since: Tensor) -> Tensor:
        """[n, out_features] of three arrays [n, T, V]."""
        example = next(self.parameters())
        found = self.statistics(*(one.to(example.dtype) for one in (values, seen, since)))
        return cast(Tensor, self.network(with_tails(found)))


def summary(spec: Spec, *, hidden: int = 128, layers: int = 1, dropout: float = 0.5, hide: float = 0.4, parts: int = 2) -> nn.Module:
    """Dense layers, `hidden` wide and then half as wide each time (never below 8), over statistics of each variable; `hide`: share of the
    statistics hidden at random in training; `parts`: into so many parts the window is cut for statistics of each (1: none)."""
    if hidden < 1 or layers < 1 or not 0 <= dropout < 1 or not 0 <= hide < 1 or not 1 <= parts <= int(spec["steps"]):
        said = "hidden and layers are whole numbers above 0, dropout and hide below 1, parts from 1 to the steps"
        raise RecipeError(f"summary: {said}", "model.encoders")
    return SummaryEncoder(spec, [max(min(8, hidden), hidden >> step) for step in range(layers)], float(dropout), float(hide), parts)


SUMMARY_ENCODERS = {"summary": summary}
