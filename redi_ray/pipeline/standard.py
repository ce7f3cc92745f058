"""From a config to its graph: the standard line, with the named steps beside it (`redi_ray.pipeline.named_steps`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches

from redi_ray.config.benchmarks import WORLD
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.mixture import MixSource
from redi_ray.config.names import BASE, DEV, SFT
from redi_ray.config.scorer_base import REWARD
from redi_ray.config.student import ScratchModel
from redi_ray.errors import Gathered
from redi_ray.eval.scoring import scorers_of
from redi_ray.pipeline.asked import is_reward, require_asked
from redi_ray.pipeline.graph import MISFITS, Graph, GraphError, Step, Wording
from redi_ray.pipeline.named_steps import named_steps
from redi_ray.pipeline.rounds import last_round, round_of, written
from redi_ray.pipeline.sample_steps import check_opening
from redi_ray.pipeline.source_steps import mixed_line
from redi_ray.pipeline.teachers import as_they_are
from redi_ray.pipeline.training_steps import curation, sources_of, training_step
from redi_ray.stages.evaluation import QUESTIONS
from redi_ray.stages.guided import role_of
from redi_ray.stages.scoring import inputs_of as inputs_of_scorers
from redi_ray.stages.training import arm_recipe, sft_recipe

SCORES = "eval/"
"""Begins the name of a step that evaluates the model behind it."""


def graph_of(config: ExperimentConfig) -> Graph:
    """The graph of a config. Raises GraphError, or ConfigError for a step whose settings are wrong, with every finding."""
    gathered = Gathered()
    named, left_out = named_steps(config, gathered)
    steps = [*as_they_are(config, _beginnings_kept([*standard_line(config), *named]))]
    if any("dev" in step.inputs for step in steps):
        steps.append(Step(DEV, "dev", {"problems": "problems"}))
    guided = config.evaluate.guided
    if guided is not None and guided.judge is not None and guided.judge.model is None:
        with gathered():
            check_opening(config, "evaluate.guided: `judge.opening", guided.judge.opening)
    with gathered():
        steps += _evaluations(config, steps)
    with gathered():
        graph = Graph(steps, left_out)
        if not gathered.errors:
            require_asked(graph, config.generate)
    gathered.raise_all(MISFITS)
    return graph


def _evaluations(config: ExperimentConfig, steps: Sequence[Step]) -> list[Step]:
    """A step for each model that is scored. Raises GraphError, see `_scored`."""
    models, guided = _scored(config, steps), config.evaluate.guided
    if config.evaluate.any_problems:
        asked_of_world = any(benchmark.name == WORLD for benchmark in config.evaluate.benchmarks)
        scorers = [scorer for scorer in (config.evaluate.score, config.evaluate.rank_by) if scorer is not None]
        given = {"problems": "problems"} if config.has_problems and (asked_of_world or scorers) else {}
        given |= inputs_of_scorers(*scorers)
        asked = {QUESTIONS + name: last_round(config, step) for name, step in config.evaluate.judge_on.items()}
        words = {role: f"evaluate.judge_on.{role.removeprefix(QUESTIONS)}" for role in asked}
        for field, scorer in scorers_of(config.evaluate).items():
            if (rewards := scorer.taken.get(REWARD)) is not None:
                asked[field], words[field] = last_round(config, rewards), f"evaluate.{field}.model"
        if guided is not None and guided.asked_of_graph is not None:
            role = role_of(guided)
            asked[role], words[role] = last_round(config, guided.asked_of_graph), "evaluate.guided.model"
        taken = {**given, **asked}
        return [Step(SCORES + name, "evaluate", {"model": name, **taken}, wording=Wording(words)) for name in models]
    return []


def _beginnings_kept(steps: Sequence[Step]) -> Iterator[Step]:
    """The same, models of which others are made being kept in float32."""
    begun = {of for step in steps if step.kind == "merge" for of in step.inputs.values()}
    begun |= {step.inputs["start"] for step in steps if step.kind == "train"}
    for step in steps:
        begins = step.kind == "train" and step.name in begun
        yield replace(step, settings=replace(step.settings, starts_others=True)) if begins else step


def _scored(config: ExperimentConfig, steps: Sequence[Step]) -> list[str]:
    """The models that the config wants scored. Raises GraphError for one that it names twice."""
    named = config.evaluate.models
    if named is None:
        says_text = [step for step in steps if step.kind in ("base", "model", "train", "merge") and not is_reward(step)]
        named = list(dict.fromkeys(written(step.name) for step in says_text))
    found = [last_round(config, name) for name in named]
    if twice := [name for name, model in zip(named, found, strict=True) if found.count(model) > 1]:
        raise GraphError(f"evaluate.models: {', '.join(twice)} name one model; leave one of them")
    return found


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
        lacking, what = ("models", "model") if config.evaluate.benchmarks else ("benchmarks", "benchmark")
        raise GraphError(f"evaluate.{lacking} is empty: name at least one {what}")
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
    source = config.problems.source
    if isinstance(source, MixSource):
        yield mixed_line(config, source)
    elif problems:
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
    yield Step("verified", "verify", {"of": "traces", **sources_of(config, "verified")})
    if not config.teacher_is_base:
        yield base
    of = last_round(config, config.curate.of)
    said = Wording({"of": "curate.of"})
    yield Step("curated", "pairs", {"of": of, **curation(config, of)}, wording=said)
    yield training_step(SFT, sft_recipe(config), BASE, "curated")
    for arm in config.redi.arms:
        yield training_step(arm, arm_recipe(config, arm), SFT, "curated")
