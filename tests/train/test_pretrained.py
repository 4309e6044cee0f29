"""The encoder `pretrained`: its first weights are the directory's, and a bundle of it needs the directory no more."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from bert_directory import write_directory
from safetensors.torch import load_file, save_file

from meddx.dataset.options import CohortOptions
from meddx.dataset.target import Labels
from meddx.errors import BundleError, DataError, RecipeError
from meddx.inputs.options import TextInput
from meddx.inputs.prepare import Preparations, fit
from meddx.inputs.pretrained import NETWORKS
from meddx.models.build import build_model
from meddx.models.options import EncoderOptions, ModelOptions
from meddx.predict.bundle import Bundle, write_bundle
from meddx.predict.files import publish
from meddx.predict.networks import NetworkParts
from meddx.storage import StoragePath
from meddx.train.options import TrainingOptions
from meddx.train.run import TrainData, Trained, train_network
from meddx.train.transfer import Start, joined, read_pretrained, take

HEAD = {"kind": "binary", "classes": ["no", "yes"]}
TEXTS = ["chest pain since monday", "no fever", "acute cough and rash", "normal heart", "left lung normal", "the right lung"] * 4
MODEL = ModelOptions(hidden=8, dropout=0.0)
ENCODERS = {"note": EncoderOptions(kind="pretrained")}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_directory(tmp_path_factory.mktemp("hf") / "tiny")


@pytest.fixture
def directory(made_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_once, tmp_path / "tiny"))


def table(*texts: str | None) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string())})


def prepared(place: Path, **options: Any) -> Preparations:
    page = {"kind": "text", "max_tokens": 10, "pretrained": str(place), **options}
    return fit({"note": TextInput(**page)}, {}, table(*TEXTS))


def network(preparations: Preparations, **settings: Any) -> Any:
    torch.manual_seed(0)
    encoders = {"note": EncoderOptions(kind="pretrained", settings=settings)}
    return build_model(MODEL, encoders, preparations.specs(), HEAD)


def trained(directory: Path, folder: Path, *, pretrained: bool = True, **options: Any) -> tuple[Trained, list[str]]:
    preparations, log = prepared(directory), list[str]()
    one = preparations.transform(table(*TEXTS))["note"]
    arrays = {"note": {**one.arrays, "present": one.present}}
    labels = Labels((np.arange(len(TEXTS)) % 2).astype(np.float32), np.ones(len(TEXTS), bool))
    found = train_network(
        TrainData(arrays, labels, np.arange(len(TEXTS)), arrays, labels),
        model=MODEL, encoders=ENCODERS, specs=preparations.specs(), head=HEAD,
        options=TrainingOptions.model_validate({"epochs": 1, "batch": 12, "lr": 1e-4, **options}),
        run_dir=StoragePath.of(folder), fingerprint="f" * 16, fresh=False, log=log.append,
        pretrained={"note": str(directory)} if pretrained else None,
    )  # fmt: skip
    return found, log


def same(weights: dict[str, torch.Tensor], directory: Path) -> bool:
    theirs = {name: tensor for name, tensor in load_file(directory / "model.safetensors").items() if not name.startswith("pooler.")}
    ours = {name.removeprefix("encoders.0.network."): one for name, one in weights.items() if name.startswith("encoders.0.")}
    assert theirs.keys() == ours.keys()
    return all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_training_starts_from_the_directorys_weights_and_freezing_keeps_them(directory: Path, tmp_path: Path) -> None:
    kept, log = trained(directory, tmp_path / "a", freeze=("note.*",))
    assert same(kept.weights, directory)
    assert any("started from the directory tiny: 37 of 41 tensors taken" in line for line in kept.notes), kept.notes
    assert any("drawn anew: dense.0, answer" in line for line in kept.notes) and any("frozen: note.*" in line for line in kept.notes)
    assert not same(trained(directory, tmp_path / "b")[0].weights, directory)  # not frozen, they learn
    twin, _ = trained(directory, tmp_path / "c", pretrained=False, freeze=("note.*",))
    assert not same(twin.weights, directory)  # the twin: without the start they are drawn


def test_one_layer_may_be_frozen(directory: Path, tmp_path: Path) -> None:
    found, _ = trained(directory, tmp_path / "a", freeze=("note.network.embeddings.*", "note.network.encoder.layer.0.*"))
    theirs = load_file(directory / "model.safetensors")
    for name, one in found.weights.items():
        key = name.removeprefix("encoders.0.network.")
        if key.startswith("encoder.layer.1.") and key.endswith("weight"):
            assert not torch.equal(one, theirs[key]), key
        elif key.startswith(("embeddings.", "encoder.layer.0.")):
            assert torch.equal(one, theirs[key]), key


def test_a_finished_training_needs_the_directory_no_more(directory: Path, tmp_path: Path) -> None:
    first, _ = trained(directory, tmp_path / "a")
    (directory / "model.safetensors").write_bytes(b"gone")
    again, log = trained(directory, tmp_path / "a")
    assert "finished before" in log[0] and all(torch.equal(again.weights[name], one) for name, one in first.weights.items())


def test_another_encoder_takes_the_tokenizer_alone(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "note", EncoderOptions(kind="conv"))
    found, _ = trained(directory, tmp_path / "a")
    assert not any("started from" in line for line in found.notes)


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_every_kind_is_filled_whole_from_a_file_with_an_answer_and_is_blind_to_padding(kind: str, tmp_path: Path) -> None:
    directory = write_directory(tmp_path / kind, kind, answer=True)
    model = network(prepared(directory)).eval()
    lines = take(model, read_pretrained(str(directory), "note"))
    assert lines[1:] == ["not there, drawn anew: dense.0, answer"], lines
    tokens = torch.randint(5, 60, (8, 10), dtype=torch.int32)
    length = torch.tensor([10, 3, 5, 1, 0, 10, 2, 7], dtype=torch.int32)
    with torch.inference_mode():
        before = model.encoders[0](tokens=tokens, length=length)
        other = torch.where(torch.arange(10) < length[:, None], tokens, torch.randint(0, 60, (8, 10), dtype=torch.int32))
        assert torch.equal(model.encoders[0](tokens=other, length=length), before)
        neighbours = tokens.clone()
        neighbours[1:] = 7
        assert torch.equal(model.encoders[0](tokens=neighbours, length=length)[0], before[0])
        assert not before[4].any() and torch.isfinite(before).all() and not torch.equal(before[1], before[2])
        model.encoders[0].training = True  # of itself alone: it shortens, and its parts draw nothing
        short = model.encoders[0](tokens=tokens[1:5], length=length[1:5])
        assert torch.allclose(short, before[1:5], atol=1e-5)


def test_names_of_old_checkpoints_are_understood(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    old = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): one
        for name, one in tensors.items()
    }
    save_file({**old, "cls.predictions.bias": torch.zeros(3)}, directory / "model.safetensors")
    model = network(prepared(directory))
    assert len(take(model, read_pretrained(str(directory), "note"))) == 2
    assert torch.equal(model.encoders[0].network.embeddings.LayerNorm.weight, tensors["embeddings.LayerNorm.weight"])


def test_layers_that_do_not_fit_are_named_and_nothing_that_fits_is_refused(directory: Path) -> None:
    model, tensors = network(prepared(directory)), load_file(directory / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"] = torch.zeros(90, 32)
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, directory / "model.safetensors")
    lines = take(model, read_pretrained(str(directory), "note"))
    assert "35 of 41" in lines[0]
    assert lines[1] == "note.network.embeddings.word_embeddings.weight did not fit: [100, 32] here, [90, 32] there"
    assert "note.network.encoder.layer.1.output.dense" in lines[2]
    save_file({"other": torch.zeros(1)}, directory / "model.safetensors")
    with pytest.raises(RecipeError, match="fits this network"):
        take(model, read_pretrained(str(directory), "note"))
    whole = joined([read_pretrained(str(directory), "note"), Start("a bundle", {"dense.0.bias": torch.zeros(8)})])
    assert whole is not None
    with pytest.raises(RecipeError, match="fits the network of the input 'note'"):  # the bundle's layers do not hide it
        take(model, whole)
    (directory / "model.safetensors").write_bytes(b"\x80pickle")
    with pytest.raises(DataError, match="not in the safetensors format"):
        read_pretrained(str(directory), "note")


def test_a_bundle_to_start_from_goes_before_the_directory(directory: Path, tmp_path: Path) -> None:
    theirs = network(prepared(directory))
    with torch.no_grad():
        for one in theirs.parameters():
            one.fill_(0.25)
    path = tmp_path / "theirs.safetensors"
    save_file(
        {
            "encoders.0.network.embeddings.word_embeddings.weight": theirs.state_dict()[
                "encoders.0.network.embeddings.word_embeddings.weight"
            ]
        },
        path,
    )
    found, _ = trained(directory, tmp_path / "a", freeze=("note.*",), start_from=str(path))
    key = "encoders.0.network.embeddings.position_embeddings.weight"
    assert (found.weights["encoders.0.network.embeddings.word_embeddings.weight"] == 0.25).all()
    assert torch.equal(found.weights[key], load_file(directory / "model.safetensors")["embeddings.position_embeddings.weight"])
    assert any("the directory tiny and the weights file theirs.safetensors" in line for line in found.notes)


def bundle_of(place: Path, directory: Path, **options: Any) -> Bundle:
    preparations = prepared(directory, **options)
    model = network(preparations)
    take(model, read_pretrained(str(directory), "note"))
    write_bundle(
        StoragePath.of(place), name="net", head=HEAD, preparations=preparations,
        predictor=NetworkParts(MODEL.model_dump(mode="json"), {"note": ENCODERS["note"].model_dump(mode="json")}, model.state_dict()),
        calibration={"kind": "none"}, threshold={"value": 0.5}, cohort=CohortOptions(), target={}, about={},
    )  # fmt: skip
    return Bundle.load(StoragePath.of(place))


def test_a_moved_bundle_predicts_the_same_with_the_directory_gone(directory: Path, tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "bundle", directory)
    rows = table(*TEXTS[:6])
    before = bundle.predict(rows)
    shutil.rmtree(directory)
    Path(tmp_path / "bundle").rename(tmp_path / "moved")
    again = Bundle.load(StoragePath.of(tmp_path / "moved"))
    assert again.predict(rows).equals(before)
    assert str(tmp_path) not in (tmp_path / "moved" / "bundle.json").read_text()
    numbers = np.asarray(before["probability"], float)
    assert len(set(numbers.tolist())) == 6
    for place in range(6):  # alone, and beside others
        assert again.predict(rows.slice(place, 1))["probability"].to_pylist() == [numbers[place]]


def test_an_absent_optional_text_is_no_text(directory: Path, tmp_path: Path) -> None:
    preparations = prepared(directory, optional=True)
    one = preparations.transform(table("chest pain", None))["note"]
    model = network(preparations).eval()
    arrays = {name: torch.from_numpy(array) for name, array in one.arrays.items()}
    with torch.inference_mode():
        features = model.encoders[0](**arrays)
        assert features[0].any() and not features[1].any()
        assert torch.isfinite(model({"note": {**arrays, "present": torch.from_numpy(one.present)}})).all()


def test_what_cannot_be_built_is_refused(directory: Path) -> None:
    spec = prepared(directory).specs()["note"]
    config = spec["config"]
    for changed, words in (
        ({key: value for key, value in spec.items() if key != "config"}, "needs the input's `pretrained`"),
        ({**spec, "config": {**config, "auto_map": {}}}, "auto_map"),
        ({**spec, "config": {**config, "hidden_size": 33}}, "configuration cannot be used"),
        ({**spec, "config": {**config, "hidden_act": "nothing"}}, "configuration cannot be used"),
        ({**spec, "words": 101}, "more numbers than the network"),
    ):
        with pytest.raises(RecipeError, match=words):
            build_model(MODEL, ENCODERS, {"note": changed}, HEAD)
    with pytest.raises(RecipeError, match="pool is mean or first"):
        network(prepared(directory), pool="max")
    assert network(prepared(directory), pool="first").encoders[0].out_features == 32


def test_a_bundle_without_the_extra_says_what_to_install(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle_of(tmp_path / "bundle", directory)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BundleError, match=r"pip install meddx\[text\]"):
        Bundle.load(StoragePath.of(tmp_path / "bundle"))


def test_pickled_weights_in_a_bundle_stay_refused(directory: Path, tmp_path: Path) -> None:
    bundle_of(tmp_path / "bundle", directory)
    page = (tmp_path / "bundle" / "bundle.json").read_bytes()
    publish(StoragePath.of(tmp_path / "bad"), {"bundle.json": page, "weights.safetensors": b"\x80\x04pickle...."})
    with pytest.raises(BundleError, match="pickle"):
        Bundle.load(StoragePath.of(tmp_path / "bad"))
