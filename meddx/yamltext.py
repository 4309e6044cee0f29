"""Plain values in, YAML text in flow style out: the other direction of `yamlconf`, for pages that meddx writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 110
BARE = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
NOT_BARE = {"true", "false", "null", "no", "yes", "on", "off", "n", "y", "nan", "inf"}


def scalar(value: Any) -> str:
    """One value; text stands in quotes unless it is a plain word to every YAML reader (so "NO", "0012" and "1.0" survive)."""
    if isinstance(value, str) and BARE.fullmatch(value) and value.lower() not in NOT_BARE:
        return value
    return quoted(value)


def quoted(value: Any) -> str:
    """JSON, which is YAML; letters beyond ASCII stay, but not signs that YAML forbids."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def flow(value: Any, indent: int = 6) -> str:
    """Lists and mappings in flow style, broken into lines of about WIDTH characters."""
    if isinstance(value, Mapping):
        parts, ends = [f"{scalar(key)}: {flow(one, indent + 2)}" for key, one in value.items()], "{}"
    elif isinstance(value, list | tuple):
        parts, ends = [flow(one, indent + 2) for one in value], "[]"
    else:
        return scalar(value)
    if not parts:
        return ends
    lines = [ends[0]]
    for i, part in enumerate(parts):
        piece = part + (", " if i < len(parts) - 1 else ends[1])
        if len(lines[-1]) + len(piece) > WIDTH and lines[-1].strip() not in ("[", "{"):
            lines.append(" " * indent)
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def names(found: Sequence[str], most: int = 20) -> str:
    """Names for a comment: each quoted, on one line, at most `most` of them."""
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(quoted(name) for name in found[:most]) + more
