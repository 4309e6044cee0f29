"""The network of entities: words in, tags out; and that training finds a rule about neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets_helper import text_spec
from torch import nn

from meddx.dataset.target import Labels
from meddx.errors import RecipeError
from meddx.models.build import build_encoder, build_model
from meddx.models.heads import make_head
from meddx.models.options import EncoderOptions, ModelOptions
from meddx.models.sequence import TokensFront
from meddx.models.tagging import _LEAST, TOKEN_ENCODERS, TaggingModel
from meddx.storage import StoragePath
from meddx.train.options import TrainingOptions
from meddx.train.run import train_network
from meddx.train.task import TrainData, Trained

WIDTH: dict[str, dict[str, Any]] = {
    "rnn": {"units": 8, "embedding": 24},
    "lstm": {"units": 8, "embedding": 24},
    "gru": {"units": 8, "embedding": 24},
    "conv": {"width": 24},
    "attention": {"d_model": 24},
}
PAGE = {"kind": "tags", "classes": ["a", "b"], "tokens": 70}


def tokens_spec(tokens: int = 70, optional: bool = False) -> dict[str, Any]:
    return {"kind": "tokens", "optional": optional, "tokens": tokens, "words": 30, "letters": 12, "characters": 6, "shapes": 7}


def made(name: str = "lstm", spec: dict[str, Any] | None = None, **settings: Any) -> TaggingModel:
    torch.manual_seed(5)
    spec = spec or tokens_spec()
    options = EncoderOptions(kind=name, settings={**WIDTH[name], "word_dropout": 0.0, "dropout": 0.0, **settings})
    model = build_model(ModelOptions(hidden=10, dropout=0.0), {"note": options}, {"note": spec}, {**PAGE, "tokens": spec["tokens"]})
    assert isinstance(model, TaggingModel)
    return model


def arrays_of(lengths: list[int], spec: dict[str, Any] | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    spec, draw = spec or tokens_spec(), torch.Generator().manual_seed(seed)
    rows, most = len(lengths), spec["tokens"]
    there = torch.arange(most) < torch.tensor(lengths)[:, None]
    characters = torch.randint(1, spec["letters"], (rows, most, spec["characters"]), generator=draw)
    characters *= torch.arange(spec["characters"]) < torch.randint(1, 7, (rows, most, 1), generator=draw)
    arrays = {
        "tokens": torch.randint(1, spec["words"], (rows, most), generator=draw) * there,
        "characters": characters * there[:, :, None],
        "shape": torch.randint(1, spec["shapes"], (rows, most), generator=draw) * there,
        "length": torch.tensor(lengths),
    }
    return {**{name: array.int() for name, array in arrays.items()}, "present": torch.ones(rows, dtype=torch.bool)}


LENGTHS = [70, 0, 1, 33, 32, 9, 31, 64]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", TOKEN_ENCODERS)
def test_logits_mark_the_words_and_padding_changes_nothing(name: str, train: bool) -> None:
    wide = tokens_spec(150)
    head, long = make_head(PAGE), make_head({**PAGE, "tokens": 150})
    one, two = made(name).double().train(train), made(name, wide).double().train(train)
    two.load_state_dict(one.state_dict())
    arrays = arrays_of(LENGTHS)
    more = {
        key: nn.functional.pad(value, (0,) * (2 * value.ndim - 3) + (80,)) if value.ndim > 1 else value for key, value in arrays.items()
    }
    logits, other = one({"note": arrays}), two({"note": more})
    assert logits.shape == (8, head.n_outputs) and other.shape == (8, long.n_outputs) and logits.dtype == torch.float64
    words = (logits[:, : 70 * 5].view(8, 70, 5).amax(2) > -1e8).sum(1)
    assert words.tolist() == LENGTHS
    torch.testing.assert_close(other[:, : 70 * 5], logits[:, : 70 * 5], atol=1e-10, rtol=0)
    values = torch.zeros(8, 70, dtype=torch.int64)
    known = torch.arange(70) < torch.tensor(LENGTHS)[:, None]
    found = head.loss(logits, values, known), long.loss(other, nn.functional.pad(values, (0, 80)), nn.functional.pad(known, (0, 80)))
    torch.testing.assert_close(found[0], found[1], atol=1e-9, rtol=0)
    plain = [[span[:3] for span in row] for row in head.spans(logits.detach().numpy())]
    assert plain == [[span[:3] for span in row] for row in long.spans(other.detach().numpy())]


@pytest.mark.parametrize("name", TOKEN_ENCODERS)
def test_a_text_alone_is_as_among_others_bit_by_bit(name: str) -> None:
    model, arrays = made(name).eval(), arrays_of(LENGTHS)
    with torch.inference_mode():
        words, mask = model._words({"note": arrays})
        for row in range(8):
            alone, there = model._words({"note": {key: value[row : row + 1] for key, value in arrays.items()}})
            assert torch.equal(alone[0], words[row]) and torch.equal(there[0], mask[row])


def test_reading_by_length_is_the_network_over_all_places_and_training_reads_alike() -> None:
    model, arrays = made().double().eval(), arrays_of(LENGTHS * 5)
    given = {key: value for key, value in arrays.items() if key != "present"}
    steps, there = model.encoders[0].steps(**given)  # type: ignore[operator]
    words, mask = model._words({"note": arrays})
    assert torch.equal(mask, there) and len({max(_LEAST, length) for length in LENGTHS}) > 3
    torch.testing.assert_close(words[mask], model.dense(steps)[mask], atol=1e-12, rtol=0)
    torch.testing.assert_close(model.train()({"note": arrays}), model.eval()({"note": arrays}), atol=1e-10, rtol=0)


def test_embedding_is_the_mean_of_the_words_and_both_is_both() -> None:
    model, arrays = made().eval(), arrays_of(LENGTHS)
    words, _ = model._words({"note": arrays})
    features = model.embed({"note": arrays})
    assert features.shape == (8, 10) and not features[1].any()
    torch.testing.assert_close(features[5], words[5, :9].mean(0))
    logits, same = model.both({"note": arrays})
    assert torch.equal(logits, model({"note": arrays})) and torch.equal(same, features)
    nothing = {key: value[:0] for key, value in arrays.items()}
    assert model({"note": nothing}).shape == (0, model.head.n_outputs)
    assert model.train()({"note": nothing}).shape == (0, model.head.n_outputs)


def test_an_absent_text_has_no_words() -> None:
    model, arrays = made().eval(), arrays_of(LENGTHS)
    arrays["present"][0] = False
    logits = model({"note": arrays})
    assert (logits[0, : 70 * 5] == -1e9).all() and model.head.spans(logits.detach().numpy())[0] == []
    assert torch.equal(logits[1:], model({"note": {key: value for key, value in arrays.items() if key != "present"}})[1:])


@pytest.mark.parametrize("name", TOKEN_ENCODERS)
def test_gradients_reach_every_weight(name: str) -> None:
    model, arrays = made(name).train(), arrays_of(LENGTHS)
    values = torch.randint(0, 5, (8, 70), generator=torch.Generator().manual_seed(0))
    model.head.loss(model({"note": arrays}), values, torch.arange(70) < arrays["length"][:, None])[0].backward()
    # what only pools (here nothing is pooled) has no gradient
    flat = [place for place, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert flat == [] and all(weight.grad.isfinite().all() for weight in model.parameters())  # type: ignore[union-attr]


def test_words_characters_shapes_and_neighbours_all_count() -> None:
    model, arrays = made().double().eval(), arrays_of([9, 9])
    plain = model({"note": arrays})[0, : 9 * 5].view(9, 5)
    for key in ("tokens", "characters", "shape"):
        other = {**arrays, key: arrays[key].clone()}
        other[key][0, 4] = other[key][0, 4] % 5 + 1
        changed = model({"note": other})[0, : 9 * 5].view(9, 5)
        assert (changed != plain).any(1).all()


def test_a_words_characters_beyond_its_end_say_nothing() -> None:
    front = TokensFront(tokens_spec(), 24, 8, 0.0).double()
    characters = torch.tensor([[[3, 4, 0, 0, 0, 0], [3, 4, 5, 0, 0, 0], [0] * 6]])
    ones, length = torch.ones(1, 3, dtype=torch.int64), torch.tensor([2])
    steps, mask = front.train()(ones, characters, ones, length)
    assert mask.tolist() == [[True, True, False]] and not steps[0, 2].any() and steps.shape == (1, 3, 24)
    longer, _ = front(ones, nn.functional.pad(characters, (0, 5)), ones, length)
    torch.testing.assert_close(longer, steps, atol=1e-12, rtol=0)
    torch.testing.assert_close(front.eval()(ones, characters, ones, length)[0], steps, atol=1e-12, rtol=0)
    spelled = steps[0, :2, 24 - 8 - 8 : 24 - 8]
    assert not torch.equal(spelled[0], spelled[1])


def test_word_dropout_hides_words_in_training_only_and_is_drawn_from_torch() -> None:
    front, arrays = TokensFront(tokens_spec(), 24, 8, 0.5), arrays_of([70, 70, 70])
    given = {key: value for key, value in arrays.items() if key != "present"}

    def words(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return front(**given)[0][:, :, :8]

    first, unknown = words(1), front.words.weight[1]
    assert torch.equal(first, words(1)) and not torch.equal(first, words(2))
    share = (first == unknown).all(2).float().mean().item()
    assert 0.35 < share < 0.65
    torch.manual_seed(1)
    assert torch.equal(front.eval()(**given)[0][:, :, :8], front.words(arrays["tokens"].long()))


def test_each_word_of_a_batch_is_spelled_once_and_all_the_same() -> None:
    front, arrays = TokensFront(tokens_spec(), 28, 8, 0.0).double(), arrays_of([70, 3, 0])
    given = {key: value for key, value in arrays.items() if key != "present"}
    given["characters"][1, :3] = given["characters"][0, :3]
    steps, mask = front.train()(**given)
    torch.testing.assert_close(front.eval()(**given)[0], steps, atol=1e-12, rtol=0)
    assert torch.equal(steps[0, :3, 12:20], steps[1, :3, 12:20]) and not steps[~mask].any()


def test_locked_dropout_hides_a_feature_in_all_words_of_a_text_in_training_only() -> None:
    torch.manual_seed(1)
    front = TokensFront(tokens_spec(), 24, 8, 0.0, 0.5)
    given = {key: value for key, value in arrays_of([70, 70, 70]).items() if key != "present"}
    seen, whole = front.train()(**given)[0], front.eval()(**given)[0]
    kept = seen.ne(0).any(1)
    assert 0.2 < kept.float().mean() < 0.8 and not torch.equal(kept[0], kept[1])
    torch.testing.assert_close(seen, whole * kept[:, None] * 2)


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ({}, "exactly one input"),
        ({"note": tokens_spec(), "more": tokens_spec()}, "exactly one input"),
        ({"note": text_spec()}, r"note \(text\)"),
    ],
)
def test_other_inputs_are_refused(specs: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        build_model(ModelOptions(), {}, specs, PAGE)


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("lstm", {"spelling": 300}, "width is above"),
        ("lstm", {"word_dropout": 1.0}, "word_dropout and locked_dropout below 1"),
        ("gru", {"locked_dropout": -0.1}, "locked_dropout below 1"),
        ("gru", {"word_dropuot": 0.1}, "did you mean 'word_dropout'"),
        ("gru", {"units": "many"}, "the default is 128"),
        ("attention", {"patch": 4}, "patch"),
        ("mlp", {}, "not a network for a tokens"),
        ("nets_helper:own", {}, "a network with `steps`"),
    ],
)
def test_wrong_settings_are_recipe_errors(kind: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        build_model(ModelOptions(), {"note": EncoderOptions(kind=kind, settings=settings)}, {"note": tokens_spec()}, PAGE)


def test_settings_reach_the_front() -> None:
    encoder = build_encoder("note", EncoderOptions(kind="conv", settings={"width": 40, "spelling": 12, "word_dropout": 0.3}), tokens_spec())
    front = encoder.front
    assert isinstance(front, TokensFront) and front.word_dropout == 0.3
    assert (front.convolution.out_channels, front.words.embedding_dim, front.shapes.embedding_dim) == (12, 20, 8)


def sentences(rows: int, seed: int, most: int = 14) -> tuple[dict[str, np.ndarray], Labels]:
    """After the word 3 an entity begins; further words below 7 are of it; its label is whether the word before 3 is below 9."""
    rng, spec = np.random.default_rng(seed), tokens_spec(most)
    length = rng.integers(1, most + 1, rows)
    tokens = np.where(rng.random((rows, most)) < 0.15, 3, rng.integers(4, 14, (rows, most)))
    tokens[:, 1:][(tokens[:, 1:] == 3) & (tokens[:, :-1] == 3)] = 13  # no run of them
    known = np.arange(most)[None, :] < length[:, None]
    tokens, values = tokens * known, np.zeros((rows, most), np.int64)
    for row in range(rows):
        for place in range(1, length[row] - 1):
            if tokens[row, place] == 3 and not values[row, place]:
                label, end = int(tokens[row, place - 1] < 9), place + 2
                while end < length[row] and tokens[row, end] in (4, 5, 6):
                    end += 1
                values[row, place + 1], values[row, place + 2 : end] = 1 + 2 * label, 2 + 2 * label
    one = np.ones((rows, most), np.int64) * known
    arrays = {"tokens": tokens, "characters": np.repeat(one[:, :, None], spec["characters"], 2), "shape": one, "length": length}
    return {**{key: value.astype(np.int32) for key, value in arrays.items()}, "present": np.ones(rows, bool)}, Labels(values, known)


def trained(folder: Path, rows: int, kind: str, settings: dict[str, Any], **options: Any) -> Trained:
    (train, labels), (validate, validate_labels) = sentences(rows, 0), sentences(120, 1)
    return train_network(
        TrainData({"note": train}, labels, np.arange(rows, dtype=np.int64), {"note": validate}, validate_labels),
        model=ModelOptions(hidden=32, dropout=0.0),
        encoders={"note": EncoderOptions(kind=kind, settings={"spelling": 4, "word_dropout": 0.0, **settings})},
        specs={"note": tokens_spec(14)},
        head={**PAGE, "tokens": 14},
        options=TrainingOptions.model_validate({"batch": 32, "stop_on": "f1", **options}),
        run_dir=StoragePath.of(folder),
        fingerprint="f",
        fresh=True,
        log=lambda line: None,
    )


def test_training_finds_a_rule_about_neighbours(tmp_path: Path) -> None:
    done = trained(tmp_path, 600, "conv", {"width": 48, "blocks": 1, "dropout": 0.0}, epochs=15, lr=0.02)
    found = [entry["f1"] for entry in done.history]
    assert found[0] < 0.8 and found[done.best_epoch - 1] == max(found) > 0.95


def test_one_shard_and_two_give_the_same_weights(tmp_path: Path) -> None:
    still = {"units": 8, "embedding": 24, "dropout": 0.0}
    runs = [trained(tmp_path / str(shards), 60, "lstm", still, epochs=2, shards=shards, precision="fp64") for shards in (1, 2, 5)]
    for other in runs[1:]:
        assert all((other.weights[name] - weight).abs().max() < 1e-9 for name, weight in runs[0].weights.items())
        assert other.history[-1]["log_loss"] == pytest.approx(runs[0].history[-1]["log_loss"], abs=1e-9)


def test_focal_loss_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="focal"):
        trained(tmp_path, 60, "gru", {}, epochs=1, imbalance="focal")


@pytest.mark.parametrize("name", TOKEN_ENCODERS)
def test_words_are_an_input_of_other_questions_too(name: str) -> None:
    options = {"note": EncoderOptions(kind=name, settings=WIDTH[name])}
    model = build_model(ModelOptions(hidden=10), options, {"note": tokens_spec()}, {"kind": "binary", "classes": ["no", "yes"]})
    arrays = arrays_of(LENGTHS)
    logits = model({"note": arrays})
    assert logits.shape == (8, 1) and logits.isfinite().all()
    logits.sum().backward()
    assert model.eval()({"note": arrays})[:, 0].unique().numel() == 8
