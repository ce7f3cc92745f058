"""What one rank alone meets, all ranks act upon alike: none goes on by itself, none waits for one that has stopped."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from ranks import run_on_ranks
from tiny_models import tiny_policy, tiny_store

from redi_ray.config.objectives import RediObjective
from redi_ray.config.training import TrainSettings
from redi_ray.modeling.policy import Policy
from redi_ray.train import loop
from redi_ray.train.distributed import Distributed, agreed, together
from redi_ray.train.loop import Hooks, train
from redi_ray.train.monitors import Monitors
from redi_ray.train.progress import TrainResult
from redi_ray.train.results import StepResult
from redi_ray.train.shard import shard_policy
from redi_ray.train.trackers import TrackerError

SETTINGS = TrainSettings(learning_rate=1e-3, batch_size=2, tokens_per_pack=64, on_nonfinite="skip")


def run(who: Distributed, settings: TrainSettings, monitors: Monitors | None, weights: list[float]) -> TrainResult:
    policy = tiny_policy()
    shard_policy(policy, world_size=who.world_size)
    hooks = Hooks(on_step=lambda *_: weights.append(float(policy.head_weight.detach().full_tensor().sum())))  # type: ignore[operator]
    return train(policy, tiny_store(), RediObjective(), settings, distributed=who, monitors=monitors, hooks=hooks)


def an_overflow_on_rank_1(who: Distributed) -> None:
    """In step 1 a gradient of rank 1's shard is infinite. `skip` leaves the weights alone, `stop` ends the run, on both."""
    real, calls = loop.forward_backward, iter(range(100))

    def overflowing(policy: Policy, *args: object, **kwargs: object) -> StepResult:
        result = real(policy, *args, **kwargs)  # type: ignore[arg-type]
        if next(calls) % 3 == 1 and who.rank == 1:
            grads = [p.grad.to_local() for p in policy.parameters() if p.grad is not None]  # type: ignore[attr-defined]
            next(grad for grad in grads if grad.numel()).view(-1)[0] = math.inf
        return result

    with patch.object(loop, "forward_backward", overflowing):
        weights: list[float] = []
        result = run(who, SETTINGS, None, weights)
        assert (result.status, result.steps, result.skipped_steps) == ("done", 3, 1)
        assert weights[0] == weights[1] != weights[2]
        result = run(who, replace(SETTINGS, on_nonfinite="stop"), None, weights)
        assert (result.status, result.steps) == ("nonfinite", 1)


def a_tracker_that_does_not_start(who: Distributed, folder: Path) -> None:
    """Only rank 0 has trackers; its event files cannot go into a folder that is a file."""
    monitors = None
    if who.rank == 0:
        folder.mkdir()
        (folder / "tensorboard").write_text("")
        monitors = Monitors(folder, trackers=["tensorboard"])
    weights: list[float] = []
    with pytest.raises(TrackerError, match="'tensorboard' does not start"):
        run(who, SETTINGS, monitors, weights)
    assert not weights


class ClumsyError(OSError):
    """As of libraries whose errors do not survive the way to another rank."""

    def __init__(self, message: str, *, response: object) -> None:
        super().__init__(message)


def an_error_of_rank_1_alone(who: Distributed, error: Exception) -> None:
    """Raised on both ranks at once, and known to be; which rank had it is told where the other had none."""

    def action() -> None:
        if who.rank == 1:
            raise error

    with pytest.raises((OSError, ValueError), match="not there") as caught:
        together(action)
    assert agreed(caught.value)
    assert caught.value.__notes__ == ["on rank 1 of 2"]


def on_a_rank(rank: int, world_size: int, folder: str) -> None:
    who = Distributed(rank, world_size, local_rank=rank, local_world_size=world_size)
    an_overflow_on_rank_1(who)
    a_tracker_that_does_not_start(who, Path(folder) / "out")
    for error in (ValueError("not there"), FileNotFoundError(2, "not there"), ClumsyError("not there", response=open)):
        an_error_of_rank_1_alone(who, error)


def test_two_ranks_act_alike(tmp_path: Path) -> None:
    run_on_ranks(on_a_rank, 2, str(tmp_path))
