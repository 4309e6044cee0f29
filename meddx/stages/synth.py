"""A number of patients in, synthetic archives with a known answer out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meddx.errors import RecipeError
from meddx.stages.run import Log
from meddx.storage import StoragePath
from meddx.yamlconf import nearest

KINDS = ("xray", "table", "multimodal")


def synth(kind: str, patients: int, out: str, *, seed: int, log: Log) -> None:
    """Make the archive and say what is in it; one that is there already is left alone, an interrupted one finished."""
    if kind not in KINDS:
        raise RecipeError(
            f"{kind!r} cannot be made", "command line", f"did you mean {nearest(kind, KINDS) or KINDS[0]!r}? known: {', '.join(KINDS)}"
        )
    folder = StoragePath.of(out)
    made = _maker(kind)(patients, folder, seed=seed)
    counts = ", ".join(f"{name} {number:,}" for name, number in made["counts"].items())
    log(f"{counts}; outcome {made['prevalence']:.1%}; best AUROC that any model can reach {made['bayes_auroc']:.3f}; {folder}")


def _maker(kind: str) -> Callable[..., dict[str, Any]]:
    from meddx.synth import multimodal, table, xray

    makers: dict[str, Callable[..., dict[str, Any]]] = {"xray": xray.make, "table": table.make, "multimodal": multimodal.make}
    return makers[kind]
