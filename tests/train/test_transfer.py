from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from meddx.errors import BundleError, DataError, RecipeError
from meddx.predict.files import publish
from meddx.storage import StoragePath
from meddx.train.transfer import Start, freeze, keep_frozen_statistics, public_name, read_start, take


class Net(nn.Module):
    """Two inputs, as the network names its parts."""

    def __init__(self, names: tuple[str, ...] = ("film", "table"), outputs: int = 1) -> None:
        super().__init__()
        self.names = names
        parts = {"film": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), "table": nn.Linear(3, 4)}
        self.encoders = nn.ModuleList(parts[name] for name in names)
        self.dense = nn.Linear(6, 5)
        self.answer = nn.Linear(5, outputs)


def bundle(folder: Path, model: Net, **more: bytes) -> str:
    page = {"inputs": {"inputs": [{"name": name} for name in model.names]}}
    files = {"weights.safetensors": save(dict(model.state_dict())), "bundle.json": json.dumps(page).encode(), **more}
    publish(StoragePath.of(folder), files)
    return str(folder)


def test_names_are_the_inputs() -> None:
    assert public_name("encoders.1.network.0.weight", ["film", "table"]) == "table.network.0.weight"
    assert public_name("dense.0.bias", ["film"]) == "dense.0.bias"
    assert public_name("encoders.4.weight", ["film"]) == "encoders.4.weight"


def test_a_bundle_gives_each_input_its_own_weights_wherever_it_stood(tmp_path: Path) -> None:
    theirs, ours = Net(("table", "film"), outputs=3), Net(("film", "table"))
    answer = ours.answer.weight.clone()
    lines = take(ours, read_start(bundle(tmp_path / "old", theirs), ours.names))
    assert torch.equal(ours.encoders[0][0].weight, theirs.encoders[1][0].weight)  # type: ignore[index]
    assert torch.equal(ours.encoders[1].weight, theirs.encoders[0].weight)  # type: ignore[arg-type]
    assert torch.equal(ours.dense.weight, theirs.dense.weight) and torch.equal(ours.answer.weight, answer)
    assert lines[0].startswith("started from the bundle old (") and "11 of 13 tensors taken" in lines[0]
    assert lines[1:] == [
        "answer.weight did not fit: [1, 5] here, [3, 5] there",
        "answer.bias did not fit: [1] here, [3] there",
    ]


def test_a_weights_file_is_read_in_this_networks_order(tmp_path: Path) -> None:
    theirs, ours = Net(), Net()
    kept = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("dense")}
    (tmp_path / "w.safetensors").write_bytes(save(kept))
    lines = take(ours.double(), read_start(str(tmp_path / "w.safetensors"), ours.names))
    assert torch.equal(ours.encoders[1].weight, theirs.encoders[1].weight.double())  # type: ignore[operator]
    assert "11 of 13" in lines[0] and lines[1] == "not there, drawn anew: dense"


def test_nothing_that_fits_is_refused_with_both_shapes() -> None:
    with pytest.raises(RecipeError, match=r"nothing in the file fits") as caught:
        take(nn.Linear(2, 3), Start("the file", {"weight": torch.zeros(9, 9)}))
    assert "weight did not fit: [3, 2] here, [9, 9] there" in str(caught.value)
    with pytest.raises(RecipeError, match="there other.layer"):
        take(Net(), Start("the file", {"other.layer.weight": torch.zeros(1)}))


def test_damaged_and_wrong_sources_are_refused(tmp_path: Path) -> None:
    place = bundle(tmp_path / "b", Net())
    weights = tmp_path / "b" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(BundleError, match="differs from its digest"):
        read_start(place, ())
    publish(StoragePath.of(tmp_path / "forest"), {"model.skops": b"x", "bundle.json": b"{}"})
    with pytest.raises(RecipeError, match="holds no network"):
        read_start(str(tmp_path / "forest"), ())
    for missing in ("nowhere", "nowhere.safetensors"):
        with pytest.raises(RecipeError, match="neither a bundle|no such weights"):
            read_start(str(tmp_path / missing), ())
    torch.save({"a": torch.zeros(1)}, tmp_path / "pickle.safetensors")
    with pytest.raises(DataError, match="not in the safetensors format"):
        read_start(str(tmp_path / "pickle.safetensors"), ())


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        (("film.*",), {"encoders.0.0.weight", "encoders.0.0.bias", "encoders.0.1.weight", "encoders.0.1.bias"}),
        (("table.*", "answer.bias"), {"encoders.1.weight", "encoders.1.bias", "answer.bias"}),
        (("*.weight",), {"encoders.0.0.weight", "encoders.0.1.weight", "encoders.1.weight", "dense.weight", "answer.weight"}),
    ],
)
def test_patterns_freeze_what_they_name(patterns: tuple[str, ...], frozen: set[str]) -> None:
    model = Net().train()
    lines = freeze(model, patterns)
    assert {name for name, parameter in model.named_parameters() if not parameter.requires_grad} == frozen
    assert lines == [f"frozen: {', '.join(patterns)} ({len(frozen)} of 10 weights)"]
    assert model.encoders[0][1].training == (patterns[0] != "film.*")  # type: ignore[index]
    assert model.dense.training


def test_a_frozen_norm_keeps_its_statistics_and_half_a_frozen_one_does_not() -> None:
    norm = nn.BatchNorm1d(2)
    norm.weight.requires_grad_(False)
    keep_frozen_statistics(norm)
    assert norm.training
    norm.bias.requires_grad_(False)
    keep_frozen_statistics(norm)
    norm(torch.randn(5, 2))
    assert norm.running_mean is not None and norm.running_mean.tolist() == [0, 0] and int(norm.num_batches_tracked or 0) == 0


@pytest.mark.parametrize(("patterns", "words"), [(("flim.*",), "no weight has a name like 'flim"), (("*",), "everything is frozen")])
def test_patterns_that_do_not_work_are_refused(patterns: tuple[str, ...], words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        freeze(Net(), patterns)
    assert "known: film.0, film.1, table, dense, answer" in str(caught.value) or patterns == ("*",)


def test_no_pattern_changes_nothing() -> None:
    model: Any = Net().train()
    assert freeze(model, ()) == [] and all(parameter.requires_grad for parameter in model.parameters())
