"""YAML text in, plain Python values and frozen models out, with errors that name the key.

YAML 1.2 core rules by replacing PyYAML's resolvers: only true/false are boolean (so `NO` is a label), `1e-3` is a
number, no octal, no sexagesimal, no dates.  A number with leading zeros stays text, for it is a code.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from meddx.errors import RecipeError

MAX_BYTES = 1_000_000
MAX_DEPTH = 24

Model = TypeVar("Model", bound=BaseModel)


class Options(BaseModel):
    """A part of the recipe: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


def _text(value: object) -> object:
    """A code or label as the text in the file: 1 is "1"; 1.50 and true are refused, for YAML has lost their text."""
    if isinstance(value, bool | float):
        raise ValueError(f"put quotes around {value}: a label or code is text")
    return str(value) if isinstance(value, int) else value


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str | int | float) else value


Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_one_or_many)]


class _Loader(yaml.SafeLoader):
    """Safe, YAML 1.2 core, no tags, no aliases, no repeated keys, limited depth."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not allowed: write it out", problem_mark=event.start_mark)
        tag = getattr(event, "tag", None)
        if tag and tag != "!":
            raise yaml.MarkedYAMLError(problem="tags (!...) are not allowed", problem_mark=event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=event.start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = str(self.construct_object(key_node, deep=True))
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen[key] = self.construct_object(value_node, deep=True)
        return seen


def _construct_map(loader: Any, node: Any) -> dict[str, Any]:
    mapping: dict[str, Any] = loader.construct_mapping(node)
    return mapping


def _construct_int(loader: Any, node: Any) -> int:
    return int(loader.construct_scalar(node), 0)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def parse(text: str, name: str = "<text>") -> dict[str, Any]:
    """A YAML page as a dict.  Raises RecipeError with the line for anything that is not plain YAML."""
    if len(text.encode()) > MAX_BYTES:
        raise RecipeError(f"the page is larger than {MAX_BYTES:,} bytes", name, "a recipe is one page")
    try:
        page = _Loader(text).get_single_data()
    except RecursionError as error:
        raise RecipeError(f"nested deeper than {MAX_DEPTH} levels", name) from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise RecipeError(f"not readable as YAML: {getattr(error, 'problem', None) or error}", f"{name}{line}") from error
    if not isinstance(page, dict):
        raise RecipeError("the page is not a mapping of keys to values", name)
    return page


def read(path: Path) -> dict[str, Any]:
    """The page at `path`."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"cannot read the recipe: {error.strerror}", str(path)) from error
    try:
        return parse(raw.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise RecipeError("the recipe is not UTF-8 text", str(path)) from error


def override(page: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The page with `training.epochs=3`-like assignments laid over it; the page itself is not changed."""
    result: dict[str, Any] = json.loads(json.dumps(page))
    for assignment in assignments:
        path, sign, value = assignment.partition("=")
        keys = path.strip().split(".")
        if not sign or not all(keys):
            raise RecipeError(f"an override is key=value, not {assignment!r}", "command line", "for example training.epochs=3")
        target = result
        for key in keys[:-1]:
            step = target.setdefault(key, {})
            if not isinstance(step, dict):
                raise RecipeError(f"{key!r} is not a block of keys", f"override {path}")
            target = step
        target[keys[-1]] = parse(f"value: {value}", f"override {path}")["value"]
    return result


def nearest(key: str, allowed: Iterable[str]) -> str | None:
    """The allowed word most like `key`, or None."""
    found = difflib.get_close_matches(key, list(allowed), n=1, cutoff=0.5)
    return found[0] if found else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _is_dict(annotation: Any) -> bool:
    return get_origin(annotation) is dict or any(_is_dict(part) for part in get_args(annotation) if get_origin(annotation) is not tuple)


def _key(model: type[BaseModel], name: str) -> str:
    return model.model_fields[name].alias or name


def _walk(model: type[BaseModel], path: Sequence[str | int]) -> tuple[list[str], list[str]]:
    """Follow an error's path: (the path as the page has it, the keys known at its end).  Tags of unions are not on the page."""
    models, shown, in_dict = [model], [], False
    for step in path:
        fields = [m.model_fields[name].annotation for m in models for name in m.model_fields if _key(m, name) == step]
        kinds = {m: get_args(m.model_fields["kind"].annotation) for m in models if "kind" in m.model_fields}
        if in_dict or isinstance(step, int):
            in_dict = False
        elif fields:
            models = [inner for field in fields for inner in _models_in(field)]
            in_dict = any(_is_dict(field) for field in fields)
        elif any(step in kind for kind in kinds.values()):
            models = [m for m, kind in kinds.items() if step in kind]
            continue
        elif isinstance(step, str) and step in {m.__name__ for m in models} | {"str", "float", "int", "tuple"}:
            continue  # a member of a plain union
        shown.append(str(step))
    return shown, sorted({_key(m, name) for m in models for name in m.model_fields})


def _explain(model: type[BaseModel], error: Any) -> tuple[str, str]:
    path = [step for step in error["loc"] if not (isinstance(step, str) and step.startswith(("function-", "tagged-", "constrained-")))]
    steps, _ = _walk(model, path)
    shown = ".".join(steps) or "the page"
    if error["type"] == "extra_forbidden":
        _, allowed = _walk(model, path[:-1])
        guess = nearest(str(path[-1]), allowed)
        hint = f"did you mean {guess!r}? " if guess else ""
        return f"unknown key {shown}", f"{hint}known here: {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"the key {shown} is missing", "add it"
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] in {"literal_error", "enum", "union_tag_invalid", "input_kind"}:
        expected = str(error.get("ctx", {}).get("expected") or error.get("ctx", {}).get("expected_tags"))
        value = error["input"].get("kind") if isinstance(error["input"], dict) else error["input"]
        guess = nearest(str(value), re.findall(r"'([^']+)'", expected))
        hint = f"did you mean {guess!r}? " if guess else ""
        return f"{shown}: {_short(value)} is not allowed", f"{hint}allowed: {expected}"
    said = "" if isinstance(error["input"], dict) else f"the page says {_short(error['input'])}"
    return (f"{shown}: {text}" if steps else text), said


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def build(model: type[Model], page: dict[str, Any], name: str) -> Model:
    """The page as a frozen model.  Raises RecipeError naming file, key path, value, allowed values and the nearest key."""
    try:
        return model.model_validate(page)
    except ValidationError as error:
        found = [_explain(model, one) for one in error.errors(include_url=False)]
        more = f"  (and {len(found) - 1} more: {'; '.join(what for what, _ in found[1:4])})" if len(found) > 1 else ""
        raise RecipeError(found[0][0] + more, name, found[0][1]) from None


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same text for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def drop_empty(page: dict[str, Any], keys: Iterable[str]) -> None:
    """Remove those of the keys that say nothing."""
    for key in keys:
        if not page.get(key):
            page.pop(key, None)


def fingerprint(value: Any) -> str:
    """The first 16 hex digits of SHA-256 over the canonical text; key order does not matter."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def keys_of(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str, str]]:
    """(key path, type, description) of every key below `model`, for the README's table and the test that each key is read."""
    rows = []
    for name, field in model.model_fields.items():
        inner = _models_in(field.annotation)
        dotted = f"{prefix}{_key(model, name)}" + (".<name>" if inner and _is_dict(field.annotation) else "")
        rows.append((dotted, _type_name(field.annotation), field.description or ""))
        for one in inner:
            rows += keys_of(one, f"{dotted}.") if one is not model else []  # a block of its own kind has its own keys
    return list(dict.fromkeys(rows))


def _type_name(annotation: Any) -> str:
    if annotation is None or annotation is type(None):
        return "null"
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(parts[0])
    if origin is Literal:
        return " \\| ".join(str(part).replace("|", "\\|").replace("\t", "tab") for part in parts)
    if origin in (Union, UnionType):
        return " \\| ".join(dict.fromkeys(_type_name(part) for part in parts if part is not type(None)))
    if origin is tuple:
        return f"list of {_type_name(parts[0])}"
    if origin is dict:
        return f"block of {_type_name(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "block"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true \\| false"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation))
    )
