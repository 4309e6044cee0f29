"""A local Hugging Face directory as a text's network, through the command line; afterwards the directory is not needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bert_directory import write_directory

from meddx.cli import main
from meddx.predict.bundle import Bundle
from meddx.recipe import load

pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

PAGE = """
name: notes
data: {{path: {0}/notes.csv, text: [body]}}
id: row
patient: who
target: {{kind: binary, column: ill, positive: ["1"], negative: ["0"]}}
inputs: {{note: {{kind: text, column: body, max_tokens: 12, pretrained: {0}/bert}}}}
training: {{epochs: 3, batch: 16, lr: 0.002, freeze: ["note.network.embeddings.*"]}}
baselines: [logistic]
comparison: {{bootstrap: 200}}
out: {0}/run
"""


def test_a_directory_is_trained_from_and_then_not_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_directory(tmp_path / "bert")
    rng = np.random.default_rng(0)
    ill = rng.random(200) < 0.5
    body = [f"patient {'weak' if bad else 'well'} today" for bad in ill]
    pd.DataFrame({"row": np.arange(200), "who": np.arange(200) // 2, "ill": ill.astype(int), "body": body}).to_csv(
        tmp_path / "notes.csv", index=False
    )
    (tmp_path / "page.yaml").write_text(PAGE.format(tmp_path))
    assert load(tmp_path / "page.yaml").encoders["note"].kind == "pretrained"
    assert main(["check", str(tmp_path / "page.yaml")]) == 0
    assert main(["train", str(tmp_path / "page.yaml"), "--compare"]) == 0
    bundle = Bundle.load(tmp_path / "run/bundles/network")
    notes = " ".join(bundle.manifest["about"]["notes"])
    assert "taken" in notes and "frozen" in notes
    rows = [{"case_id": "a", "body": "patient weak today"}, {"case_id": "b", "body": "patient well today"}]
    before = bundle.predict(rows, outputs=["embedding"])  # a probability may be the prevalence twice, where nothing was learned

    capsys.readouterr()
    assert main(["train", str(tmp_path / "page.yaml")]) == 0
    assert "trained 0 of 3 models" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "bert")
    write_directory(tmp_path / "bert", seed=7)  # other weights in the same place are another training
    assert main(["train", str(tmp_path / "page.yaml")]) == 0
    assert "trained 3 of 3 models" in capsys.readouterr().out

    bundle = Bundle.load(tmp_path / "run/bundles/network")
    after = bundle.predict(rows, outputs=["embedding"])
    assert after["embedding"] != before["embedding"]
    shutil.rmtree(tmp_path / "bert")
    shutil.move(tmp_path / "run/bundles/network", tmp_path / "moved")
    assert Bundle.load(tmp_path / "moved").predict(rows, outputs=["embedding"]) == after
