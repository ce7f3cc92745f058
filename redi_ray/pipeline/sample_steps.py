"""Named steps on samples and their columns: groups, where samples went wrong, pairs of single steps, scores of tokens, questions
about steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.group_steps import GroupsStep, ScoreStep, TokenWeights
from redi_ray.config.locators import LocateStep
from redi_ray.config.names import BASE
from redi_ray.config.scorers import Grain
from redi_ray.config.step_judges import AskStep, CompareStep, GenerativeJudge, StateStep
from redi_ray.config.steps import RectifyStep
from redi_ray.config.token_steps import ContrastStep
from redi_ray.pipeline.graph import GraphError, Step, Wording
from redi_ray.pipeline.kinds.groups import BY, WEIGHTS
from redi_ray.pipeline.rounds import written

WEIGHED = Wording({WEIGHTS: "weights.column"})
"""What a step that weighs tokens calls the column."""


OnSamples = LocateStep | GroupsStep | ContrastStep | AskStep | StateStep | CompareStep


def on_samples(config: ExperimentConfig, name: str, settings: OnSamples, inputs: Mapping[str, str]) -> Step:
    """A step that locates, groups, contrasts, asks, states or compares. Raises GraphError for what does not fit it."""
    if isinstance(settings, LocateStep):
        return _locating(config, name, settings, inputs)
    if isinstance(settings, GroupsStep):
        return _grouping(config, name, settings, inputs)
    if isinstance(settings, StateStep):
        return _stating(config, name, settings, inputs)
    columns = {AskStep: ("at",), CompareStep: ("column", "to"), ContrastStep: ()}[type(settings)]
    for word in columns:
        _check_column(config, f"{name}: `{word}: {getattr(settings, word)}`", getattr(settings, word), "span")
    base = {} if isinstance(settings, CompareStep) else {"base": BASE}
    return Step(name, settings.do, {**inputs, **base}, settings=settings.settings, own=True)


def _stating(config: ExperimentConfig, name: str, settings: StateStep, inputs: Mapping[str, str]) -> Step:
    """A step that states answers. Raises GraphError for a text that does not go on from the prompt."""
    _check_opening(config, f"{name}: `text", settings.text)
    return Step(name, "state", inputs, settings=settings.settings, own=True)


def _check_opening(config: ExperimentConfig, here: str, text: str | None) -> None:
    """Raise GraphError where an answer would not begin as every answer does that is trained on."""
    prefix = config.model.prompt.prefix
    if text is not None and not text.startswith(prefix.strip()):
        raise GraphError(f"{here}: {text!r}` does not begin with model.prompt.prefix {prefix!r}, as all answers do")


def _locating(config: ExperimentConfig, name: str, settings: LocateStep, inputs: Mapping[str, str]) -> Step:
    """A step that finds where samples went wrong. Raises GraphError for a locator that does not know their world, or that opens
    answers otherwise than the prompt."""
    source = config.problems.source
    if settings.locator.kind == "exact" and source.kind != "arithmetic":
        raise GraphError(
            f"{name}: `locator: {{kind: exact}}` recomputes the chains of the built-in world, and problems.source is of the kind "
            f"`{source.kind}`; take `judge`, `rollouts` or `imported`"
        )
    if isinstance(settings.locator, GenerativeJudge) and settings.locator.model is None:
        _check_opening(config, f"{name}: `opening", settings.locator.opening)
    return Step(name, "locate", inputs, settings=settings.settings, own=True)


def _grouping(config: ExperimentConfig, name: str, settings: GroupsStep, inputs: Mapping[str, str]) -> Step:
    """A step that makes groups. Raises GraphError for columns at another grain than they are used at."""
    for column, grain in settings.columns.items():
        here = f"{name}: `{settings.word_of(column)}: {column}`"
        if isinstance(config.steps.get(written(column)), LocateStep):
            raise GraphError(
                f"{here} is a column of labelled steps, which weigh nothing; `rectify` makes pairs of them"
            )
        _check_column(config, here, column, grain)
    check_weights(config, name, settings.weights)
    limits = {field: getattr(settings, field) for field in ("max_prompt_tokens", "max_response_tokens")}
    limits = {field: most for field, most in limits.items() if most is not None}
    sections = {"curate": config.curate.model_copy(update=limits)} if limits else {}
    words = {BY + column: settings.word_of(column) for column in settings.columns} | dict(WEIGHED.words)
    inputs = {**inputs, "base": BASE}
    return Step(name, "groups", inputs, sections, settings.settings, own=True, wording=Wording(words))


def check_weights(config: ExperimentConfig, name: str, weights: TokenWeights | None) -> None:
    """Raise GraphError where the column that is to weigh tokens does not fit."""
    if weights is not None:
        _check_column(config, f"{name}: `weights.column: {weights.column}`", weights.column, "token")


def _check_column(config: ExperimentConfig, here: str, column: str, grain: Grain) -> None:
    """Raise GraphError where a step makes a column at another grain."""
    step = config.steps.get(written(column))
    if not isinstance(step, ScoreStep | LocateStep | ContrastStep):
        return
    if step.grain != grain:
        raise GraphError(f"{here} is a column at grain {step.grain}, and {grain} is needed there")


def rectifying(
    config: ExperimentConfig, name: str, settings: RectifyStep, inputs: Mapping[str, str], sampling: Any
) -> Iterator[Step]:
    """A step that mends samples, and before it what it needs: where they go wrong, how a model goes on from there, and whether
    that is right. sampling: the section `generate` for it."""
    _check_column(config, f"{name}: `at: {settings.at}`", settings.at, "span")
    starts, samples, checked = (f"{name}-{part}" for part in ("starts", "samples", "verified"))
    said = Wording({}, step=name, kind="rectify")
    here = {"of": inputs["of"], "at": inputs["at"], "base": BASE}
    yield Step(starts, "starts", here, settings=settings.settings, own=True, wording=said)
    column = config.steps.get(written(settings.at))
    form = settings.form or (column.splits_by if isinstance(column, LocateStep) else None)
    choice = settings.settings.model_copy(update={"form": form})
    sections = {"generate": sampling}
    yield Step(samples, "sample", {"problems": starts, "model": inputs["model"]}, sections, own=True, wording=said)
    yield Step(checked, "verify", {"of": samples}, own=True, wording=said)
    yield Step(name, "rectify", {"of": starts, "right": checked}, settings=choice, own=True)
