"""One training of `wrong_parts.py` or `rollouts.py`, in any world: what an arm is, what a world must offer, and what a run leaves
on disk."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from in_process import settings, with_references

from redi_ray.config.objectives import KtoObjective, Objective
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.rollout_objectives import DphObjective
from redi_ray.data.curate.answers import is_finished
from redi_ray.modeling.policy import Policy
from redi_ray.objectives import OBJECTIVES, SAMPLER
from redi_ray.schemas import turns_of
from redi_ray.text.prompts import to_messages
from redi_ray.train.loop import Hooks, train
from redi_ray.train.rehearsal import Rehearsed
from redi_ray.train.sequences import SequenceStore

Row = dict[str, Any]
"""A sample, by the names of the package's tables."""
PAIRS = 8
"""A step."""
MANY = 1000
"""Epochs, more than the steps need."""
ENDS = ("chosen_logp", "rejected_logp")
"""Log-prob per scored token, of which a run keeps first and last tenth of its steps."""


@dataclass(frozen=True)
class Arm:
    """What is learnt from which of the world's data."""

    data: str
    objective: Objective
    groups: int = PAIRS
    """A step."""
    rehearses: DphObjective | None = None
    """On the world's data `solved`, as many groups a step as of the others."""


class World(Protocol):
    """A seed's world, with the model that every arm starts from."""

    seed: int
    sft: Policy
    steps: int
    """Of every arm's training."""

    def store(self, data: str) -> SequenceStore: ...
    def dev_score(self, policy: Policy) -> float: ...
    def test_right(self, policy: Policy) -> list[int]: ...


@dataclass(frozen=True)
class Outcome:
    """One run."""

    arm: str
    learning_rate: float | None
    seed: int
    dev: float | None
    """pass@1 on development problems, of a tuning run."""
    right: list[int] | None
    """Right answers of each test problem, of a reporting run."""
    logps: dict[str, list[float]]
    """Name of `ENDS` -> mean over the first and over the last tenth of the steps."""


def group_of(number: int, prompt: PromptSettings, sides: Sequence[tuple[Row, int]]) -> Row:
    """A row of GROUP: whole samples of a problem with their sides."""
    members = [
        {"turns": turns_of(row), "side": side, "reward": None, "finished": is_finished(row), "spans": None}
        for row, side in sides
    ]
    first = sides[0][0]
    messages = to_messages(first["problem"], prompt)
    return {"group_id": str(number), "problem_id": first["problem_id"], "prompt": messages, "members": members}


def run_arm(world: World, name: str, arm: Arm | None, rate: float | None, folder: Path, *, test: bool) -> Outcome:
    """Train an arm from the SFT model and score it, once; no arm is the SFT model itself."""
    told = folder / f"{'test' if test else 'dev'}-{world.seed}-{name}-{rate}.json"
    if told.exists():
        return Outcome(**json.loads(told.read_text()))
    policy, logps = (world.sft, {}) if arm is None or rate is None else trained(world, arm, rate)
    dev, right = (None, world.test_right(policy)) if test else (world.dev_score(policy), None)
    outcome = Outcome(name, rate, world.seed, dev, right, logps)
    write(told, asdict(outcome))
    return outcome


def write(path: Path, value: Any) -> None:
    """As JSON, whole or not at all."""
    replaced(path, lambda part: part.write_text(json.dumps(value)))


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    """A file, whole or not at all: `make` writes it beside its place."""
    part = path.with_name(path.name + ".part")
    make(part)
    os.replace(part, path)


def trained(world: World, arm: Arm, rate: float) -> tuple[Policy, dict[str, list[float]]]:
    """The arm's model, and how log-probs moved."""
    spec, store, rehearsed = OBJECTIVES[arm.objective.name], world.store(arm.data), None
    samplers = SAMPLER in (*spec.columns(arm.objective), *spec.sums(arm.objective))
    if spec.needs_reference or samplers:
        store = with_references(store, world.sft, mismatched=isinstance(arm.objective, KtoObjective))
    if samplers:  # the samples are those of the model that all arms start from
        assert store.ref_logps is not None
        store = store.with_column(SAMPLER, store.ref_logps)
    if arm.rehearses is not None:
        rehearsed = Rehearsed(with_references(world.store("solved"), world.sft), arm.rehearses, arm.groups)
    lines: list[Mapping[str, float]] = []
    policy = copy.deepcopy(world.sft)
    told = settings(rate, MANY, world.seed, arm.groups, max_steps=world.steps)
    hooks = Hooks(on_step=lambda step, line: lines.append(dict(line)))
    train(policy, store, arm.objective, told, rehearsed=rehearsed, hooks=hooks)
    return policy, {name: ends([line[name] for line in lines if name in line]) for name in ENDS}


def ends(values: Sequence[float]) -> list[float]:
    """Means over the first and over the last tenth."""
    tenth = max(1, len(values) // 10)
    return [float(np.mean(part)) for part in (values[:tenth], values[-tenth:])] if values else []
