"""Medical archives in, diagnostic models and honest verdicts out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meddx.predict.bundle import Bundle

__version__ = "0.1.0"
__all__ = ["Bundle", "__version__"]


def __getattr__(name: str) -> Any:
    """`meddx.Bundle`, imported when it is first used, so that `import meddx` is instant."""
    if name == "Bundle":
        return import_module("meddx.predict.bundle").Bundle
    raise AttributeError(f"module 'meddx' has no attribute {name!r}")
