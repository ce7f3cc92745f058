"""Named steps on variants of problems: what makes them, and what holds models against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.paraphrase import ParaphraseStep
from redi_ray.config.perturb import PerturbStep, RobustnessStep
from redi_ray.config.worlds import BuiltInSource
from redi_ray.data.sources.world_variants import WORLD_PERTURBATIONS
from redi_ray.pipeline.graph import GraphError, Step

PROBLEMS = "problems"
"""The step that has the config's own problems."""


def perturbing(config: ExperimentConfig, name: str, settings: PerturbStep, inputs: Mapping[str, str]) -> Iterator[Step]:
    """A step that makes variants. Raises GraphError for perturbations that the built-in world has none of, and for parts that
    only it has."""
    source = config.problems.source
    if inputs.get("problems") == PROBLEMS and isinstance(source, BuiltInSource):
        known = WORLD_PERTURBATIONS if source.kind == "arithmetic" else {}
        if unknown := [rule for rule in settings.rules if rule not in known]:
            raise GraphError(
                f"{name}: problems.source is the built-in world `{source.kind}`, whose problems have no words, so that "
                f"{', '.join(unknown)} cannot be changed there; what can: {', '.join(known) or 'nothing'}"
            )
    _check_part(config, name, settings)
    yield Step(name, "perturb", inputs, settings=settings.settings, own=True)


def paraphrasing(
    config: ExperimentConfig, name: str, settings: ParaphraseStep, inputs: Mapping[str, str]
) -> Iterator[Step]:
    """A step that has variants written. Raises GraphError for the built-in worlds, whose problems have no words."""
    source = config.problems.source
    if inputs["problems"] == PROBLEMS and isinstance(source, BuiltInSource):
        raise GraphError(
            f"{name}: problems.source is the built-in world `{source.kind}`, whose problems have no words to change; a step "
            "`perturb` makes variants there"
        )
    _check_part(config, name, settings)
    yield Step(name, "paraphrase", inputs, settings=settings.settings, own=True)


def _check_part(config: ExperimentConfig, name: str, settings: PerturbStep | ParaphraseStep) -> None:
    """Raise GraphError for a part that the problems do not have."""
    source = config.problems.source
    if settings.part == "test" and not isinstance(source, BuiltInSource):
        raise GraphError(
            f"{name}: `part: test` is of the built-in worlds; problems.source is of the kind `{source.kind}`, which has "
            "`problems` and `dev`"
        )


def holding_against(
    config: ExperimentConfig, name: str, settings: RobustnessStep, inputs: Mapping[str, str]
) -> Iterator[Step]:
    """A step that compares accuracies. Whether its samples answer variants says the whole graph (`redi_ray.pipeline.asked`)."""
    yield Step(name, "robustness", inputs, settings=settings.settings, own=True)
