"""Texts by the tokenizer of a local directory: its numbers, and everything that is refused before any weight is opened."""

from __future__ import annotations

import json
import pickle
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bert_directory import NUMBER, edit_config, write_directory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meddx.errors import BundleError, DataError, RecipeError
from meddx.inputs.options import TextInput
from meddx.inputs.prepare import Preparations, fit
from meddx.inputs.pretrained import PretrainedTextPreparation, most_tokens, parse_tokenizer, pretrained_digest
from meddx.inputs.text import TextPreparation

TRAIN = ["Chest pain since monday", "no chest pain", "pain", None, ""]


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_directory(tmp_path_factory.mktemp("hf") / "tiny")


@pytest.fixture
def directory(made_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_once, tmp_path / "tiny"))


def notes(*texts: str | None) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string())})


def fitted(place: Path | str, *texts: str | None, **options: Any) -> PretrainedTextPreparation:
    page = {"kind": "text", "max_tokens": 8, "pretrained": str(place), **options}
    made = fit({"note": TextInput(**page)}, {}, notes(*(texts or TRAIN))).inputs[0]
    assert isinstance(made, PretrainedTextPreparation)
    return made


def numbers(words: str) -> list[int]:
    return [NUMBER[word] for word in words.split()]


def test_the_numbers_are_those_of_the_tokenizer_with_its_special_ones(directory: Path) -> None:
    prep = fitted(directory)
    made = prep.transform(notes("Chest PAIN", "rashes", "\u2603"))
    wanted = ["[CLS] chest pain [SEP]", "[CLS] rash ##e ##s [SEP]", "[CLS] [UNK] [SEP]"]
    assert made.arrays["length"].tolist() == [4, 5, 3] and made.present.all() and not made.errors
    for row, words in enumerate(wanted):
        assert made.arrays["tokens"][row].tolist() == numbers(words) + [0] * (8 - len(words.split()))
    assert made.arrays["tokens"].dtype == made.arrays["length"].dtype == np.int32
    spec = prep.spec()
    assert {key: spec[key] for key in ("kind", "optional", "tokens", "words")} == {
        "kind": "text", "optional": False, "tokens": 8, "words": len(NUMBER)
    }  # fmt: skip
    assert spec["config"]["model_type"] == "bert" and not {"_name_or_path", "architectures", "dtype"} & {*spec["config"]}


def test_a_long_text_loses_its_middle_and_keeps_both_special_ones(directory: Path) -> None:
    prep = fitted(directory, "chest pain since monday no fever cough rash", "pain", "", None, max_tokens=7)
    assert prep.truncated == 0.5
    made = prep.transform(notes("chest pain since monday no fever cough rash", "chest pain since monday no"))
    assert made.arrays["tokens"].tolist() == [
        numbers("[CLS] chest pain since cough rash [SEP]"),
        numbers("[CLS] chest pain since monday no [SEP]"),
    ]
    short = fitted(directory, max_tokens=3).transform(notes("chest pain")).arrays
    assert short["tokens"].tolist() == [numbers("[CLS] chest [SEP]")] and short["length"].tolist() == [3]


def test_absent_and_empty_texts_are_those_of_every_text_input(directory: Path) -> None:
    made = fitted(directory, optional=True).transform(notes("pain", None, "", " \n"))
    assert made.present.tolist() == [True, False, False, False] and made.errors == {2: "text_empty", 3: "text_empty"}
    assert not made.arrays["tokens"][1:].any() and not made.arrays["length"][1:].any()
    assert not fitted(directory, optional=True).transform(pa.table({"other": ["a"]})).present.any()
    with pytest.raises(DataError, match="no text"):
        fitted(directory, None, "")


def test_several_notes_a_case_are_joined_as_without_a_directory(directory: Path) -> None:
    kind = pa.list_(pa.struct([("@time", pa.float64()), ("text", pa.string())]))
    table = pa.table({"notes": pa.array([[{"@time": -2.0, "text": "chest"}, {"@time": -1.0, "text": "pain"}], []], kind)})
    page = TextInput.model_validate({"kind": "text", "from": "notes", "many": "join", "pretrained": str(directory), "max_tokens": 8})
    made = TextPreparation.fit("note", page, table).transform(table)
    assert made.arrays["tokens"][0, :4].tolist() == numbers("[CLS] chest pain [SEP]") and made.present.tolist() == [True, False]
    with pytest.raises(DataError, match="several rows"):
        TextPreparation.fit("note", page.model_copy(update={"many": None}), table)


def test_the_state_is_whole_without_the_directory(directory: Path) -> None:
    prep = fitted(directory)
    before = prep.transform(notes(*TRAIN)).arrays["tokens"]
    state = json.loads(json.dumps(Preparations((prep,)).state(), allow_nan=False))
    shutil.rmtree(directory)
    again = Preparations.from_state(state).inputs[0]
    assert again == prep and np.array_equal(again.transform(notes(*TRAIN)).arrays["tokens"], before)
    assert str(directory.parent) not in json.dumps(state)
    assert pickle.loads(pickle.dumps(again)) == prep


def test_a_state_that_was_tampered_with_is_refused(directory: Path) -> None:
    state = fitted(directory).state()
    config = state["config"]
    broken: list[dict[str, Any]] = [
        {"tokenizer": "{}"},
        {"tokenizer": None},
        {"config": None},
        {"config": {**config, "auto_map": {"AutoModel": "code.Network"}}},
        {"config": {**config, "model_type": "own"}},
        {"config": {**config, "vocab_size": 5}},
        {"max_tokens": 25},
        {"max_tokens": 2},
        {"many": "mean"},
    ]
    for change in broken:
        with pytest.raises(BundleError):
            TextPreparation.from_state({**state, **change})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "auto_map": ({"auto_map": {"AutoModel": "code.Network"}}, "auto_map.*never run"),
    "unknown": ({"model_type": "own"}, "model_type is none of bert"),
    "quantized": ({"quantization_config": {"bits": 4}}, "quantized"),
    "decoder": ({"is_decoder": True}, "decoders"),
    "sizes": ({"vocab_size": "100"}, "vocab_size is not a whole number"),
    "fewer": ({"vocab_size": 20}, "the network knows 20"),
    "places": ({"max_position_embeddings": 6}, "max_tokens is 8; this network takes 3 to 6"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_configurations_that_are_refused(directory: Path, name: str) -> None:
    changes, words = REFUSED[name]
    edit_config(directory, **changes)
    with pytest.raises(RecipeError, match=words) as caught:
        fitted(directory)
    assert "inputs.note" in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(RecipeError, match=f"the directory has no {name}"):
        fitted(directory)


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "bert", "x": NaN}', "[" * 100_000])
def test_a_config_that_is_not_json_is_refused(directory: Path, text: str) -> None:
    (directory / "config.json").write_text(text)
    with pytest.raises(RecipeError, match=r"config\.json cannot be used"):
        fitted(directory)
    (directory / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="not UTF-8"):
        fitted(directory)


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.place,)


def test_pickled_weights_are_refused_by_name_and_never_opened(directory: Path, tmp_path: Path) -> None:
    sung = tmp_path / "sung"
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(sung)))
    with pytest.raises(RecipeError, match=r"pytorch_model\.bin.*pickle"):
        fitted(directory)
    assert not sung.exists()
    pickle.loads((directory / "pytorch_model.bin").read_bytes())  # the twin: opened, it would have run
    assert sung.exists()


def test_weights_in_pieces_are_refused(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "model-00001-of-00002.safetensors")
    (directory / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(RecipeError, match="in several files"):
        fitted(directory)


@pytest.mark.parametrize("place", ["bert-base-uncased", "org/network", "nowhere/at/all"])
def test_the_name_of_a_hub_is_not_looked_up(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("somebody wanted to go out")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(RecipeError, match="is not a folder") as caught:
        fitted(place)
    assert "nothing is downloaded" in str(caught.value)


def test_without_the_extra_the_error_says_what_to_install(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = fitted(directory).state()
    for name in ("tokenizers", "tokenizers.models"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RecipeError, match=r"pip install meddx\[text\]"):
        fitted(directory)
    with pytest.raises(BundleError, match=r"pip install meddx\[text\]"):
        TextPreparation.from_state(state)
    TextPreparation.fit("note", TextInput(kind="text", min_count=1), notes("chest pain"))


def test_a_tokenizer_that_draws_or_cuts_does_neither_here() -> None:
    from tokenizers import Tokenizer, models

    made = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")], dropout=0.5))
    made.enable_truncation(3)
    made.enable_padding(length=9)
    text = "ab" * 8
    raw = Tokenizer.from_str(made.to_str())
    assert len({tuple(raw.encode(text).ids) for _ in range(50)}) > 1  # the twin: as it is written it draws
    ours = parse_tokenizer(made.to_str())
    assert {tuple(ours.encode(text).ids) for _ in range(50)} == {(2,) * 8}


def test_roberta_counts_its_places_from_padding() -> None:
    assert most_tokens({"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 514}) == 512
    assert most_tokens({"model_type": "bert", "pad_token_id": 0, "max_position_embeddings": 512}) == 512


def test_the_digest_names_the_content_and_not_the_place(directory: Path, tmp_path: Path) -> None:
    digest = pretrained_digest(str(directory))
    assert pretrained_digest(str(shutil.copytree(directory, tmp_path / "elsewhere"))) == digest and len(digest) == 16
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        data = (directory / name).read_bytes()
        (directory / name).write_bytes(data + b" ")
        assert pretrained_digest(str(directory)) != digest
        (directory / name).write_bytes(data)
    assert pretrained_digest(str(directory)) == digest


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.none() | st.text(max_size=12) | st.sampled_from(["chest pain", "[SEP]", "no " * 30]), min_size=1, max_size=5))
def test_each_text_is_prepared_by_itself(made_once: Path, texts: list[str | None]) -> None:
    prep = fitted(made_once)
    whole = prep.transform(notes(*texts))
    for row, text in enumerate(texts):
        alone = prep.transform(notes(text)).arrays
        assert np.array_equal(alone["tokens"][0], whole.arrays["tokens"][row]) and alone["length"][0] == whole.arrays["length"][row]
    length, tokens = whole.arrays["length"], whole.arrays["tokens"]
    assert set(length.tolist()) <= {0, *range(3, 9)}
    for row in np.flatnonzero(whole.present):
        assert (
            tokens[row, 0] == NUMBER["[CLS]"] and tokens[row, length[row] - 1] == NUMBER["[SEP]"] and not tokens[row, length[row] :].any()
        )
