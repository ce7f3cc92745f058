"""From a config to its graph: the standard line, and the named steps beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.group_steps import GroupsStep, ScoreStep, TokenWeights
from redi_ray.config.load import ConfigError
from redi_ray.config.locators import LocateStep
from redi_ray.config.names import BASE, DEV, SFT, TAKEN
from redi_ray.config.objectives import IMITATING
from redi_ray.config.step_judges import AskStep, CompareStep, StateStep
from redi_ray.config.step_sections import mistakes_of, section_of
from redi_ray.config.steps import (
    AnyStep,
    ImportStep,
    MergeStep,
    PairsStep,
    RectifyStep,
    SampleStep,
    SelectStep,
    TrainStep,
    VerifyStep,
)
from redi_ray.config.student import ScratchModel
from redi_ray.config.token_steps import ContrastStep
from redi_ray.pipeline.asked import require_asked
from redi_ray.pipeline.graph import Graph, GraphError, Step, Wording
from redi_ray.pipeline.kinds.groups import BY, WEIGHTS
from redi_ray.pipeline.rounds import ROUND, last_round, round_of, written
from redi_ray.pipeline.sample_steps import WEIGHED, check_weights, on_samples, rectifying
from redi_ray.stages.groups import Kind
from redi_ray.stages.training import Recipe, arm_recipe, sft_recipe

SCORES = "eval/"
"""Begins the name of a step that evaluates the model behind it."""


def graph_of(config: ExperimentConfig) -> Graph:
    """The graph of a config. Raises GraphError, or ConfigError for a step whose settings are wrong."""
    steps = [*standard_line(config), *named_steps(config)]
    if any("dev" in step.inputs for step in steps):
        steps.append(Step(DEV, "dev", {"problems": "problems"}))
    models = config.evaluate.models
    if models is None:
        models = list(dict.fromkeys(written(step.name) for step in steps if step.kind in ("base", "train", "merge")))
    models = [last_round(config, name) for name in models]
    if config.evaluate.benchmarks:
        problems = {"problems": "problems"} if config.has_problems else {}
        steps += [Step(SCORES + name, "evaluate", {"model": name, **problems}) for name in models]
    graph = Graph(steps)
    require_asked(graph)
    return graph


def step_named(graph: Graph, name: str) -> str:
    """The step that a user means by a name: of a repeated one, its last round. Raises GraphError where there is none."""
    times = max(round_of(step)[1] or 0 for step in graph.steps)
    rounds = [step for step in graph.steps if round_of(step) == (name, times)]
    return rounds[0] if rounds and name not in graph.steps else graph[name].name


def models_named(config: ExperimentConfig, graph: Graph, names: Sequence[str]) -> list[str]:
    """The models that a user means by `--arm`. Raises GraphError for what is none."""
    models = graph.giving("model")
    known = dict.fromkeys([*models, *map(written, models)])
    if unknown := [name for name in names if name not in known]:
        near = {match: None for name in unknown for match in get_close_matches(name, known, 1)}
        meant = f"; did you mean {', '.join(near)}?" if near else ""
        raise GraphError(f"no arm named {', '.join(unknown)}{meant}; this config has {', '.join(models)}")
    return [step_named(graph, name) for name in names]


def scored_models(config: ExperimentConfig, graph: Graph, names: Sequence[str] = ()) -> list[str]:
    """Of the models that the config wants scored those that a user names, or all. Raises GraphError for others."""
    scored = [step.inputs["model"] for step in graph if step.gives == "scores"]
    if not scored:
        raise GraphError("evaluate.benchmarks is empty: name at least one benchmark")
    models = models_named(config, graph, names)
    if missing := [name for name in models if name not in scored]:
        raise GraphError(f"evaluate.models leaves out {', '.join(missing)}; it names {', '.join(scored)}")
    return models or scored


def train_keys(config: ExperimentConfig, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where the config has the settings of a training: its own, and those that others may share; the same where none do."""
    if name == SFT:
        return ("sft", "train"), ("sft", "train")
    if name in config.redi.arms:
        return ("redi", "arms", name, "train"), ("redi", "train")
    return ("steps", written(name), "train"), ("steps", written(name), "train")


def standard_line(config: ExperimentConfig) -> Iterator[Step]:
    """Today's sections as steps: problems, traces, verified, curated, base, sft, the arms. Where what is learnt from is imported,
    the base, and problems if there are any."""
    problems = {"problems": "problems"} if config.has_problems else {}
    if problems:
        yield Step("problems", "problems")
    scratch = isinstance(config.model.init, ScratchModel)
    if not config.has_line:
        imported = {name: name for name in (last_round(config, step) for step in config.imports)} if scratch else {}
        yield Step(BASE, "base", problems | imported)
        return
    base = Step(BASE, "base", problems | ({"traces": "traces"} if scratch else {}))
    if config.teacher_is_base:
        yield base
    teacher = {"model": BASE} if config.teacher_is_base else {}
    yield Step("traces", "sample", {"problems": "problems", **teacher})
    yield Step("verified", "verify", {"of": "traces"})
    if not config.teacher_is_base:
        yield base
    yield Step("curated", "pairs", {"of": "verified", "problems": "problems", "base": BASE})
    yield _training(SFT, sft_recipe(config), BASE, "curated")
    for arm in config.redi.arms:
        yield _training(arm, arm_recipe(config, arm), SFT, "curated")


def _training(name: str, recipe: Recipe, start: str, groups: str) -> Step:
    measured = {"dev": DEV} if recipe.settings.probe is not None else {}
    return Step(name, "train", {"start": start, "groups": groups, "base": BASE, **measured}, settings=recipe)


def named_steps(config: ExperimentConfig) -> Iterator[Step]:
    """The steps of `steps`, those of `repeat` once for every round."""
    whose = TAKEN | {arm: f"the arm redi.arms.{arm}" for arm in config.redi.arms}
    if taken := [f"steps.{name}: the name is that of {whose[name]}" for name in config.steps if name in whose]:
        raise GraphError("; ".join(taken) + "; give the step another one")
    repeat = config.repeat
    rounds = repeat.steps if repeat is not None else []
    unknown = [name for name in rounds if name not in config.steps]
    if repeat is not None:
        unknown += [name for name in repeat.carry.values() if name not in rounds]
        if unknown:
            raise GraphError(
                f"repeat: {', '.join(unknown)} is no repeated step; `repeat.steps` names some of `steps` "
                f"({', '.join(config.steps) or 'there are none'}), and `carry` ends in one of those"
            )
    last = {name: last_round(config, name) for name in rounds}
    for name, settings in config.steps.items():
        if name not in rounds:
            yield from _named(config, name, settings, last)
    for number in range(1, repeat.times + 1) if repeat is not None else ():
        assert repeat is not None
        called = {name: f"{name}{ROUND}{number}" for name in rounds}
        if number > 1:
            called |= {old: f"{new}{ROUND}{number - 1}" for old, new in repeat.carry.items()}
        for name in rounds:
            yield from _named(config, f"{name}{ROUND}{number}", config.steps[name], called)
    if repeat is not None:
        yield from _check_carry(config, rounds)


def _check_carry(config: ExperimentConfig, rounds: list[str]) -> Iterator[Step]:
    """Raise GraphError where a round would be the one before it once more."""
    assert config.repeat is not None
    used = {name for step in rounds for name in inputs_of(config.steps[step]).values()}
    if idle := [name for name in config.repeat.carry if name not in used]:
        raise GraphError(
            f"repeat: `carry` replaces {', '.join(idle)}, which none of {', '.join(rounds)} takes, so every round would be the "
            f"same; they take {', '.join(sorted(used - set(rounds)))}"
        )
    yield from ()


INPUTS: dict[type[AnyStep], tuple[str, ...]] = {
    ImportStep: (),
    SampleStep: ("problems", "model"),
    LocateStep: ("of", "model"),
    RectifyStep: ("of", "at", "model"),
    ContrastStep: ("of", "right", "wrong"),
    AskStep: ("of", "at"),
    StateStep: ("problems",),
    CompareStep: ("of", "column", "to"),
    PairsStep: ("of", "chosen_of"),
    SelectStep: ("of", "by"),
}
"""Fields of named steps that name other steps, where a kind calls them the same; of all others it is `of`."""


def inputs_of(settings: AnyStep) -> dict[str, str]:
    """What a named step takes: the kind's word for it -> a step's name."""
    if isinstance(settings, TrainStep):
        return {"start": settings.start, "groups": settings.on}
    if isinstance(settings, MergeStep):
        return {name: name for name in settings.of}
    named = {word: getattr(settings, word) for word in INPUTS.get(type(settings), ("of",))}
    found = {word: name for word, name in named.items() if name is not None}
    if isinstance(settings, GroupsStep):
        found |= {BY + name: name for name in settings.columns}
    if isinstance(settings, GroupsStep | PairsStep):
        found |= _weights_input(settings.weights)
    if isinstance(settings, SelectStep) and settings.random is not None and settings.random.like is not None:
        found["like"] = settings.random.like
    return found


def _weights_input(weights: TokenWeights | None) -> dict[str, str]:
    return {} if weights is None else {WEIGHTS: weights.column}


def _named(config: ExperimentConfig, name: str, settings: AnyStep, called: Mapping[str, str]) -> Iterator[Step]:
    """The step, its inputs under the names that they have in this round, and what it needs before it."""
    inputs = {role: called.get(of, of) for role, of in inputs_of(settings).items()}
    if isinstance(settings, SampleStep):
        yield Step(name, "sample", inputs, {"generate": _section(config, name, settings)}, own=True)
    elif isinstance(settings, VerifyStep):
        yield Step(name, "verify", inputs, {"verify": _section(config, name, settings)}, own=True)
    elif isinstance(settings, PairsStep):
        sections = {"curate": _section(config, name, settings)}
        check_weights(config, name, settings.weights)
        curation = {**inputs, "problems": _problems_of(config, settings.of, called), "base": BASE}
        yield Step(name, "pairs", curation, sections, settings.weights, own=True, wording=WEIGHED)
    elif isinstance(settings, RectifyStep):
        yield from rectifying(config, name, settings, inputs, _section(config, name, settings))
    elif isinstance(settings, ImportStep):
        yield Step(name, "import", settings=settings, own=True)
    elif isinstance(settings, SelectStep):
        yield Step(name, "select", inputs, settings=settings.wanted, own=True)
    elif isinstance(settings, ScoreStep):
        base = {"base": BASE} if settings.scorer.needs_tokenizer else {}
        yield Step(name, "score", inputs | base, settings=settings.scorer, own=True)
    elif isinstance(settings, LocateStep | GroupsStep | ContrastStep | AskStep | StateStep | CompareStep):
        yield on_samples(config, name, settings, inputs)
    elif isinstance(settings, MergeStep):
        shares = dict[str, float]()
        for of, share in settings.of.items():  # two names may mean one step in this round
            shares[called.get(of, of)] = shares.get(called.get(of, of), 0.0) + share
        yield Step(
            name, "merge", {of: of for of in shares}, settings=shares, wording=Wording(dict.fromkeys(shares, "of"))
        )
    else:
        yield from _named_training(config, name, settings, inputs, called)


def _problems_of(config: ExperimentConfig, name: str, called: Mapping[str, str]) -> str:
    """The problems, in this round, whose traces these are, with verdicts or without: the config's, or those that a step makes."""
    step = config.steps.get(written(called.get(name, name)))
    if isinstance(step, VerifyStep | SelectStep):
        return _problems_of(config, step.of, called)
    of = step.problems if isinstance(step, SampleStep | StateStep) else "problems"
    return called.get(of, of)


def _named_training(
    config: ExperimentConfig, name: str, settings: TrainStep, inputs: dict[str, str], called: Mapping[str, str]
) -> Iterator[Step]:
    """A training, and before it the curation of verified traces that it learns from as they are."""
    imitates = settings.objective.name in IMITATING
    train = _section(config, name, settings)
    trainer = (None if imitates else config.redi.trainer) or config.resources.trainer
    groups, traces = inputs["groups"], ("groups", "verified")
    source = config.steps.get(written(groups))
    any_groups = source is not None and not isinstance(source, VerifyStep | SelectStep | PairsStep)
    kind: Kind = "examples" if imitates else "pairs"
    recipe = Recipe(settings.objective, train, trainer, kind, starts_others=True, any_groups=any_groups)
    if groups == "verified" or isinstance(source, VerifyStep | SelectStep):
        groups = f"{name}-pairs"
        said = Wording({"of": "on"}, {"of": traces}, step=name, kind="train")
        curation = {"of": inputs["groups"], "problems": _problems_of(config, settings.on, called), "base": BASE}
        yield Step(groups, "pairs", curation, own=True, wording=said)
    said = Wording({"start": "from", "groups": "on"}, {"groups": traces})
    yield replace(_training(name, recipe, inputs["start"], groups), own=True, wording=said)


def _section(config: ExperimentConfig, name: str, settings: AnyStep) -> Any:
    """A section of the config with a step's changes; ConfigError names the step and the key."""
    try:
        return section_of(config, settings)
    except ValidationError as error:
        raise ConfigError(mistakes_of(written(name), settings, error)) from None
