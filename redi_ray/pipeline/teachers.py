"""Models that come of a step `model` keep their own architecture: what `model.overrides` changes is the student's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.scorer_base import REWARD
from redi_ray.config.training import ModelOverrides
from redi_ray.pipeline.graph import Step

LOADED = ("model", "right", "wrong", "start", REWARD)
"""Inputs that are models which a step loads to train them or to score with them."""


def as_they_are(config: ExperimentConfig, steps: Iterable[Step]) -> Iterator[Step]:
    """The same steps; those that load such a model see nothing that would change its positions."""
    found = list(steps)
    by_name, overrides = {step.name: step for step in found}, config.model.overrides
    if overrides.unstretched == overrides:
        yield from found
        return
    kept = config.model.model_copy(update={"overrides": overrides.unstretched})
    for step in found:
        models = [name for role, name in step.inputs.items() if role in LOADED]
        beside = step.gives in ("column", "model") and models and all(is_beside(by_name, name) for name in models)
        yield replace(step, sections={**step.sections, "model": kept}) if beside else step


def overrides_of(config: ExperimentConfig, steps: Mapping[str, Step], model: str) -> ModelOverrides:
    """What changes a model when it is loaded."""
    overrides = config.model.overrides
    return overrides.unstretched if is_beside(steps, model) else overrides


def is_beside(steps: Mapping[str, Step], model: str) -> bool:
    """Whether a model comes of a step `model`, trained on from there or merged of such models alone."""
    step, seen = steps.get(model), set[str]()
    while step is not None and step.kind == "train" and step.name not in seen:
        seen.add(step.name)
        step = steps.get(step.inputs["start"])
    if step is None or step.kind != "merge":
        return step is not None and step.kind == "model"
    without = {name: other for name, other in steps.items() if name != step.name}
    return all(is_beside(without, name) for name in step.inputs.values())
