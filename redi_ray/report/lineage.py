"""The graph behind a run that is reported on: which models come from which, which are compared, which look alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from redi_ray.config.load import parse_config
from redi_ray.config.objectives import IMITATING, RediGroupsObjective, RediObjective
from redi_ray.errors import UserError
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.rounds import round_of
from redi_ray.pipeline.standard import graph_of


def graph_of_record(config: Mapping[str, Any]) -> tuple[Graph, bool]:
    """The graph of the config that a run holds, and whether all of it could be read.

    Where it is of another version, the graph of what is understood of its arms, so that what is there is still shown.
    """
    arms = _section(_section(config, "redi"), "arms")
    objectives = {str(name): {"objective": _section(arm, "objective")} for name, arm in arms.items()}
    evaluates = _section(config, "evaluate").get("benchmarks") != []
    names = {name: dict[str, Any]() for name in objectives}
    for readable in (config, _plain(objectives, evaluates), _plain(names, evaluates)):
        try:
            return graph_of(parse_config(dict(readable))), readable is config
        except UserError:
            continue
    return graph_of(parse_config(_plain({}, evaluates))), False


def _plain(arms: Mapping[str, Any], evaluates: bool) -> dict[str, Any]:
    return {"name": "unknown", "redi": {"arms": arms}, "evaluate": {} if evaluates else {"benchmarks": []}}


def _section(value: Any, name: str) -> dict[str, Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, dict) else {}


def models_of(graph: Graph) -> list[str]:
    """Every model, in the order of training."""
    return graph.giving("model")


def ancestors(graph: Graph, model: str) -> set[str]:
    """The models that a model comes from, on whatever way."""
    if model not in graph.steps:
        return set()
    return {step.name for step in graph.needed_for([model]) if step.gives == "model"} - {model}


def starts_from(step: Step) -> str | None:
    """The model that a training goes on from."""
    return step.inputs.get("start") if step.kind == "train" else None


def control_arm(graph: Graph, evaluated: Iterable[str]) -> str | None:
    """The evaluated model that others are compared with: a training on pairs without negatives, if there is one, else the
    first that such a training began from.

    A training on pairs learns from the chosen traces once more, so that against its start alone the gain from negatives is
    confounded.
    """
    there = set(evaluated)
    trained = [step for step in graph if step.kind == "train"]
    on_pairs = [step for step in trained if step.settings.kind == "pairs"]
    candidates = [step.name for step in on_pairs if _no_negatives(step)]
    candidates += [step.inputs["start"] for step in on_pairs]
    candidates += [step.name for step in trained[:1]] + [step.name for step in graph if step.kind == "base"]
    return next((name for name in candidates if name in there), None)


def _no_negatives(step: Step) -> bool:
    objective = step.settings.objective
    redi = isinstance(objective, RediObjective | RediGroupsObjective)
    return objective.name in IMITATING or (redi and objective.alpha == 0)


def alike(graph: Graph, models: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Models whose curves belong side by side, under a title: trained from one start on one kind of data, or the rounds of
    one step. Models that the graph does not know stand together with the last of these; the latest come first."""
    groups: dict[str, list[str]] = {}
    for name in models:
        step = graph.steps.get(name)
        if step is None:
            title = next(reversed(groups), "left from an earlier config")
        elif round_of(name)[1]:
            title = f"rounds of {round_of(name)[0]}"
        elif (start := starts_from(step)) is not None:
            title = f"{'pairs' if step.settings.kind == 'pairs' else 'imitation'}, from {start}"
        else:
            title = step.kind
        groups.setdefault(title, []).append(name)
    for title, names in reversed(groups.items()):
        yield (title if len(names) > 1 else f"{names[0]}: {title}" if title != names[0] else title), names
