"""One YAML page in, one frozen recipe out: composes the rooms' options.

A room gets its own options from here and never sees the page.  Each key lives in one model, in the room that uses it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from meddx import yamlconf
from meddx.dataset.options import CohortOptions, SplitOptions, TargetOptions, TimingOptions
from meddx.errors import RecipeError
from meddx.evaluate.options import ComparisonOptions
from meddx.ingest.options import CaseOptions, SourceOptions
from meddx.inputs.options import EventsInput, InputOptions, TableInput, TextInput
from meddx.models.options import DEFAULT_ENCODER, FITTING, Baseline, BaselineOptions, EncoderOptions, ModelOptions
from meddx.predict.options import Calibration, ThresholdOptions
from meddx.score.options import ScoringOptions
from meddx.train.options import TrainingOptions

CASE_KEYS = ("id", "patient", "site", "predict_at", "zone")
ENVIRONMENT = re.compile(r"\$\{([^}:]*)(?::-([^}]*))?\}")


class Recipe(yamlconf.Options):
    """Everything about one question.  One source needs no ceremony: `data: cases.csv` with `id` and `patient` beside it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="letters, digits, - and _; names the folder of the run")
    sources: dict[str, SourceOptions] = Field(description="the archives; `data: PATH` is short for one")
    case: CaseOptions = Field(description="what a case is; with `data`, its keys may stand at the top")
    cohort: CohortOptions = Field(CohortOptions(), description="who is in")
    target: TargetOptions = Field(description="what is asked")
    timing: TimingOptions = Field(TimingOptions(), description="what was known when")
    inputs: dict[str, InputOptions] = Field(description="what a model may look at")
    split: SplitOptions = Field(SplitOptions(), description="how the cases are parted")
    model: ModelOptions = Field(ModelOptions(), description="the network")
    training: TrainingOptions = Field(TrainingOptions(), description="how it is trained")
    calibration: Calibration | None = Field(None, description="default: logistic for binary and multilabel, temperature for multiclass")
    threshold: ThresholdOptions = Field(ThresholdOptions(), description="where yes begins")
    baselines: tuple[Baseline, ...] = Field(
        (BaselineOptions(kind="prevalence"), BaselineOptions(kind="logistic")),
        description="what it must beat; `prevalence` is always there",
    )
    scoring: ScoringOptions = Field(ScoringOptions(), description="how an archive is scored")
    comparison: ComparisonOptions = Field(ComparisonOptions(), description="what is compared, said before looking")
    out: str | None = Field(None, description="the folder of the run; default runs/<name>")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, page: Any) -> Any:
        if not isinstance(page, dict) or "data" not in page:
            return page
        if "sources" in page:
            raise ValueError("give either `data` or `sources`")
        page = dict(page)
        data = page.pop("data")
        page["sources"] = {"data": {"path": data} if isinstance(data, str) else data}
        case = dict(page.get("case") or {})
        case.update({key: page.pop(key) for key in CASE_KEYS if key in page})
        page["case"] = case
        return page

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        self._check_sources()
        if not self.inputs:
            raise ValueError("inputs: name at least one")
        self._check_encoders()
        self._check_baselines()
        self._check_comparison()
        if self.split.by == "site" and not self.case.site:
            raise ValueError("split.by site needs case.site")
        if self.split.by == "time" and not self.case.predict_column:
            raise ValueError("split.by time needs case.predict_at, the name of a column")
        if self.target.followed_until and not self.case.predict_column:
            raise ValueError("target.followed_until needs case.predict_at, the name of a column")
        return self

    def _check_sources(self) -> None:
        if self.case.source is None and len(self._unjoined) != 1:
            raise ValueError(
                f"sources: one of them holds the cases, the others say `join`; without it: {', '.join(self._unjoined) or 'none'}"
            )
        used = {"case.from": self.case.source, **{f"inputs.{name}.from": one.source for name, one in self.inputs.items()}}
        for key, wanted in used.items():
            if wanted and wanted not in self.sources:
                raise ValueError(f"{key}: there is no source {wanted!r}; sources: {', '.join(self.sources)}")
        for name, source in self.sources.items():
            if (name == self.case_source) == bool(source.join):
                raise ValueError(
                    f"sources.{name}: {'the cases are not joined to themselves' if source.join else 'say how it is joined'}: `join`"
                )
            if source.time and not self.case.predict_at:
                raise ValueError(f"sources.{name}.time: what was known by then needs case.predict_at")
        for name, one in self.inputs.items():
            if isinstance(one, EventsInput) and one.source in (None, self.case_source):
                raise ValueError(f"inputs.{name}: events come from a source that is joined to the cases: name it in `from`")

    def _check_encoders(self) -> None:
        for name, encoder in self.model.encoders.items():
            if name not in self.inputs:
                raise ValueError(f"model.encoders.{name}: there is no such input; inputs: {', '.join(self.inputs)}")
            fitting = FITTING[self.inputs[name].kind]
            if ":" not in encoder.kind and encoder.kind not in fitting:
                what = f"{encoder.kind} is not a network for a {self.inputs[name].kind}"
                raise ValueError(f"model.encoders.{name}: {what}; allowed: {', '.join(fitting)}")

    def _check_baselines(self) -> None:
        labels = [one.label for one in self.baseline_options]
        twice = {label for label in labels if labels.count(label) > 1}
        if twice:
            raise ValueError(f"baselines: {sorted(twice)[0]!r} stands twice: give each its own `name`")
        for one in self.baselines:
            for name in one.inputs:
                if name not in self.inputs:
                    raise ValueError(f"baselines: {one.label} asks for the input {name!r}; inputs: {', '.join(self.inputs)}")

    def _check_comparison(self) -> None:
        kinds = {"best", *(one.label for one in self.baseline_options)}
        primary = self.comparison.primary
        if primary.against not in kinds:
            raise ValueError(f"comparison.primary.against: {primary.against!r} is not a baseline of this page: {', '.join(sorted(kinds))}")
        if primary.model not in (None, self.model.name, *kinds):
            raise ValueError(f"comparison.primary.model: {primary.model!r} is not a model of this page")
        if self.model.name in kinds:
            raise ValueError(f"model.name: {self.model.name!r} is the name of a baseline")
        for name in self.comparison.classes:
            if name not in self.target.classes:
                raise ValueError(f"comparison.classes: {name!r} is not a class of the target: {', '.join(self.target.classes)}")

    @property
    def _unjoined(self) -> list[str]:
        return [name for name, one in self.sources.items() if not one.join]

    @property
    def case_source(self) -> str:
        """The name of the source whose rows are the cases."""
        return self.case.source or self._unjoined[0]

    @property
    def source(self) -> SourceOptions:
        """The source whose rows are the cases."""
        return self.sources[self.case_source]

    @property
    def joined(self) -> dict[str, SourceOptions]:
        """The sources that are joined to the cases, with the columns that must stay text among their `text`."""
        found = {}
        for name, one in self.sources.items():
            if name != self.case_source:
                found[name] = one.model_copy(update={"text": tuple(dict.fromkeys([*one.text, *self._codes_of(name)]))})
        return found

    def _codes_of(self, source: str) -> list[str]:
        """Columns and patterns of one source that inputs read as text."""
        codes: list[str] = []
        for one in self.inputs.values():
            if (one.source or self.case_source) == source:
                codes += one.category if isinstance(one, TableInput) else ()
                codes += [name for name in (one.variable, one.unit) if name] if isinstance(one, EventsInput) else ()
                codes += [one.column] if isinstance(one, TextInput) else []
        return codes

    @property
    def encoders(self) -> dict[str, EncoderOptions]:
        """Every input's network, the defaults filled in."""
        default = {name: EncoderOptions(kind=DEFAULT_ENCODER[one.kind]) for name, one in self.inputs.items()}
        return {**default, **self.model.encoders}

    @property
    def baseline_options(self) -> tuple[BaselineOptions, ...]:
        """The baselines asked for, with `prevalence` in front."""
        rest = tuple(one for one in self.baselines if one.label != "prevalence")
        return (BaselineOptions(kind="prevalence"), *rest)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns or patterns that must stay text from the first byte: ids, codes, labels."""
        case, found = self.case, list(self.source.text)
        found += [name for name in (case.id, case.patient, case.site) if isinstance(name, str) and not name.startswith("@")]
        if self.target.positive_above is None and self.target.kind != "regression":
            found += self.target.answers
        found += self._codes_of(self.case_source)
        if self.split.by == "column" and self.split.column:
            found.append(self.split.column)
        return tuple(dict.fromkeys(found))

    @property
    def never_inputs(self) -> tuple[str, ...]:
        """Columns that `*` does not reach: target, split column, site unless named, prior scores."""
        priors = [one.column for one in self.comparison.prior_scores.values()]
        split = [self.split.column] if self.split.column else []
        return tuple(dict.fromkeys([*self.target.all_columns, *split, *priors]))

    def fingerprint(self, *blocks: str) -> str:
        """Digest of the named blocks (default: all).  Paths, the run's folder and where the work runs do not count."""
        page = self.model_dump(mode="json", by_alias=True)
        page.pop("out")
        for source in page["sources"].values():
            source.pop("path")
            if source["labels"]:
                source["labels"].pop("path")
        page["training"].pop("workers")
        page["training"]["shards"] = self.training.n_shards
        return yamlconf.fingerprint({key: page[key] for key in (blocks or page)})


def load(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe at `path` with `key=value` overrides.  Raises RecipeError."""
    page = yamlconf.override(yamlconf.read(Path(path)), overrides)
    return yamlconf.build(Recipe, fill(page, str(path)), str(path))


def fill(value: Any, name: str) -> Any:
    """`${MEDDX_X}` and `${MEDDX_X:-default}` from the environment, in paths; other variables are refused, they may be secrets."""
    if isinstance(value, dict):
        return {key: fill(one, name) for key, one in value.items()}
    if isinstance(value, list):
        return [fill(one, name) for one in value]
    return ENVIRONMENT.sub(lambda found: _variable(found, name), value) if isinstance(value, str) else value


def _variable(found: re.Match[str], name: str) -> str:
    variable, default = found.group(1), found.group(2)
    if not variable.startswith("MEDDX_"):
        raise RecipeError(f"only variables that begin with MEDDX_ are filled in, not {variable!r}", name)
    value = os.environ.get(variable, default)
    if value is None:
        raise RecipeError(f"the variable {variable} is not set", name, f"set it, or write ${{{variable}:-default}}")
    return value
