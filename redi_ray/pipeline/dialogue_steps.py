"""Named steps that lead a dialogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from redi_ray.config.dialogues import HandOverStep, OpeningsStep
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.names import BASE
from redi_ray.config.steps import ImportStep, SampleStep
from redi_ray.pipeline.graph import GraphError, Step
from redi_ray.pipeline.rounds import written
from redi_ray.pipeline.training_steps import traces_of


def opening(config: ExperimentConfig, name: str, settings: OpeningsStep, inputs: Mapping[str, str]) -> Iterator[Step]:
    """A step that makes problems of imported dialogues. Raises GraphError where there are none."""
    if not isinstance(found := config.steps.get(written(settings.of)), ImportStep) or found.judge is not None:
        raise GraphError(f"{name}: `of: {settings.of}` is no step `import` of dialogues")
    yield Step(name, "openings", inputs, own=True)


def handing_over(
    config: ExperimentConfig, name: str, settings: HandOverStep, inputs: Mapping[str, str]
) -> Iterator[Step]:
    """A step that hands dialogues over. Raises GraphError where it is the wrong side's turn: only a partner's answers, to a
    dialogue that was handed over with a brief, go back."""
    asked = config.steps.get(written(traces_of(config, inputs["of"])))
    before = config.steps.get(written(asked.problems)) if isinstance(asked, SampleStep) else None
    to_partner = isinstance(before, HandOverStep) and before.brief is not None
    if settings.brief is None and not to_partner:
        raise GraphError(
            f"{name}: `of: {settings.of}` answers no dialogue of a step `hand_over` with `brief`, so there is nobody to hand it "
            "back to; give a `brief` for the partner"
        )
    if settings.brief is not None and to_partner:
        raise GraphError(f"{name}: `of: {settings.of}` is the partner's, and goes back as it is: leave `brief` out")
    yield Step(name, "hand_over", {**inputs, "base": BASE}, settings=settings.settings, own=True)
