"""What named steps make of the config's sections: each its own, with what the step says in place of what the section says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from redi_ray.config.answers import VerifySettings
from redi_ray.config.arms import TRAIN_SETTINGS, merged
from redi_ray.config.curation import CurateConfig
from redi_ray.config.data import SampledTraces, VllmTraces
from redi_ray.config.embedders import Embedder
from redi_ray.config.identity import plain
from redi_ray.config.judges import JudgeSettings
from redi_ray.config.locators import LocateStep, RolloutLocator, StepJudge
from redi_ray.config.names import BASE
from redi_ray.config.objectives import IMITATING
from redi_ray.config.paraphrase import ParaphraseStep, Rewriter
from redi_ray.config.readable import readable_errors
from redi_ray.config.resources import EngineSettings
from redi_ray.config.step_judges import GenerativeJudge
from redi_ray.config.steps import (
    AnyStep,
    CriticalStep,
    PairsStep,
    RectifyStep,
    SampleStep,
    SamplingStep,
    SelectStep,
    VerifyStep,
)
from redi_ray.config.training import TrainSettings
from redi_ray.config.training_steps import TrainStep

if TYPE_CHECKING:
    from redi_ray.config.experiment import ExperimentConfig

Section = VllmTraces | VerifySettings | CurateConfig | TrainSettings
SAMPLE, VERIFY, CURATE = TypeAdapter(VllmTraces), TypeAdapter(VerifySettings), TypeAdapter(CurateConfig)
"""Building one takes longer than the rest of a graph, and a search asks for many."""
ENGINES = {
    SampleStep: ("engine",),
    RectifyStep: ("engine",),
    CriticalStep: ("engine",),
    VerifyStep: ("judge", "engine"),
}
"""Where steps of a kind describe engines of their own."""


def section_of(config: ExperimentConfig, step: AnyStep) -> Section | None:
    """The section that a step works by; None for a kind that has none. Raises ValidationError."""
    if isinstance(step, SamplingStep):
        given = plain(config.generate) if isinstance(config.generate, SampledTraces) else {}
        known = {key: value for key, value in given.items() if key in VllmTraces.model_fields}
        if isinstance(step, RectifyStep | CriticalStep):
            known |= {
                "tools": None,
                "logprobs": False,
                "frontier": None,
            }  # what goes on is the turn that went wrong, which nobody drew
        if step.changes.get("max_rounds") == 1:
            known["frontier"] = None  # which is about later rounds
        if isinstance(step, CriticalStep):
            known["max_rounds"] = 1  # or tokens behind which all is lost would have more continuations
        return SAMPLE.validate_python(merged(known, step.changes | {"kind": "vllm", "model": BASE}))
    if isinstance(step, VerifyStep):
        return VERIFY.validate_python(merged(plain(config.verify), step.changes))
    if isinstance(step, PairsStep):
        return CURATE.validate_python(merged(plain(config.curate), step.changes))
    if isinstance(step, TrainStep):
        shared = config.sft.train if step.objective.name in IMITATING else config.redi.train
        return TRAIN_SETTINGS.validate_python(merged(plain(shared), step.train))
    return None


def mistakes_of(name: str, step: AnyStep, error: ValidationError) -> str:
    """What is wrong with a step's section, in one line."""
    if isinstance(step, TrainStep):
        return readable_errors(error, TRAIN_SETTINGS.json_schema(), f"steps.{name}.train")
    of_section: dict[type[Any], TypeAdapter[Any]] = {
        SampleStep: SAMPLE,
        RectifyStep: SAMPLE,
        CriticalStep: SAMPLE,
        VerifyStep: VERIFY,
        PairsStep: CURATE,
    }
    schema, own = of_section[type(step)].json_schema(), list(type(step).model_fields)
    for hidden in ("kind", "model"):
        if isinstance(step, SamplingStep):
            schema["properties"].pop(hidden)
    return readable_errors(error, schema, f"steps.{name}", more=own)


def sections_of(config: ExperimentConfig) -> Iterator[tuple[str, AnyStep, Section]]:
    """Name, step and section of those that have one; a wrong one is left to the graph, which tells what is wrong."""
    for name, step in config.steps.items():
        try:
            section = section_of(config, step)
        except ValidationError:
            continue
        if section is not None:
            yield name, step, section


def engines_of(config: ExperimentConfig) -> dict[str, EngineSettings | None]:
    """The engines that named steps start, by the field that describes them; None for those of `resources`. Those that they
    share with a section are that section's."""
    found: dict[str, EngineSettings | None] = {}
    for name, step, section in sections_of(config):
        if isinstance(section, VllmTraces):
            engine = section.engine
        elif isinstance(section, VerifySettings) and section.judge is not None and section.judge.model is not None:
            engine = section.judge.engine
        else:
            continue
        path = ENGINES[type(step)]
        assert isinstance(step, SamplingStep | VerifyStep)
        if engine is None or _at(step.changes, path) is not None:
            found[".".join(("steps", name, *path))] = engine
    for name, step in config.steps.items():
        locator = step.locator if isinstance(step, LocateStep) else None
        if isinstance(locator, RolloutLocator):
            found[f"steps.{name}.locator"] = None
        elif isinstance(locator, GenerativeJudge) or (isinstance(locator, StepJudge) and locator.endpoint is None):
            found[f"steps.{name}.locator.engine"] = locator.engine
        if isinstance(step, ParaphraseStep):
            models = {"by": step.by, "judge": step.judge}
            asked = {field: model for field, model in models.items() if model is not None and model.endpoint is None}
            found |= {f"steps.{name}.{field}.engine": model.engine for field, model in asked.items()}
    return found


def judges_of(config: ExperimentConfig) -> dict[str, JudgeSettings | StepJudge | Rewriter]:
    """The models that judge, by the field that describes them; steps that change nothing share that of `verify`."""
    settings = {"verify": config.verify} | {
        f"steps.{name}": section
        for name, step, section in sections_of(config)
        if isinstance(section, VerifySettings) and isinstance(step, VerifyStep) and "judge" in step.changes
    }
    found: dict[str, JudgeSettings | StepJudge | Rewriter] = {
        f"{field}.judge": one.judge for field, one in settings.items() if one.judge is not None
    }
    for name, step in config.steps.items():
        if isinstance(step, LocateStep) and isinstance(step.locator, StepJudge):
            found[f"steps.{name}.locator"] = step.locator
        if isinstance(step, ParaphraseStep):
            found[f"steps.{name}.by"] = step.by
            found |= {} if step.judge is None else {f"steps.{name}.judge": step.judge}
    return found


def curations_of(config: ExperimentConfig) -> dict[str, CurateConfig]:
    """The sections by which pairs are made, by the field that describes them; steps that compare with no other problems share
    that of `curate`."""
    own = {
        f"steps.{name}": section
        for name, step, section in sections_of(config)
        if isinstance(section, CurateConfig) and isinstance(step, PairsStep) and "contamination" in step.changes
    }
    return ({"curate": config.curate} if config.has_line else {}) | own


def all_curations(config: ExperimentConfig) -> dict[str, CurateConfig]:
    """Every section by which pairs are made, by the field that describes it."""
    own = {f"steps.{name}": section for name, _, section in sections_of(config) if isinstance(section, CurateConfig)}
    return ({"curate": config.curate} if config.has_line else {}) | own


def all_embedders(config: ExperimentConfig) -> dict[str, Embedder]:
    """Every embedder that is described, by the field that does."""
    found = {f"{field}.embedder": curate.embedder for field, curate in all_curations(config).items()}
    for name, step in config.steps.items():
        if isinstance(step, SelectStep) and step.diverse is not None:
            found[f"steps.{name}.diverse.embedder"] = step.diverse.embedder
    return {field: embedder for field, embedder in found.items() if embedder is not None}


def placed_steps(
    config: ExperimentConfig, choose: Callable[[EngineSettings], Literal["cpu", "gpu"]]
) -> dict[str, AnyStep]:
    """The steps with the device that `choose` says wherever their changes of a section leave an engine at `auto`. Raises
    ValueError where the rest does not go with it."""
    found, engines = dict(config.steps), engines_of(config)
    for name, step in config.steps.items():
        if not isinstance(step, SamplingStep | VerifyStep):
            continue
        path = ENGINES[type(step)]
        engine = engines.get(".".join(("steps", name, *path)))
        if engine is not None and engine.device == "auto":
            placed = replace(engine, device=choose(engine))  # which says whether it may stand there
            change: dict[str, Any] = {"device": placed.device}
            for key in reversed(path):
                change = {key: change}
            found[name] = step.model_copy(update=merged(step.changes, change))
    return found


def _at(values: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values
