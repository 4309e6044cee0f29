"""What a caller of predict asks for beside the usual in, checked against the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from meddx.errors import RecipeError
from meddx.predict.outcome import OUTPUTS
from meddx.yamlconf import nearest


def check_wishes(kind: str, inputs: Mapping[str, bool], without: Sequence[str], outputs: Sequence[str]) -> None:
    """RecipeError for an input that cannot be hidden, or an output that the bundle does not have.

    `kind` "network" or "estimator"; `inputs`: name to whether it is optional.
    """
    for name in without:
        if name not in inputs:
            guess = nearest(name, inputs)
            hint = f"did you mean {guess!r}? " if guess else ""
            raise RecipeError(f"the bundle has no input {name!r} to do without", "without", f"{hint}its inputs: {', '.join(inputs)}")
        if not inputs[name]:
            optional = ", ".join(one for one, may in inputs.items() if may) or "none"
            raise RecipeError(
                f"the bundle cannot do without the input {name!r}: it is not optional",
                "without",
                f"optional inputs: {optional}; mark it `optional: true` and train again",
            )
    if inputs and set(inputs) <= set(without):
        raise RecipeError("nothing is left to look at: every input is hidden", "without", "leave one in")
    for name in outputs:
        if name not in OUTPUTS:
            raise RecipeError(f"there is no output {name!r}", "outputs", f"allowed: {', '.join(OUTPUTS)}")
        if kind != "network":
            raise RecipeError(f"only a network has the output {name!r}", "outputs", "leave it out, or use the network's bundle")


def hide(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The table as it is where nobody brought these columns."""
    return table.select([name for name in table.column_names if name not in columns])
