"""One YAML page in, one frozen recipe out: composes the rooms' options.

A room gets its own options from here and never sees the page.  Each key lives in one model, in the room that uses it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, model_validator

from meddx import yamlconf
from meddx.dataset.options import CohortOptions, SplitOptions, TargetOptions, TimingOptions
from meddx.environment import fill
from meddx.evaluate.options import ComparisonOptions
from meddx.ingest.options import CaseOptions, SourceOptions
from meddx.inputs.options import EventsInput, InputOptions, TableInput, TextInput, TokensInput
from meddx.models.options import DEFAULT_ENCODER, FITTING, USUAL_BASELINE, Baseline, BaselineOptions, EncoderOptions, ModelOptions
from meddx.predict.options import Calibration, ThresholdOptions
from meddx.score.options import ScoringOptions
from meddx.train.options import TrainingOptions

CASE_KEYS = ("id", "patient", "site", "predict_at", "zone")


class Recipe(yamlconf.Options):
    """Everything about one question.  One source needs no ceremony: `data: cases.csv` with `id` and `patient` beside it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="letters, digits, - and _; names the folder of the run")
    sources: dict[str, SourceOptions] = Field(description="the archives; `data: PATH` is short for one")
    case: CaseOptions = Field(description="what a case is; with `data`, its keys may stand at the top")
    cohort: CohortOptions = Field(CohortOptions(), description="who is in")
    target: TargetOptions = Field(description="what is asked; `targets: {name: ...}` for several that share the network")
    timing: TimingOptions = Field(TimingOptions(), description="what was known when")
    inputs: dict[str, InputOptions] = Field(description="what a model may look at")
    split: SplitOptions = Field(SplitOptions(), description="how the cases are parted")
    model: ModelOptions = Field(ModelOptions(), description="the network")
    training: TrainingOptions = Field(TrainingOptions(), description="how it is trained")
    calibration: Calibration | None = Field(None, description="default: logistic, for multiclass temperature (slope: without biases)")
    threshold: ThresholdOptions = Field(ThresholdOptions(), description="where yes begins")
    baselines: tuple[Baseline, ...] | None = Field(
        None, description="what it must beat; `prevalence` is always there; default logistic, for numbers linear, for tags dictionary"
    )
    scoring: ScoringOptions = Field(ScoringOptions(), description="how an archive is scored")
    comparison: ComparisonOptions = Field(ComparisonOptions(), description="what is compared, said before looking")
    out: str | None = Field(None, description="the folder of the run; default runs/<name>")

    _part: str = PrivateAttr("")
    _whole: Recipe | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, page: Any) -> Any:
        if isinstance(page, dict) and "targets" in page:
            if "target" in page:
                raise ValueError("give either `target` or `targets`")
            page = dict(page)
            page["target"] = {"kind": "several", "of": page.pop("targets")}
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
        self._check_several()
        self._check_comparison()
        self._check_tags()
        if self.split.by == "site" and not self.case.site:
            raise ValueError("split.by site needs case.site")
        if self.split.by == "time" and not self.case.predict_column:
            raise ValueError("split.by time needs case.predict_at, the name of a column")
        if any(one.followed_until for one in self.targets.values()) and not self.case.predict_column:
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
            if encoder.kind == "pretrained" and not self._directory(name):
                raise ValueError(f"model.encoders.{name}: a pretrained network needs inputs.{name}.pretrained, a local directory")

    def _check_baselines(self) -> None:
        labels = [one.label for one in self.baseline_options]
        twice = {label for label in labels if labels.count(label) > 1}
        if twice:
            raise ValueError(f"baselines: {sorted(twice)[0]!r} stands twice: give each its own `name`")
        beside, kinds = self.model.beside, [one.kind for one in self.targets.values()]
        if beside and (beside.kind in ("prevalence", "dictionary") or not all(map(beside.fits, kinds))):
            raise ValueError(f"model.beside: {beside.kind} does not answer a target of kind {self.target.kind} with a network")
        for one in (*(self.baselines or ()), *([beside] if beside else [])):
            if not any(map(one.fits, kinds)):
                raise ValueError(f"baselines: {one.label} does not answer a target of kind {self.target.kind}")
            for name in one.inputs:
                if name not in self.inputs:
                    raise ValueError(f"baselines: {one.label} asks for the input {name!r}; inputs: {', '.join(self.inputs)}")

    def _check_several(self) -> None:
        for name in self.comparison.primaries:
            if name not in self.target.of:
                raise ValueError(f"comparison.primaries: there is no target {name!r}; targets: {', '.join(self.target.of) or 'one alone'}")
        if self.target.of and self.split.folds is not None:
            raise ValueError("split.folds is for one target: give each target a page of its own, or use `parts`")
        if self.target.of and self.training.imbalance != "none":
            raise ValueError("training.imbalance: several targets have no weights in common; use none")

    def _check_tags(self) -> None:
        words = [name for name, one in self.inputs.items() if isinstance(one, TokensInput)]
        if (self.target.kind == "tags") != bool(words) or (words and len(self.inputs) > 1):
            raise ValueError("a target of kind tags goes with one input of kind tokens, and no other kind of target does")
        if words and self.split.folds is not None:
            raise ValueError("split.folds: tags need `parts`")

    def _check_comparison(self) -> None:
        kinds = {"best", *(one.label for one in self.baseline_options)}
        for page in self.questions:
            primary, named = page.comparison.primary, {"best", *(one.label for one in page.baseline_options)}
            where, what = (f"primaries.{page.part}", f"the target {page.part}") if page.part else ("primary", "this page")
            if primary.against not in named:
                said = f"{primary.against!r} is not a baseline of {what}: {', '.join(sorted(named))}"
                raise ValueError(f"comparison.{where}.against: {said}")
            if primary.model not in (None, self.model.name, *named):
                raise ValueError(f"comparison.{where}.model: {primary.model!r} is not a model of {what}")
        if self.model.name in kinds:
            raise ValueError(f"model.name: {self.model.name!r} is the name of a baseline")
        if self.threshold.goal == "macro_f1" and {one.kind for one in self.targets.values()} != {"multiclass"}:
            raise ValueError("threshold.goal: macro_f1 is for a multiclass target")
        known = [name for one in self.targets.values() for name in one.classes]
        for name in (*self.comparison.classes, *self.threshold.classes):
            if name not in known:
                key = "comparison" if name in self.comparison.classes else "threshold"
                raise ValueError(f"{key}.classes: {name!r} is not a class of the target: {', '.join(known)}")

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
                codes += [one.column] if isinstance(one, TextInput | TokensInput) else []
        return codes

    @property
    def encoders(self) -> dict[str, EncoderOptions]:
        """Every input's network, the defaults filled in."""
        default = {name: "pretrained" if self._directory(name) else DEFAULT_ENCODER[one.kind] for name, one in self.inputs.items()}
        return {**{name: EncoderOptions(kind=kind) for name, kind in default.items()}, **self.model.encoders}

    def _directory(self, name: str) -> str | None:
        """The local directory that a text input starts from."""
        one = self.inputs[name]
        return one.pretrained if isinstance(one, TextInput) else None

    @property
    def pretrained(self) -> dict[str, str]:
        """Text inputs to the local directories with their tokenizers, and the weights that their networks start from."""
        return {name: place for name in self.inputs if (place := self._directory(name))}

    @property
    def baseline_options(self) -> tuple[BaselineOptions, ...]:
        """The baselines asked for, with `prevalence` in front."""
        usual = BaselineOptions(kind=USUAL_BASELINE.get(self.target.kind, "logistic"))
        rest = tuple(one for one in ((usual,) if self.baselines is None else self.baselines) if one.label != "prevalence")
        return (BaselineOptions(kind="prevalence"), *rest)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns or patterns that must stay text from the first byte: ids, codes, labels."""
        case, found = self.case, list(self.source.text)
        found += [name for name in (case.id, case.patient, case.site) if isinstance(name, str) and not name.startswith("@")]
        for target in self.targets.values():
            if target.positive_above is None and target.kind not in ("regression", "tags"):
                found += target.answers
        found += self._codes_of(self.case_source)
        if self.split.by == "column" and self.split.column:
            found.append(self.split.column)
        return tuple(dict.fromkeys(found))

    @property
    def never_inputs(self) -> tuple[str, ...]:
        """Columns that `*` does not reach: target, split column, site unless named, prior scores."""
        priors = [one.column for one in self.comparison.prior_scores.values()]
        split = [self.split.column] if self.split.column else []
        return tuple(dict.fromkeys([*self.whole.target.all_columns, *split, *priors]))

    @property
    def targets(self) -> dict[str, TargetOptions]:
        """Every target by its name; one alone has the name ''."""
        return self.target.of or {"": self.target}

    @property
    def questions(self) -> list[Recipe]:
        """One page a target, each with its own verdict; of one target the page itself.  They share dataset, split and network."""
        return [self._about(name, one) for name, one in self.target.of.items()] or [self]

    def _about(self, name: str, target: TargetOptions) -> Recipe:
        primary = self.comparison.primaries.get(name, self.comparison.primary)
        counted, decided = (tuple(one for one in block.classes if one in target.classes) for block in (self.comparison, self.threshold))
        comparison = self.comparison.model_copy(update={"primary": primary, "primaries": {}, "classes": counted})
        threshold = self.threshold.model_copy(update={"classes": decided})
        baselines = None if self.baselines is None else tuple(one for one in self.baselines if one.fits(target.kind))
        page = self.model_copy(update={"target": target, "comparison": comparison, "threshold": threshold, "baselines": baselines})
        page._part, page._whole = name, self
        return page

    @property
    def whole(self) -> Recipe:
        """The page as it was written: of one question of several, the page with all of them."""
        return self._whole or self

    @property
    def part(self) -> str:
        """The name of the target that this page is about, where the page has several; else ''."""
        return self._part

    def fingerprint(self, *blocks: str) -> str:
        """Digest of the named blocks (default: all).  Paths, the run's folder and where the work runs do not count."""
        page = self.model_dump(mode="json", by_alias=True)
        page.pop("out")
        for source in page["sources"].values():
            source.pop("path")
            if source["labels"]:
                source["labels"].pop("path")
        for one in page["inputs"].values():
            one.pop("pretrained", None)  # a path too; what lies there is in the fingerprint of a bundle
        for one in (*page["inputs"].values(), page["scoring"]):
            yamlconf.drop_empty(one, ("limits", "units", "contract"))  # they came later: a page without them is what it was
        page["training"].pop("workers")
        page["training"]["shards"] = self.training.n_shards
        return yamlconf.fingerprint({key: page[key] for key in (blocks or page)})


def load(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe at `path` with `key=value` overrides.  Raises RecipeError."""
    page = yamlconf.override(yamlconf.read(Path(path)), overrides)
    return yamlconf.build(Recipe, fill(page, str(path)), str(path))
