"""A page with `${MEDDX_X}` in it in, the page filled in from the environment out."""

from __future__ import annotations

import os
import re
from typing import Any

from meddx.errors import RecipeError

ENVIRONMENT = re.compile(r"\$\{([^}:]*)(?::-([^}]*))?\}")


def fill(value: Any, name: str) -> Any:
    """`${MEDDX_X}` and `${MEDDX_X:-default}` from the environment, in paths; other variables are refused, they may be secrets."""
    if isinstance(value, dict):
        return {key: fill(one, name) for key, one in value.items()}
    if isinstance(value, list):
        return [fill(one, name) for one in value]
    return ENVIRONMENT.sub(lambda found: _variable(found, name), value) if isinstance(value, str) else value


def _variable(found: re.Match[str], name: str) -> str:
    variable, default = found.group(1), found.group(2)
    if not variable.startswith("MEDDX_"):
        raise RecipeError(f"only variables that begin with MEDDX_ are filled in, not {variable!r}", name)
    value = os.environ.get(variable, default)
    if value is None:
        raise RecipeError(f"the variable {variable} is not set", name, f"set it, or write ${{{variable}:-default}}")
    return value
