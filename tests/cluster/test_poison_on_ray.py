"""A row that kills its Ray actor, or hangs it, is quarantined, and it alone; on 1, 2, 3 and 4 CPUs, none of which is to spare."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meddx.score.audit import verify
from meddx.score.run import score
from meddx.storage import StoragePath

SECONDS = 150  # more is a deadlock
pytestmark = [pytest.mark.ray, pytest.mark.timeout(SECONDS + 30)]
HELPERS = str(Path(__file__).parents[1] / "score")
LIMITS = {"MEDDX_PATIENCE_S": "2", "MEDDX_ROW_PATIENCE_S": "0.5"}
ACTS = {1: {3: "segfault", 104: "hang"}, 2: {3: "end"}, 3: {3: "segfault"}, 4: {3: "end", 104: "hang", 333: "raise"}}
CPUS = (1, 2, 3, 4) if os.environ.get("MEDDX_SOAK") else (1, 2)  # `make soak` takes all


@pytest.fixture(scope="module")
def poison() -> Iterator[Any]:
    """The helpers of tests/score, where this process, its workers and their children find them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HELPERS)
        yield importlib.import_module("poison_helper")


@pytest.mark.parametrize("cpus", CPUS)
def test_those_rows_are_quarantined_and_all_others_are_scored(
    poison: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int
) -> None:
    for name, value in LIMITS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    acts, helper = ACTS[cpus], sys.modules["scoring_helper"]
    poisonous = helper.SCRIPT.replace("helper.PlainBundles()", "poison_helper.PoisonBundles()").replace(
        "import json", "import poison_helper, json"
    )
    monkeypatch.setattr(helper, "SCRIPT", poisonous)
    data = poison.archive(tmp_path / "d", acts, files=2)
    plain, out = tmp_path / "undisturbed", tmp_path / "o"
    given = helper.options(max_rejected=0.5)
    score(helper.BUNDLE, StoragePath.of(data), StoragePath.of(plain), options=given, bundles=helper.PlainBundles())
    with helper.start_child(data, out, workers=cpus, given={"max_rejected": 0.5}) as child:
        said = child.communicate(timeout=SECONDS)[0]
    assert child.returncode == 0, said
    rows, undisturbed = helper.rows_of(out), helper.rows_of(plain)
    assert poison.poisoned(rows) == {poison.case(row): poison.REASONS[act] for row, act in acts.items()}
    keep = [case not in poison.poisoned(rows) for case in undisturbed["case_id"].to_pylist()]
    assert poison.healthy(rows).equals(undisturbed.filter(keep))
    assert verify(StoragePath.of(out)) and not list((out / "_meddx").glob("open-*"))
