"""YAML 1.2 core, safely: what a page may say, and what it may not."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meddx import yamlconf
from meddx.errors import RecipeError
from meddx.yamlconf import Options, Text, Texts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"), ("yes", "yes"), ("on", "on"), ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("1e-3", 0.001), ("0.5", 0.5), (".5", 0.5), ("7", 7), ("-3", -3), ("0", 0), ("0x1F", 31),
        ("0012", "0012"), ("010", "010"), ("0o7", "0o7"), ("12:30", "12:30"), ("2020-01-31", "2020-01-31"), ("1_000", "1_000"),
        ("<30", "<30"), ('">30"', ">30"), ("[1, NO]", [1, "NO"]), ("=", "="),
    ],
)  # fmt: skip
def test_core_rules(text: str, value: object) -> None:
    found = yamlconf.parse(f"key: {text}")["key"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: !!python/object/apply:os.system [echo]", "tags"),
        ("a: !secret x", "tags"),
        ("a: &x 1\nb: *x", "anchors"),
        ("a: 1\na: 2", "stands twice"),
        ("- 1\n- 2", "not a mapping"),
        ("a: [1, 2", "not readable"),
        ("a: " + "[" * 40 + "]" * 40, "deeper than"),
        ("a: " + "x" * 1_100_000, "larger than"),
    ],
)
def test_refused_pages(text: str, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint) as caught:
        yamlconf.parse(text, "page.yaml")
    assert caught.value.exit_code == 2 and "page.yaml" in str(caught.value)


def test_a_tag_runs_nothing(tmp_path: object) -> None:
    """The twin: PyYAML's own unsafe loader would run this."""
    import yaml

    page = "a: !!python/object/apply:time.time []"
    assert isinstance(yaml.load(page, yaml.UnsafeLoader)["a"], float)  # noqa: S506
    with pytest.raises(RecipeError):
        yamlconf.parse(page)


def test_deep_nesting_is_refused_quickly() -> None:
    start = time.perf_counter()
    with pytest.raises(RecipeError):
        yamlconf.parse("a: " + "{b: " * 5000 + "1" + "}" * 5000)
    assert time.perf_counter() - start < 5


def test_overrides_change_a_copy() -> None:
    page = {"training": {"epochs": 20}, "name": "x"}
    changed = yamlconf.override(page, ["training.epochs=3", "inputs.film.size=64", "positive=[NO, '1.0']"])
    assert changed == {"training": {"epochs": 3}, "name": "x", "inputs": {"film": {"size": 64}}, "positive": ["NO", "1.0"]}
    assert page == {"training": {"epochs": 20}, "name": "x"}
    for bad in ("epochs", "=3", "a..b=1", "name.x=1"):
        with pytest.raises(RecipeError):
            yamlconf.override(page, [bad])


class Inner(Options):
    label: Text = "x"
    labels: Texts = ()


class Page(Options):
    inner: Inner = Inner()


@pytest.mark.parametrize(("said", "kept"), [(1, "1"), ("0012", "0012"), ("NO", "NO"), (0, "0")])
def test_labels_are_text(said: object, kept: str) -> None:
    assert yamlconf.build(Page, {"inner": {"label": said, "labels": said}}, "p").inner == Inner(label=kept, labels=(kept,))


@pytest.mark.parametrize("said", [1.5, True])
def test_a_label_that_yaml_has_changed_is_refused(said: object) -> None:
    with pytest.raises(RecipeError, match="put quotes"):
        yamlconf.build(Page, {"inner": {"label": said}}, "p")


def test_models_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().label = "y"  # type: ignore[misc]


@given(st.dictionaries(st.text(min_size=1), st.integers() | st.text() | st.lists(st.integers()), max_size=6))
def test_fingerprint_ignores_key_order(page: dict[str, object]) -> None:
    assert yamlconf.fingerprint(page) == yamlconf.fingerprint(dict(reversed(page.items())))


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(RecipeError):
        assert isinstance(yamlconf.parse(text), dict)
