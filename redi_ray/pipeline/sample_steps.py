"""Named steps on samples and their columns: selections, groups, where samples went wrong, pairs of single steps, scores of
tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.group_steps import SOFT_TARGETS, GroupsStep, ScoreStep, TokenWeights
from redi_ray.config.locators import LocateStep
from redi_ray.config.names import BASE
from redi_ray.config.posed import PoseStep
from redi_ray.config.scorer_base import COLUMN, MODEL, REWARD, RIGHT, Grain
from redi_ray.config.scorers import RewardScorer, SelfVerificationScorer
from redi_ray.config.step_judges import AskStep, CompareStep, GenerativeJudge, StateStep
from redi_ray.config.steps import BY_COLUMN, AnyStep, CriticalStep, RectifyStep, SelectStep
from redi_ray.config.token_steps import CheckStep, ContrastStep, LogpsStep, SoftTargetsStep
from redi_ray.config.trace_rewards import STEP, TRAJECTORY, StepRewardsScorer, TraceRewardScorer
from redi_ray.config.training_steps import TrainStep
from redi_ray.pipeline.graph import GraphError, Step, Wording
from redi_ray.pipeline.kinds.groups import BY, TOKENS, WEIGHTS
from redi_ray.pipeline.kinds.logps import STORED
from redi_ray.pipeline.rounds import written
from redi_ray.stages.scoring import inputs_of as inputs_of_scorers
from redi_ray.text.self_verification import LABELS as PART_LABELS
from redi_ray.text.steps import LABELS

WEIGHED = Wording({WEIGHTS: "weights.column"})
"""What a step that weighs tokens calls the column."""


def locating(config: ExperimentConfig, name: str, settings: LocateStep, inputs: Mapping[str, str]) -> Iterator[Step]:
    """A step that finds where samples went wrong. Raises GraphError for a locator that does not know their world, or that
    opens answers otherwise than the prompt."""
    source = config.problems.source
    if settings.locator.kind == "exact" and source.kind != "arithmetic":
        raise GraphError(
            f"{name}: `locator: {{kind: exact}}` recomputes the chains of the built-in world, and problems.source is of the kind "
            f"`{source.kind}`; take `judge`, `rollouts` or `imported`"
        )
    if isinstance(settings.locator, GenerativeJudge) and settings.locator.model is None:
        check_opening(config, f"{name}: `opening", settings.locator.opening)
    yield Step(name, "locate", inputs, settings=settings.settings, own=True)


def asking_about(
    config: ExperimentConfig, name: str, settings: AskStep | CompareStep, inputs: Mapping[str, str]
) -> Iterator[Step]:
    """A step on columns of steps. Raises GraphError for columns at another grain."""
    asked = isinstance(settings, AskStep)
    for word in ("at",) if asked else ("column", "to"):
        check_column(config, f"{name}: `{word}: {getattr(settings, word)}`", getattr(settings, word), "span")
    labelled = settings.at if isinstance(settings, AskStep) else settings.to
    _check_labels(config, f"{name}: `{'at' if asked else 'to'}: {labelled}`", labelled, (), must=True)
    base = {"base": BASE} if isinstance(settings, AskStep) else {}
    yield Step(name, settings.do, {**inputs, **base}, settings=settings.settings, own=True)


def stating(config: ExperimentConfig, name: str, settings: StateStep, inputs: Mapping[str, str]) -> Iterator[Step]:
    """A step that states answers. Raises GraphError for a text that does not go on from the prompt."""
    check_opening(config, f"{name}: `text", settings.text)
    yield Step(name, "state", inputs, settings=settings.settings, own=True)


def posing(config: ExperimentConfig, name: str, settings: PoseStep, inputs: Mapping[str, str]) -> Iterator[Step]:
    """A step that makes problems of samples."""
    yield Step(name, "pose", {**inputs, "base": BASE}, settings=settings.settings, own=True)


def check_opening(config: ExperimentConfig, here: str, text: str | None) -> None:
    """Raise GraphError where an answer would not begin as every answer does that is trained on."""
    prefix = config.model.prompt.prefix
    if text is not None and not text.startswith(prefix.strip()):
        raise GraphError(f"{here}: {text!r}` does not begin with model.prompt.prefix {prefix!r}, as all answers do")


def scoring(config: ExperimentConfig, name: str, settings: ScoreStep, inputs: Mapping[str, str]) -> Iterator[Step]:
    """A step that makes a column. Raises GraphError for columns at another grain than they are used at."""
    scorer, words = settings.scorer, {REWARD: "scorer.model", MODEL: "scorer.model", RIGHT: "scorer.samples"}
    if isinstance(scorer, StepRewardsScorer):
        used: dict[str, tuple[str, Grain]] = {column: ("scorer.columns", "span") for column in scorer.columns}
        used |= {} if scorer.trajectory is None else {scorer.trajectory: ("scorer.trajectory", "row")}
    else:
        used = {scorer.column: ("scorer.column", "span")} if isinstance(scorer, TraceRewardScorer) else {}
    for column, (word, grain) in used.items():
        words[COLUMN + column] = word
        check_column(config, f"{name}: `{word}: {column}`", column, grain)
    for column, labels in scorer.columns.items() if isinstance(scorer, StepRewardsScorer) else ():
        _check_labels(config, f"{name}: `scorer.columns.{column}`", column, () if labels == "value" else labels)
    given = {**inputs, **inputs_of_scorers(scorer)}
    yield Step(name, "score", given, settings=scorer, own=True, wording=Wording(words))


def scoring_tokens(
    config: ExperimentConfig,
    name: str,
    settings: ContrastStep | LogpsStep | SoftTargetsStep,
    inputs: Mapping[str, str],
) -> Iterator[Step]:
    """A step in which models say something of each token."""
    yield Step(name, settings.do, {**inputs, "base": BASE}, settings=settings.settings, own=True)


def stored_logps(config: ExperimentConfig, name: str, settings: LogpsStep, inputs: Mapping[str, str]) -> Iterator[Step]:
    """A step that takes what the engine has stored. Whether it has is asked of the whole graph (`redi_ray.pipeline.asked`)."""
    yield Step(
        name, "logps", {**inputs, "base": BASE}, settings=settings.settings, own=True, wording=Wording({STORED: "of"})
    )


def checking_tokens(
    config: ExperimentConfig, name: str, settings: CheckStep, inputs: Mapping[str, str]
) -> Iterator[Step]:
    """A step that holds two columns of tokens against each other. Raises GraphError for columns at another grain."""
    for word in ("column", "to"):
        check_column(config, f"{name}: `{word}: {getattr(settings, word)}`", getattr(settings, word), "token")
    yield Step(name, "check", inputs, settings=settings.settings, own=True)


def grouping(config: ExperimentConfig, name: str, settings: GroupsStep, inputs: Mapping[str, str]) -> Iterator[Step]:
    """A step that makes groups. Raises GraphError for columns at another grain than they are used at."""
    for column, grain in settings.columns.items():
        here = f"{name}: `{settings.word_of(column)}: {column}`"
        if isinstance(config.steps.get(written(column)), LocateStep) and settings.labels is None:
            raise GraphError(
                f"{here} is a column of labelled steps, which weigh nothing; `rectify` makes pairs of them, and "
                "`labels: {right: 1, wrong: 0}` rewards, for an objective on steps with `train: {units: spans}`"
            )
        check_column(config, here, column, grain)
    if settings.spans is not None:
        for field in ("labels", "span_factors"):
            _check_labels(config, f"{name}: `{field}`", settings.spans, getattr(settings, field) or ())
    check_weights(config, name, settings.weights)
    for read, of in settings.token_columns.items():
        said: Grain = "distribution" if read == SOFT_TARGETS else "token"
        check_column(config, f"{name}: `token_columns.{read}: {of.column}`", of.column, said)
    limits = {field: getattr(settings, field) for field in ("max_prompt_tokens", "max_response_tokens")}
    limits = {field: most for field, most in limits.items() if most is not None}
    sections = {"curate": config.curate.model_copy(update=limits)} if limits else {}
    words = {BY + column: settings.word_of(column) for column in settings.columns} | dict(WEIGHED.words)
    words |= {TOKENS + read: f"token_columns.{read}" for read in settings.token_columns}
    inputs = {**inputs, "base": BASE}
    yield Step(name, "groups", inputs, sections, settings.settings, own=True, wording=Wording(words))


def selecting(config: ExperimentConfig, name: str, settings: SelectStep, inputs: Mapping[str, str]) -> Step:
    """A step that takes some of the samples. Raises GraphError for a column at another grain than a number a sample."""
    if BY_COLUMN in inputs:
        check_column(config, f"{name}: `by: {settings.by}`", inputs[BY_COLUMN], "row")
    said = Wording({BY_COLUMN: "by"})
    return Step(name, "select", inputs, settings=settings.wanted, own=True, wording=said)


def check_weights(config: ExperimentConfig, name: str, weights: TokenWeights | None) -> None:
    """Raise GraphError where the column that is to weigh tokens does not fit."""
    if weights is not None:
        check_column(config, f"{name}: `weights.column: {weights.column}`", weights.column, "token")


def check_column(config: ExperimentConfig, here: str, column: str, grain: Grain) -> None:
    """Raise GraphError where a step makes a column at another grain."""
    step = config.steps.get(written(column))
    if not isinstance(step, ScoreStep | LocateStep | ContrastStep | LogpsStep | SoftTargetsStep):
        return
    if step.grain != grain:
        read = (
            f"; a teacher's distributions are read as `{SOFT_TARGETS}`" if "distribution" in (step.grain, grain) else ""
        )
        raise GraphError(f"{here} is a column at grain {step.grain}, and {grain} is needed there{read}")


def _check_labels(
    config: ExperimentConfig, here: str, column: str, labels: Iterable[str], *, must: bool = False
) -> None:
    """Raise GraphError for labels that the spans of a column never have, and of none where there `must` be some."""
    known = _labels_of(config, config.steps.get(written(column)))
    if known == () and (must or [*labels]):
        raise GraphError(
            f"{here} asks for labels, and the spans of `{column}` have numbers alone: its model ranks samples (bradley_terry), "
            "so that a half means nothing. Take a model that was trained by step_bce, step_mse or outcome_bce"
        )
    if known is not None and (unknown := [label for label in labels if label not in known]):
        raise GraphError(f"{here} names {', '.join(unknown)}, and `{column}` labels its spans {', '.join(known)} only")


def _labels_of(config: ExperimentConfig, step: AnyStep | None) -> tuple[str, ...] | None:
    """The labels that the spans of a step's column may have; None where nothing says it."""
    if isinstance(step, LocateStep):
        return LABELS
    if not isinstance(step, ScoreStep):
        return None
    if isinstance(step.scorer, SelfVerificationScorer):
        return PART_LABELS
    if isinstance(step.scorer, StepRewardsScorer):
        return (STEP, TRAJECTORY)
    if not isinstance(step.scorer, RewardScorer) or step.scorer.folder:
        return None
    trained = config.steps.get(written(step.scorer.model))
    ranks = isinstance(trained, TrainStep) and trained.objective.name == "bradley_terry"
    return () if ranks else LABELS


def rectifying(
    config: ExperimentConfig, name: str, settings: RectifyStep, inputs: Mapping[str, str], sampling: Any
) -> Iterator[Step]:
    """A step that mends samples, and before it what it needs: where they go wrong, how a model goes on from there, and whether
    that is right. sampling: the section `generate` for it."""
    check_column(config, f"{name}: `at: {settings.at}`", settings.at, "span")
    _check_labels(config, f"{name}: `labels`", settings.at, settings.labels)
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


def judging_tokens(
    config: ExperimentConfig, name: str, settings: CriticalStep, inputs: Mapping[str, str], sampling: Any
) -> Iterator[Step]:
    """A step that judges a column of tokens by rollouts, and before it what it needs; these do not depend on the column."""
    check_column(config, f"{name}: `column: {settings.column}`", settings.column, "token")
    starts, samples, checked = (f"{name}-{part}" for part in ("starts", "samples", "verified"))
    said = Wording({}, step=name, kind="critical")
    here = {"of": inputs["of"], "base": BASE}
    yield Step(starts, "token_starts", here, settings=settings.settings, own=True, wording=said)
    sections = {"generate": sampling}
    yield Step(samples, "sample", {"problems": starts, "model": inputs["model"]}, sections, own=True, wording=said)
    yield Step(checked, "verify", {"of": samples}, own=True, wording=said)
    inputs = {"of": starts, "right": checked, "column": inputs["column"], "base": BASE}
    yield Step(name, "critical", inputs, settings=settings.settings, own=True)
