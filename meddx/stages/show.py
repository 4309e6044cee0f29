"""One prepared input in, the lines that show ten cases of it as a model sees them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from meddx.inputs.fold import is_joined, one_a_case
from meddx.inputs.options import InputOptions, TableInput
from meddx.inputs.types import Prepared

WIDTH = 12


def lines_of(name: str, options: InputOptions, spec: dict[str, Any], prepared: Prepared, sample: pa.Table) -> list[str]:
    """The lines of one input; `sample` are the rows that were prepared."""
    if isinstance(options, TableInput):
        raw = one_a_case(sample, str(options.source), options.many) if is_joined(sample, options.source) else sample
        lines = _table_lines(name, spec, prepared, raw)
    else:
        lines = LINES[spec["kind"]](name, spec, prepared)
    return lines + [f"  case {place + 1} cannot be read: {reason}" for place, reason in prepared.errors.items()]


def row(label: str, kind: str, values: list[str]) -> str:
    """One line of a table of cases: a label, a kind, a cell a case."""
    cells = [value if len(value) <= WIDTH else value[: WIDTH - 1] + "~" for value in values]
    return f"  {label[:28]:<28} {kind:<8}" + "".join(f" {cell:>{WIDTH}}" for cell in cells)


def _table_lines(name: str, spec: dict[str, Any], prepared: Prepared, sample: pa.Table) -> list[str]:
    numbers, categories = spec["names"], spec["category_names"]
    lines = [f"input {name}: {len(numbers)} numbers, {len(categories)} categories"]
    for position, column in enumerate(numbers):
        missing = prepared.arrays["missing"][:, position] > 0
        raw = sample.column(column).to_pylist()
        lines.append(row(column, "number", ["(missing)" if gone else f"{value:.6g}" for value, gone in zip(raw, missing, strict=True)]))
    for position, column in enumerate(categories):
        codes = prepared.arrays["codes"][:, position]
        raw = sample.column(column).to_pylist()
        shown = [{0: "(missing)", 1: "(other)"}.get(int(code), str(value)) for code, value in zip(codes, raw, strict=True)]
        lines.append(row(column, f"of {spec['categories'][position] - 2}", shown))
    return lines


def _image_lines(name: str, spec: dict[str, Any], prepared: Prepared) -> list[str]:
    pixels = prepared.arrays["pixels"]
    lines = [f"input {name}: pictures of {spec['size']} x {spec['size']} pixels, {spec['channels']} channel(s), {pixels.dtype}"]
    for what, numbers in (("darkest", pixels.min((1, 2, 3))), ("mean", pixels.mean((1, 2, 3))), ("brightest", pixels.max((1, 2, 3)))):
        lines.append(
            row(what, "", [f"{number:.0f}" if there else "(none)" for number, there in zip(numbers, prepared.present, strict=True)])
        )
    return lines


def _where(prepared: Prepared, values: Any, shape: str) -> list[str]:
    return [format(value, shape) if there else "(none)" for value, there in zip(values, prepared.present, strict=True)]


def _signal_lines(name: str, spec: dict[str, Any], prepared: Prepared) -> list[str]:
    samples, length = prepared.arrays["samples"], prepared.arrays["length"]
    lines = [f"input {name}: signals of {spec['leads']} lead(s), {spec['steps']} samples at {spec['rate']:g} Hz"]
    lines.append(row("seconds", "", _where(prepared, length / spec["rate"], ".3g")))
    for lead in range(samples.shape[1]):
        for what, values in (("lowest", samples[:, lead].min(1)), ("highest", samples[:, lead].max(1))):
            lines.append(row(f"lead {lead + 1} {what}", "", _where(prepared, values, ".3g")))
    return lines


def _events_lines(name: str, spec: dict[str, Any], prepared: Prepared) -> list[str]:
    seen = prepared.arrays["seen"]
    lines = [f"input {name}: {spec['variables']} variables on a grid of {spec['steps']} steps; steps with a value"]
    most = np.argsort(-seen.sum((0, 1)), kind="stable")[:20]
    return lines + [row(str(spec["names"][place]), "", _where(prepared, seen[:, :, place].sum(1), ".0f")) for place in most]


def _text_lines(name: str, spec: dict[str, Any], prepared: Prepared) -> list[str]:
    tokens, length = prepared.arrays["tokens"], prepared.arrays["length"]
    lines = [f"input {name}: texts of at most {spec['tokens']} words, a vocabulary of {spec['words']:,}"]
    lines.append(row("words", "", _where(prepared, length, "d")))
    if "config" in spec:  # a tokenizer's own numbers: pieces of words, none unknown as a rule
        return lines
    unknown = (tokens == 1).sum(1) / np.maximum(length, 1)
    return [*lines, row("unknown words", "", _where(prepared, unknown, ".0%"))]


def _volume_lines(name: str, spec: dict[str, Any], prepared: Prepared) -> list[str]:
    pixels = prepared.arrays["pixels"]
    lines = [f"input {name}: volumes of {' x '.join(map(str, spec['size']))} (slices, rows, columns)"]
    axes = tuple(range(1, pixels.ndim))
    for what, numbers in (("lowest", pixels.min(axes)), ("mean", pixels.mean(axes)), ("highest", pixels.max(axes))):
        lines.append(row(what, "", _where(prepared, numbers, ".3g")))
    return lines


LINES: dict[str, Callable[[str, dict[str, Any], Prepared], list[str]]] = {
    "image": _image_lines,
    "volume": _volume_lines,
    "signal": _signal_lines,
    "events": _events_lines,
    "text": _text_lines,
    "tokens": _text_lines,
}
