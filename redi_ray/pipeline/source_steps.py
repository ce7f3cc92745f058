"""Named steps on sources: one with columns of its own, several mixed, and verdicts by a number for what brings neither answer nor
tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from redi_ray.config.data import ProblemsStep
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.grades import GradeStep
from redi_ray.config.mixture import MixSettings, MixSource, MixStep
from redi_ray.pipeline.graph import GraphError, Step, Wording
from redi_ray.pipeline.sample_steps import check_column
from redi_ray.pipeline.training_steps import sources_of

LINE = "problems"
"""The step that has the run's own problems."""


def reading(config: ExperimentConfig, name: str, settings: ProblemsStep, inputs: Mapping[str, str]) -> Iterator[Step]:
    """A source of its own."""
    yield Step(name, "problems", settings=settings, own=True)


def mixing(config: ExperimentConfig, name: str, settings: MixStep, inputs: Mapping[str, str]) -> Iterator[Step]:
    """A mixture. Raises GraphError for what is no source."""
    _check_sources(config, f"{name}: `of", settings)
    said = Wording(dict.fromkeys(inputs, "of"))
    yield Step(name, "mix", inputs, settings=settings.settings, own=True, wording=said)


def mixed_line(config: ExperimentConfig, source: MixSource) -> Step:
    """The step `problems` where these are mixed. Raises GraphError for what is no source."""
    _check_sources(config, "problems.source: `of", source)
    settings = MixSettings(**{name: getattr(source, name) for name in MixSettings.model_fields})
    return Step(
        LINE, "mix", {name: name for name in source.of}, settings=settings,
        wording=Wording(dict.fromkeys(source.of, "problems.source.of")),
    )  # fmt: skip


def grading(config: ExperimentConfig, name: str, settings: GradeStep, inputs: Mapping[str, str]) -> Iterator[Step]:
    """Verdicts by a column. Raises GraphError for one at another grain than a number for each trace."""
    check_column(config, f"{name}: `by: {settings.by}`", settings.by, "row")
    yield Step(name, "grade", {**inputs, **sources_of(config, inputs["of"])}, settings=settings.settings, own=True)


def _check_sources(config: ExperimentConfig, here: str, settings: MixSettings) -> None:
    sources = [name for name, step in config.steps.items() if isinstance(step, ProblemsStep)]
    for name in settings.of:
        if name not in sources:
            raise GraphError(
                f"{here}: {name}` is no source: name steps `problems`; what would fit: {', '.join(sources) or 'nothing'}"
            )
