"""A named training as steps of the graph, and what steps before it need: the section that a step changes, and the problems whose
traces it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from redi_ray.config.data import ProblemsStep
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.grades import GradeStep
from redi_ray.config.load import ConfigError
from redi_ray.config.mixture import MixSource, MixStep
from redi_ray.config.names import BASE, DEV
from redi_ray.config.objectives import IMITATING
from redi_ray.config.rollout_objectives import Rehearsal
from redi_ray.config.step_judges import StateStep
from redi_ray.config.step_sections import mistakes_of, section_of
from redi_ray.config.steps import AnyStep, PairsStep, SampleStep, SelectStep, VerifyStep
from redi_ray.config.training_steps import TrainStep
from redi_ray.pipeline.graph import Step, Wording
from redi_ray.pipeline.rounds import ROUND, last_round, round_of, written
from redi_ray.stages.groups import Learnt
from redi_ray.stages.training import REHEARSED, Recipe


def curation(config: ExperimentConfig, traces: str) -> dict[str, str]:
    """What curation takes beside verified traces: the base model, and their problems."""
    return {"problems": problems_of(config, traces), "base": BASE}


def problems_of(config: ExperimentConfig, name: str) -> str:
    """The problems, in this round, whose traces these are, with verdicts or without: the config's, or those that a step makes."""
    traces = traces_of(config, name)
    step = config.steps.get(written(traces))
    return in_this_round(config, traces, step.problems) if isinstance(step, SampleStep | StateStep) else "problems"


def sources_of(config: ExperimentConfig, traces: str) -> dict[str, str]:
    """What a step on traces takes besides, to know tests and sources: their problems, where these are no single source of the
    run's own."""
    name = problems_of(config, traces)
    step = config.steps.get(written(name))
    mixed = isinstance(config.problems.source, MixSource) if name == "problems" else False
    return {"problems": name} if mixed or isinstance(step, ProblemsStep | MixStep) else {}


def traces_of(config: ExperimentConfig, name: str) -> str:
    """The step that has made these traces, in this round, before they had verdicts or were selected."""
    step = config.steps.get(written(name))
    if isinstance(step, VerifyStep | SelectStep | GradeStep):
        return traces_of(config, in_this_round(config, name, step.of))
    return "traces" if name == "verified" else name


def in_this_round(config: ExperimentConfig, name: str, of: str) -> str:
    """What a step of this name means by another one's name."""
    repeated, number = config.repeat is not None and of in config.repeat.steps, round_of(name)[1]
    return f"{of}{ROUND}{number}" if repeated and number else last_round(config, of)


def training(config: ExperimentConfig, name: str, settings: TrainStep, inputs: Mapping[str, str]) -> Iterator[Step]:
    """A training, and before it the curation of verified traces that it learns from as they are."""
    imitates = settings.objective.name in IMITATING
    train = section_for(config, name, settings)
    trainer = (None if imitates else config.redi.trainer) or config.resources.trainer
    source = config.steps.get(written(inputs["groups"]))
    any_groups = source is not None and not isinstance(source, VerifyStep | SelectStep | GradeStep | PairsStep)
    kind: Learnt = "examples" if imitates else "pairs"
    again = settings.rehearse
    rehearsal = None if again is None else Rehearsal(objective=again.objective, batch_size=again.batch_size)
    recipe = Recipe(settings.objective, train, trainer, kind, True, rehearsal, any_groups)
    traces, given = ("groups", "verified"), dict[str, str]()
    for role, suffix in (("groups", "pairs"), (REHEARSED, REHEARSED)):
        if role in inputs:
            given[role] = of = inputs[role]
            if of == "verified" or isinstance(config.steps.get(written(of)), VerifyStep | SelectStep | GradeStep):
                given[role] = f"{name}-{suffix}"
                said = Wording({"of": WORDS[role]}, {"of": traces}, step=name, kind="train")
                yield Step(given[role], "pairs", {"of": of, **curation(config, of)}, own=True, wording=said)
    said = Wording({"start": "from", **WORDS}, {"groups": traces, REHEARSED: traces})
    made = training_step(name, recipe, inputs["start"], given.pop("groups"))
    yield replace(made, inputs={**made.inputs, **given}, own=True, wording=said)


WORDS = {"groups": "on", REHEARSED: "rehearse.on"}
"""What a training takes, as its step says it."""


def training_step(name: str, recipe: Recipe, start: str, groups: str) -> Step:
    """A training of a model by a recipe, measured on development problems where the recipe says so."""
    measured = {"dev": DEV} if recipe.settings.probe is not None else {}
    return Step(name, "train", {"start": start, "groups": groups, "base": BASE, **measured}, settings=recipe)


def section_for(config: ExperimentConfig, name: str, settings: AnyStep) -> Any:
    """A section of the config with a step's changes; ConfigError names the step and the key."""
    try:
        return section_of(config, settings)
    except ValidationError as error:
        raise ConfigError(mistakes_of(written(name), settings, error)) from None
