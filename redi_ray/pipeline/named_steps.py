"""The steps that a config names beside the standard line: each with what it takes and what it needs before it, those of `repeat`
once for every round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from redi_ray.config.data import ProblemsStep
from redi_ray.config.dialogues import HandOverStep, OpeningsStep
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.grades import GradeStep
from redi_ray.config.group_steps import GroupsStep, ScoreStep
from redi_ray.config.locators import LocateStep
from redi_ray.config.mixture import MixStep
from redi_ray.config.names import BASE, TAKEN
from redi_ray.config.paraphrase import ParaphraseStep
from redi_ray.config.perturb import PerturbStep, RobustnessStep
from redi_ray.config.posed import PoseStep
from redi_ray.config.reflection import ReflectStep
from redi_ray.config.self_verification import ExamineStep, SelfVerifyStep
from redi_ray.config.step_judges import AskStep, CompareStep, StateStep
from redi_ray.config.steps import (
    AnyStep,
    CriticalStep,
    ImportStep,
    PairsStep,
    RectifyStep,
    Repeat,
    SampleStep,
    SelectStep,
    VerifyStep,
)
from redi_ray.config.student import ArithmeticModel
from redi_ray.config.token_steps import CheckStep, ContrastStep, LogpsStep, SoftTargetsStep
from redi_ray.config.training_steps import MergeStep, ModelStep, TrainStep
from redi_ray.config.worlds import BuiltInSource
from redi_ray.errors import Gathered, listed
from redi_ray.pipeline.dialogue_steps import handing_over, opening
from redi_ray.pipeline.graph import GraphError, Step, Wording
from redi_ray.pipeline.kinds.groups import BY, TOKENS, WEIGHTS
from redi_ray.pipeline.kinds.logps import STORED
from redi_ray.pipeline.kinds.pose import GUIDES
from redi_ray.pipeline.kinds.robustness import TO
from redi_ray.pipeline.rounds import ROUND, last_round
from redi_ray.pipeline.sample_steps import (
    WEIGHED,
    asking_about,
    check_weights,
    checking_tokens,
    grouping,
    judging_tokens,
    locating,
    posing,
    rectifying,
    scoring,
    scoring_tokens,
    selecting,
    stating,
    stored_logps,
)
from redi_ray.pipeline.source_steps import grading, mixing, reading
from redi_ray.pipeline.training_steps import curation, section_for, sources_of, traces_of, training
from redi_ray.pipeline.variant_steps import holding_against, paraphrasing, perturbing
from redi_ray.stages.training import REHEARSED


def named_steps(config: ExperimentConfig, gathered: Gathered) -> tuple[list[Step], set[str]]:
    """The steps of `steps`, and the names of those that a mistake of their own keeps out. gathered: keeps these mistakes, which
    are GraphErrors, or ConfigErrors where a step's settings are wrong."""
    whose, errors = TAKEN | {arm: f"the arm redi.arms.{arm}" for arm in config.redi.arms}, len(gathered.errors)
    if taken := [f"steps.{name}: the name is that of {whose[name]}" for name in config.steps if name in whose]:
        with gathered():
            raise listed(GraphError, "names", [f"{one}; give the step another one" for one in taken])
    if config.repeat is not None:
        with gathered():
            _check_repeat(config, config.repeat)
    if len(gathered.errors) > errors:  # nothing can be said of what takes such steps
        return [], set(config.steps)
    found, left_out = list[Step](), set[str]()
    for name, settings, called in _in_rounds(config):
        left_out.add(name)
        with gathered():
            found += list(_named(config, name, settings, called))
            left_out.remove(name)
    return found, left_out


def _in_rounds(config: ExperimentConfig) -> Iterator[tuple[str, AnyStep, Mapping[str, str]]]:
    """Every step with its name, those of `repeat` once for every round, and what it means by the names of such steps."""
    repeat, rounds = config.repeat, config.repeat.steps if config.repeat is not None else []
    last = {name: last_round(config, name) for name in rounds}
    yield from ((name, settings, last) for name, settings in config.steps.items() if name not in rounds)
    for number in range(1, repeat.times + 1) if repeat is not None else ():
        assert repeat is not None
        called = {name: f"{name}{ROUND}{number}" for name in rounds}
        if number > 1:
            called |= {old: f"{new}{ROUND}{number - 1}" for old, new in repeat.carry.items()}
        yield from ((f"{name}{ROUND}{number}", config.steps[name], called) for name in rounds)


def _check_repeat(config: ExperimentConfig, repeat: Repeat) -> None:
    """Raise GraphError for rounds of what is no step, or that would be the one before once more, or take what they make
    themselves."""
    rounds, carry = repeat.steps, repeat.carry
    unknown = [name for name in rounds if name not in config.steps]
    if unknown := [*unknown, *(name for name in carry.values() if name not in rounds)]:
        raise GraphError(
            f"repeat: {', '.join(unknown)} is no repeated step; `repeat.steps` names some of `steps` "
            f"({', '.join(config.steps) or 'there are none'}), and `carry` ends in one of those"
        )
    if twice := [name for name in dict.fromkeys(rounds) if rounds.count(name) > 1]:
        raise GraphError(f"repeat: `steps` names {', '.join(twice)} twice; a round makes each step once")
    if own := [name for name in carry if name in rounds]:
        raise GraphError(
            f"repeat: `carry` replaces {', '.join(own)}, which each round makes itself; name what the first round takes instead"
        )
    used = {name for step in rounds for name in inputs_of(config.steps[step]).values()}
    if idle := [name for name in carry if name not in used]:
        raise GraphError(
            f"repeat: `carry` replaces {', '.join(idle)}, which none of {', '.join(rounds)} takes, so every round would be the "
            f"same; they take {', '.join(sorted(used - set(rounds)))}"
        )


def inputs_of(settings: AnyStep) -> dict[str, str]:
    """What a named step takes: the kind's word for it -> a step's name."""
    return {role: name for role, name in TAKES[type(settings)](settings).items() if name is not None}


def _weights(settings: PairsStep | GroupsStep) -> dict[str, str]:
    return {} if settings.weights is None else {WEIGHTS: settings.weights.column}


TAKES: dict[type[Any], Callable[[Any], Mapping[str, str | None]]] = {
    ImportStep: lambda step: {},
    ProblemsStep: lambda step: {},
    MixStep: lambda step: {name: name for name in step.of},
    SampleStep: lambda step: {"problems": step.problems, "model": step.model},
    VerifyStep: lambda step: {"of": step.of},
    GradeStep: lambda step: {"of": step.of, "by": step.by},
    SelectStep: lambda step: step.inputs,
    ScoreStep: lambda step: {"of": step.of, **step.scorer.taken},
    LocateStep: lambda step: {"of": step.of, "model": step.model},
    ContrastStep: lambda step: {"of": step.of, "right": step.right, "wrong": step.wrong},
    LogpsStep: lambda step: {"of": step.of, "model": step.model},
    SoftTargetsStep: lambda step: {"of": step.of, "model": step.model},
    CheckStep: lambda step: {"of": step.of, "column": step.column, "to": step.to},
    GroupsStep: lambda step: {
        "of": step.of,
        **{BY + name: name for name in step.columns},
        **_weights(step),
        **{TOKENS + name: column.column for name, column in step.token_columns.items()},
    },
    ExamineStep: lambda step: {"of": step.of},
    SelfVerifyStep: lambda step: {"of": step.of, "checks": step.checks},
    RectifyStep: lambda step: {"of": step.of, "at": step.at, "model": step.model},
    CriticalStep: lambda step: {"of": step.of, "column": step.column, "model": step.model},
    AskStep: lambda step: {"of": step.of, "at": step.at},
    StateStep: lambda step: {"problems": step.problems},
    OpeningsStep: lambda step: {"of": step.of},
    HandOverStep: lambda step: {"of": step.of},
    PoseStep: lambda step: {"of": step.of, GUIDES: step.guides},
    CompareStep: lambda step: {"of": step.of, "column": step.column, "to": step.to},
    ReflectStep: lambda step: {"of": step.of},
    PerturbStep: lambda step: {"problems": step.source, "traces": step.traces},
    ParaphraseStep: lambda step: {"problems": step.problems},
    RobustnessStep: lambda step: {"of": step.of, TO: step.to},
    PairsStep: lambda step: {"of": step.of, "chosen_of": step.chosen_of, **_weights(step)},
    TrainStep: lambda step: {
        "start": step.start,
        "groups": step.on,
        REHEARSED: step.rehearse.on if step.rehearse is not None else None,
    },
    MergeStep: lambda step: {name: name for name in step.of},
    ModelStep: lambda step: {},
}
"""What steps of each class take; what is null is not taken."""


def _named(config: ExperimentConfig, name: str, settings: AnyStep, called: Mapping[str, str]) -> Iterator[Step]:
    """The step, its inputs under the names that they have in this round, and what it needs before it."""
    if isinstance(settings, MergeStep):
        yield _merging(name, settings, called)
        return
    inputs = {role: called.get(of, of) for role, of in inputs_of(settings).items()}
    yield from MADE[type(settings)](config, name, settings, inputs)


def _merging(name: str, settings: MergeStep, called: Mapping[str, str]) -> Step:
    shares = dict[str, float]()
    for of, share in settings.of.items():  # two names may mean one step in this round
        shares[called.get(of, of)] = shares.get(called.get(of, of), 0.0) + share
    words = Wording(dict.fromkeys(shares, "of"))
    return Step(name, "merge", {of: of for of in shares}, settings=shares, wording=words)


Inputs = dict[str, str]


def _importing(config: ExperimentConfig, name: str, settings: ImportStep, inputs: Inputs) -> Iterator[Step]:
    yield Step(name, "import", settings=settings, own=True)


def _sampling(config: ExperimentConfig, name: str, settings: SampleStep, inputs: Inputs) -> Iterator[Step]:
    yield Step(name, "sample", inputs, {"generate": section_for(config, name, settings)}, own=True)


def _verifying(config: ExperimentConfig, name: str, settings: VerifyStep, inputs: Inputs) -> Iterator[Step]:
    taken = inputs | sources_of(config, inputs["of"])
    yield Step(name, "verify", taken, {"verify": section_for(config, name, settings)}, own=True)


def _having(config: ExperimentConfig, name: str, settings: ModelStep, inputs: Inputs) -> Iterator[Step]:
    """Raises GraphError for the built-in world's model where problems come from elsewhere."""
    if isinstance(settings.init, ArithmeticModel) and not isinstance(config.problems.source, BuiltInSource):
        raise GraphError(
            f"{name}: init.kind is `arithmetic`, which needs problems.source.kind: arithmetic or another world"
        )
    problems = {"problems": "problems"} if config.has_problems else {}
    yield Step(name, "model", {**inputs, **problems}, settings=settings, own=True)


def _selecting(config: ExperimentConfig, name: str, settings: SelectStep, inputs: Inputs) -> Iterator[Step]:
    yield selecting(config, name, settings, inputs | sources_of(config, inputs["of"]))


def _examining(config: ExperimentConfig, name: str, settings: ExamineStep, inputs: Inputs) -> Iterator[Step]:
    yield Step(name, "examine", {**inputs, "base": BASE}, settings=settings.settings, own=True)


def _self_verifying(config: ExperimentConfig, name: str, settings: SelfVerifyStep, inputs: Inputs) -> Iterator[Step]:
    yield Step(name, "self_verify", inputs, settings=settings.settings, own=True)


def _reflecting(config: ExperimentConfig, name: str, settings: ReflectStep, inputs: Inputs) -> Iterator[Step]:
    yield Step(name, "reflect", inputs, settings=settings.settings, own=True)


def _pairing(config: ExperimentConfig, name: str, settings: PairsStep, inputs: Inputs) -> Iterator[Step]:
    sections = {"curate": section_for(config, name, settings)}
    check_weights(config, name, settings.weights)
    yield Step(
        name, "pairs", inputs | curation(config, inputs["of"]), sections, settings.weights, own=True, wording=WEIGHED
    )


def _logps(config: ExperimentConfig, name: str, settings: LogpsStep, inputs: Inputs) -> Iterator[Step]:
    if settings.model is not None:
        return scoring_tokens(config, name, settings, inputs)
    return stored_logps(config, name, settings, {**inputs, STORED: traces_of(config, inputs["of"])})


def _judging(config: ExperimentConfig, name: str, settings: CriticalStep, inputs: Inputs) -> Iterator[Step]:
    return judging_tokens(config, name, settings, inputs, section_for(config, name, settings))


def _rectifying(config: ExperimentConfig, name: str, settings: RectifyStep, inputs: Inputs) -> Iterator[Step]:
    return rectifying(config, name, settings, inputs, section_for(config, name, settings))


MADE: dict[type[Any], Callable[[ExperimentConfig, str, Any, Inputs], Iterator[Step]]] = {
    ImportStep: _importing,
    SampleStep: _sampling,
    ProblemsStep: reading,
    MixStep: mixing,
    VerifyStep: _verifying,
    GradeStep: grading,
    SelectStep: _selecting,
    ScoreStep: scoring,
    LocateStep: locating,
    ContrastStep: scoring_tokens,
    LogpsStep: _logps,
    SoftTargetsStep: scoring_tokens,
    ModelStep: _having,
    CheckStep: checking_tokens,
    GroupsStep: grouping,
    ExamineStep: _examining,
    SelfVerifyStep: _self_verifying,
    RectifyStep: _rectifying,
    CriticalStep: _judging,
    AskStep: asking_about,
    StateStep: stating,
    PoseStep: posing,
    OpeningsStep: opening,
    HandOverStep: handing_over,
    CompareStep: asking_about,
    ReflectStep: _reflecting,
    PerturbStep: perturbing,
    ParaphraseStep: paraphrasing,
    RobustnessStep: holding_against,
    PairsStep: _pairing,
    TrainStep: training,
}
"""Class of settings -> the steps that one of them makes, itself among them."""
