"""Readings in the usual units in; the cases whose readings are not as those of train out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from meddx.inputs.normal import Normal, Places, Range, need_known, ranges_of
from meddx.inputs.options import EventsInput
from meddx.inputs.readings import Readings


def of_variables(where: str, options: EventsInput, usual: Mapping[str, str], learned: Mapping[str, Range | None]) -> Normal:
    """`usual`: variable to the unit that train has; `learned`: to its range.  RecipeError for a limit or a unit of a variable that is
    none of the input."""
    need_known(options.limits, learned, f"{where}.limits", "variable of this input")
    need_known(options.units, learned, f"{where}.units", "variable of this input")
    units = {f"{options.source}.{variable}": unit for variable, unit in {**options.units, **usual}.items() if unit}
    return Normal(ranges_of(learned, options.limits, f"range:{options.source}."), units)


def outside(normal: Normal, codes: Sequence[str], drawn: Readings, value: np.ndarray) -> dict[str, Places]:
    """Code (one a variable) to cases.  `drawn`: the readings, drawn in at the ends of train; `value`: as they were.

    Limits that the recipe gives are of every value, learned ones of more than half of what a case has of a variable: a wrong unit is in
    all of them, while a typing error among fifty readings is drawn in anyway, and many a stay in intensive care has one.
    """
    low, high = normal.ends(codes)
    given = np.array([code in normal.ranges and normal.ranges[code].given for code in codes], bool)
    far = np.arange(len(value)) if given.any() else np.flatnonzero(drawn.value != value)  # learned limits lie further out than the ends
    variable = drawn.variable[far]
    odd = far[(value[far] < low[variable]) | (value[far] > high[variable])]
    if not len(odd):
        return {}
    width = len(codes)
    found, count = np.unique(drawn.case[odd] * width + drawn.variable[odd], return_counts=True)
    concerned = np.zeros(drawn.cases, bool)
    concerned[found // width] = True
    near = np.flatnonzero(concerned[drawn.case])
    every = np.bincount(drawn.case[near] * width + drawn.variable[near], minlength=int(found[-1]) + 1)[found]
    found = found[given[found % width] | (2 * count > every)]
    return {codes[one]: found[found % width == one] // width for one in np.unique(found % width).tolist()}
