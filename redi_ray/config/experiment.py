"""One YAML is one experiment: every section from problems to report, checked before anything starts."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationInfo, model_validator

from redi_ray.config.answers import VerifySettings
from redi_ray.config.arms import RediConfig, SftConfig
from redi_ray.config.conflicts import data_conflicts, development_conflicts
from redi_ray.config.curation import CurateConfig
from redi_ray.config.data import (
    Columns,
    Generate,
    ImportTraces,
    NoSource,
    NoTraces,
    OpenR1Source,
    ProblemsStep,
    SampledTraces,
    Source,
    VllmTraces,
)
from redi_ray.config.evaluation import EvaluateSettings
from redi_ray.config.imports import with_imported_start
from redi_ray.config.mixture import MixSource
from redi_ray.config.names import BASE, SFT
from redi_ray.config.notify import NotifySettings
from redi_ray.config.objectives import IMITATING
from redi_ray.config.problems import ProblemsConfig
from redi_ray.config.resources import EngineSettings, ResourceSettings, TrainerSettings
from redi_ray.config.search import SearchConfig
from redi_ray.config.section import Strict
from redi_ray.config.step_sections import engines_of, sections_of
from redi_ray.config.steps import AnyStep, ImportStep, Name, Repeat, SamplingStep, VerifyStep
from redi_ray.config.student import ArithmeticModel, ModelConfig, PretrainedModel, ScratchModel
from redi_ray.config.training import TrainSettings
from redi_ray.config.training_steps import TrainStep
from redi_ray.config.worlds import BuiltInSource


def field_of(section: Any, name: str) -> Any:
    """A field of a section that is built, or that is still raw and may be anything; None where there is no such field."""
    return section.get(name) if isinstance(section, dict) else getattr(section, name, None)


CONFLICTS = "conflicts"
"""What a validation's context may hold, see `ExperimentConfig`."""


class Conflicts(ValueError):
    """Sections that contradict each other."""

    def __init__(self, found: list[str]) -> None:
        super().__init__("; ".join(found))
        self.found = found


def voters_of(source: Source) -> list[str]:
    """Verifiers whose votes come with a source's traces."""
    if isinstance(source, OpenR1Source):
        return ["judge", "math_verify"]
    columns: Columns | None = getattr(source, "columns", None)
    return [] if columns is None else list(columns.voted)


class StorageConfig(Strict):
    """Where runs live."""

    root: str = "runs"
    """Local folder or s3://bucket/prefix; the run is `<root>/<name>/`. Workers on other machines need a shared one."""


class ExperimentConfig(Strict):
    """An experiment, from problems to report."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$")
    """The run's folder below `storage.root`: letters, digits, `_`, `-` and `.`, which does not begin it."""
    problems: ProblemsConfig = ProblemsConfig()
    """What to solve."""
    generate: Generate = VllmTraces()
    """Traces: `vllm` and `endpoint` sample them, `import` takes those that come with the problems; `none`, which is meant where
    `steps` has an `import` and this section is not there, leaves out all that comes from traces."""
    verify: VerifySettings = VerifySettings()
    """Which traces are correct."""
    curate: CurateConfig = CurateConfig()
    """Positives and pairs."""
    model: ModelConfig = ModelConfig()
    """The student."""
    sft: SftConfig = SftConfig()
    """Stage 1."""
    redi: RediConfig = RediConfig()
    """Stage 2."""
    steps: dict[Name, AnyStep] = {}
    """Steps beside these, by name: they take `problems`, `traces`, `verified`, `curated`, `base`, `sft`, the arms, and each
    other (`redi-ray graph` draws them all)."""
    repeat: Repeat | None = None
    """Rounds of some of these steps."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """Benchmarks, and how they are sampled."""
    search: SearchConfig | None = None
    """What `redi-ray tune` varies; every other command leaves it aside."""
    storage: StorageConfig = StorageConfig()
    """Where it all goes."""
    resources: ResourceSettings = ResourceSettings()
    """Ray, engines, workers."""
    notify: NotifySettings = NotifySettings()
    """Who hears how the run has ended."""

    @property
    def run_uri(self) -> str:
        """`<root>/<name>`."""
        return f"{self.storage.root.rstrip('/')}/{self.name}"

    @property
    def engines(self) -> dict[str, EngineSettings]:
        """The pools of vLLM engines that the stages start, by the field that describes them; a pool that nothing uses is
        none."""
        judge, guided = self.verify.judge, self.evaluate.guided
        own = {
            "generate.engine": [self.generate.engine] if isinstance(self.generate, VllmTraces) else [],
            "verify.judge.engine": [judge.engine] if judge is not None and judge.model is not None else [],
            "evaluate.guided.judge.engine": [guided.judge.engine]
            if guided is not None and guided.judge is not None
            else [],
            **{field: [engine] for field, engine in engines_of(self).items()},
        }
        found = {field: engine for field, engines in own.items() for engine in engines if engine is not None}
        shared = any(engines == [None] for engines in own.values())
        if self.evaluate.any_problems or self.search is not None or shared:
            found["resources.engine"] = self.resources.engine
        return found

    @model_validator(mode="before")
    @classmethod
    def _what_is_not_written(cls, raw: Any) -> Any:
        """Where problems come from elsewhere, or there are none, benchmarks that nobody names are none."""
        if not isinstance(raw, dict):
            return raw
        raw = with_imported_start(raw)
        evaluate = raw.get("evaluate") or {}
        kind = field_of(field_of(raw.get("problems"), "source"), "kind")
        if (
            kind in (None, "arithmetic", "tool_arithmetic", "queries")
            or not isinstance(evaluate, dict)
            or "benchmarks" in evaluate
        ):
            return raw
        return {**raw, "evaluate": {**evaluate, "benchmarks": []}}

    @property
    def trainers(self) -> dict[str, TrainerSettings]:
        """The sets of workers that the stages start, by the field that describes them."""
        own = {"redi.trainer": self.redi.trainer} if self.redi.trainer is not None else {}
        return {"resources.trainer": self.resources.trainer, **own}

    @property
    def trainings(self) -> dict[str, TrainSettings]:
        """Settings of each training, by the field that describes them; arms that change nothing share a field."""
        stage1 = {"sft.train": self.sft.train} if self.has_line else {}
        arms = {f"redi.arms.{arm}.train" if self.redi.arms[arm].train else "redi.train": arm for arm in self.redi.arms}
        named = {f"steps.{name}.train": train for name, train in self._trained_by_steps().items()}
        return {**stage1, **{field: self.redi.settings(arm) for field, arm in arms.items()}, **named}

    @property
    def imports(self) -> dict[str, ImportStep]:
        """The steps that import what is learnt from, by name."""
        return {name: step for name, step in self.steps.items() if isinstance(step, ImportStep)}

    def _trained_by_steps(self) -> dict[str, TrainSettings]:
        return {name: section for name, _, section in sections_of(self) if isinstance(section, TrainSettings)}

    @property
    def sources(self) -> dict[str, Source]:
        """Where the run's own problems come from, by the field that describes it; of a mixture what it is mixed of."""
        source = self.problems.source
        if not isinstance(source, MixSource):
            return {"problems.source": source}
        named = {name: self.steps.get(name) for name in source.of}
        return {f"steps.{name}.source": step.source for name, step in named.items() if isinstance(step, ProblemsStep)}

    def columns_with(self, field: str) -> list[Columns]:
        """The column maps of the run's own problems that name this column."""
        maps = (getattr(source, "columns", None) for source in self.sources.values())
        return [columns for columns in maps if isinstance(columns, Columns) and getattr(columns, field)]

    @property
    def has_problems(self) -> bool:
        """Whether there are problems, or only sets that are imported."""
        return not isinstance(self.problems.source, NoSource)

    @property
    def has_line(self) -> bool:
        """Whether there are traces, and what comes from them: verdicts, curation, stage 1, arms."""
        return not isinstance(self.generate, NoTraces)

    @property
    def teacher_is_base(self) -> bool:
        """Whether this run's own base model writes the traces."""
        return isinstance(self.generate, VllmTraces) and self.generate.model == BASE

    @property
    def probes(self) -> list[str]:
        """The trainings that measure development accuracy: `sft`, arms of stage 2, and named steps."""
        arms = {arm: self.redi.settings(arm) for arm in self.redi.arms}
        trained = {**({SFT: self.sft.train} if self.has_line else {}), **arms, **self._trained_by_steps()}
        return [name for name, settings in trained.items() if settings.probe is not None]

    @model_validator(mode="after")
    def _sections_agree(self, info: ValidationInfo) -> ExperimentConfig:
        """Raises Conflicts; where the context of the validation has a list of that name, they are put there instead."""
        checks = (
            lambda: data_conflicts(self),
            self._trace_conflicts,
            self._vote_conflicts,
            lambda: development_conflicts(self),
            self._model_conflicts,
        )
        found = [conflict for check in checks for conflict in check()]
        kept = (info.context or {}).get(CONFLICTS)
        if kept is not None:
            kept += found
        elif found:
            raise Conflicts(found)
        return self

    def _trace_conflicts(self) -> list[str]:
        found = []
        if isinstance(self.generate, ImportTraces):
            for field, source in self.sources.items():
                columns = getattr(source, "columns", None)
                if not isinstance(source, OpenR1Source) and (columns is None or columns.completion is None):
                    found.append(
                        f"generate.kind is `import`, but {field} holds no traces: set {field}.columns.completion"
                    )
        if isinstance(self.generate, SampledTraces):
            prompt = self.generate.prompt
            if prompt is not None and prompt.prefix != self.model.prompt.prefix:
                found.append(
                    f"generate.prompt.prefix {prompt.prefix!r} differs from model.prompt.prefix "
                    f"{self.model.prompt.prefix!r}: traces are stored with it, so they must be equal"
                )
            engine = (self.generate.engine if isinstance(self.generate, VllmTraces) else None) or self.resources.engine
            stops = isinstance(self.generate, VllmTraces) and self.generate.loops.stop
            if stops and "scheduler_cls" in engine.engine_kwargs:
                found.append("generate.loops.stop needs the engine's scheduler: set it to false, or drop scheduler_cls")
        return found

    def _vote_conflicts(self) -> list[str]:
        """Traces of a step are always sampled, and those of `traces` are as `generate` says."""
        sampled = isinstance(self.generate, SampledTraces)
        found = self._votes_that_nothing_casts("verify", self.verify, sampled)
        for name, step, section in sections_of(self):
            if isinstance(step, VerifyStep) and isinstance(section, VerifySettings):
                found += self._votes_that_nothing_casts(f"steps.{name}", section, sampled or step.of != "traces")
        return found

    def _votes_that_nothing_casts(self, place: str, section: VerifySettings, sampled: bool) -> list[str]:
        tested = bool(self.columns_with("tests")) and section.tests is not None
        there = ["math_verify", *(["judge"] if section.judge is not None else []), *(["tests"] if tested else [])]
        if not sampled:
            cast = dict.fromkeys(name for source in self.sources.values() for name in voters_of(source))
            there += [name for name in cast if name not in there]
        missing = [name for name in section.votes if name not in there]
        if sampled and missing and len(missing) == len(section.votes):
            return [
                f"{place}.votes must hold math_verify when traces are sampled, or {place}.judge must be set: nothing else can "
                "judge them"
            ]
        found = []
        for name in missing:
            ways = {"judge": f"set {place}.judge", "label": "set problems.source.columns.label"}
            way = ways.get(name, f"name its column in problems.source.columns.votes.{name}")
            if sampled and name != "judge":
                way = "no votes come with sampled traces"
            found.append(
                f"{place}.votes holds {name}, but nothing casts its votes: {way}; there are {', '.join(there)}"
            )
        return found

    def _model_conflicts(self) -> list[str]:
        init, found = self.model.init, []
        if isinstance(init, ArithmeticModel) and not isinstance(self.problems.source, BuiltInSource):
            found.append(
                "model.init.kind is `arithmetic`, which needs problems.source.kind: arithmetic or another world"
            )
        if isinstance(init, ScratchModel) and not self.has_line and not self.imports:
            found.append(
                "model.init.kind is `scratch`, whose tokenizer is learnt from traces or imported sets: there are none"
            )
        if isinstance(init, ScratchModel) and self.teacher_is_base:
            found.append("generate.model is `base`, but model.init.kind is `scratch`: untrained weights cannot teach")
        students = {"resources.engine"} | ({"generate.engine"} if self.teacher_is_base else set())
        students |= {f"steps.{name}.engine" for name, step in self.steps.items() if isinstance(step, SamplingStep)}
        students |= {
            f"steps.{name}.locator.engine" for name, step in self.steps.items() if getattr(step, "needs_model", False)
        }
        if isinstance(init, PretrainedModel) and self.model.overrides.trust_remote_code:
            found += [
                f"model.overrides.trust_remote_code is set, but not {field}.engine_kwargs: {{trust_remote_code: true}}: the "
                "engine would read the student otherwise than training does"
                for field, engine in self.engines.items()
                if field in students and not engine.trusts_code
            ]
        batches = {"sft.train": self.sft.train.batch_size} if self.has_line else {}
        for name, train in self._trained_by_steps().items():
            step = self.steps[name]
            if self.redi.trainer is None or (isinstance(step, TrainStep) and step.objective.name in IMITATING):
                batches[f"steps.{name}.train"] = train.batch_size
        most = self.resources.trainer.pool[1]
        found += [
            f"resources.trainer.num_workers {most} is larger than {field}.batch_size {size}: some ranks would never have work"
            for field, size in batches.items()
            if most > size
        ]
        return found
