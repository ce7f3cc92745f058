"""What the goal of a search is made of: its training, and the sections of the config that it reads."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.search import NoScheduler, SearchConfig
from redi_ray.config.training import TrainSettings
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.standard import graph_of, train_keys
from redi_ray.stages.training import Recipe

BEFORE = ("problems", "generate", "verify", "curate", "model")
"""Sections that every model comes from."""


def recipe_of(step: Step) -> Recipe | None:
    """How a step trains; None where it is no training, but a merge."""
    return step.settings if step.kind == "train" else None


def unfit(step: Step, search: SearchConfig) -> list[str]:
    """What of a search does not go with its goal."""
    recipe, found = recipe_of(step), []
    if search.trainer is not None and (recipe is None or recipe.kind == "examples"):
        found.append(f"search.trainer is for trainings on pairs; for {step.name} set resources.trainer")
    if recipe is None and search.seeds:
        found.append(f"search.seeds order a training's data, and {step.name} is a merge: leave them out")
    if recipe is None and not isinstance(search.scheduler, NoScheduler):
        found.append(f"search.scheduler stops trainings, and {step.name} is a merge: set it to {{kind: none}}")
    return found


def settings_of(config: ExperimentConfig, goal: str) -> TrainSettings | None:
    """The settings of the goal's training; None of a merge."""
    recipe = recipe_of(graph_of(config)[goal])
    return None if recipe is None else recipe.settings


def trainer_of(graph: Graph, goal: str, otherwise: TrainerSettings) -> TrainerSettings:
    """The workers that a trial trains with: the goal's, or of a merge those of the last training before it."""
    recipes = [recipe_of(step) for step in graph.needed_for([goal])]
    return next((recipe.trainer for recipe in reversed(recipes) if recipe is not None), otherwise)


def report_every(settings: TrainSettings) -> float:
    """Steps between two reports of a training; infinite if it reports at its end only."""
    given = [settings.checkpoint_every or math.inf, settings.probe.every if settings.probe else math.inf]
    return min(given)


def counts_by_best(settings: TrainSettings, metric: str) -> bool:
    """Whether a trial is worth the best value of the metric at a checkpoint, since those weights are exported."""
    return settings.export == "best" and settings.keep_best == metric


def all_of(config: ExperimentConfig, goal: str) -> dict[str, Any]:
    """All that the goal is made with, as plain values."""
    graph = graph_of(config)
    trained = [step.name for step in graph.needed_for([goal]) if step.kind in ("train", "merge") and step.name != goal]
    sections = {*BEFORE, *(train_keys(config, name)[0][0] for name in trained)}
    step = graph[goal]
    recipe = recipe_of(step)
    own = {"merge": step.settings}
    if recipe is not None:
        own = {"objective": asdict(recipe.objective), "train": asdict(recipe.settings)}
    return {**config.model_dump(mode="json", include=sections), "own": own}
