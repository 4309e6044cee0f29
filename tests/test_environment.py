"""Paths are filled in from MEDDX_ variables, and from nothing else."""

from __future__ import annotations

import copy

import pytest

from meddx.environment import fill
from meddx.errors import RecipeError


def test_environment_fills_paths_but_never_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDDX_SHARED", "/archive")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    page = {"path": "${MEDDX_SHARED:-../shared}/x", "other": ["${MEDDX_NONE:-here}/y", 3]}
    assert fill(copy.deepcopy(page), "p") == {"path": "/archive/x", "other": ["here/y", 3]}
    for text in ("${AWS_SECRET_ACCESS_KEY}", "${MEDDX_NONE}"):
        with pytest.raises(RecipeError):
            fill(text, "p")
