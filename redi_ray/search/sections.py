"""What an arm's training reads of a config: of its own section, and through the stages before it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import TrainSettings


def train_settings(config: ExperimentConfig, arm: str) -> TrainSettings:
    return config.sft.train if arm == "sft" else config.redi.settings(arm)


def trainer_of(config: ExperimentConfig, arm: str) -> TrainerSettings:
    """The workers that train an arm, or sft."""
    own = None if arm == "sft" else config.redi.trainer
    return own or config.resources.trainer


def report_every(settings: TrainSettings) -> float:
    """Steps between two reports of a training; infinite if it reports at its end only."""
    given = [settings.checkpoint_every or math.inf, settings.probe.every if settings.probe else math.inf]
    return min(given)


def counts_by_best(settings: TrainSettings, metric: str) -> bool:
    """Whether a trial is worth the best value of the metric at a checkpoint, since those weights are exported."""
    return settings.export == "best" and settings.keep_best == metric


def before_training(config: ExperimentConfig, arm: str) -> dict[str, Any]:
    """All that the stages before the arm's own training read."""
    sections = {"problems", "generate", "verify", "curate", "model"} | ({"sft"} if arm != "sft" else set())
    return config.model_dump(mode="json", include=sections)


def data_of_training(config: ExperimentConfig, arm: str) -> dict[str, Any]:
    """What decides which token arrays and reference log-probs a training reads."""
    settings = train_settings(config, arm)
    objective = config.sft.objective if arm == "sft" else config.redi.arms[arm].objective
    masks = (settings.mask_rejected_end_of_turn, settings.mask_rejected_think_tags)
    return {"masks": masks, "precision": settings.precision, "objective": [objective.name, _baseline(objective)]}


def _baseline(objective: Any) -> Any:
    return getattr(objective, "baseline", None)


def all_of_training(config: ExperimentConfig, arm: str) -> dict[str, Any]:
    """All that an arm's training reads."""
    objective = config.sft.objective if arm == "sft" else config.redi.arms[arm].objective
    mine = {"objective": asdict(objective), "train": asdict(train_settings(config, arm))}
    return {**before_training(config, arm), "own": mine}


def differ(items: Iterable[Any]) -> bool:
    """Whether any two of them are not equal."""
    found = list(items)
    return any(item != found[0] for item in found[1:])
