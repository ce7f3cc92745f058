"""The best checkpoint is what is exported, and waiting for a better one ends: also when a run is cut off in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ranks import run_on_ranks
from tiny_models import tiny_policy, tiny_store

from redi_ray.config.objectives import RediObjective
from redi_ray.config.training import ProbeSettings, TrainSettings
from redi_ray.modeling.policy import Policy
from redi_ray.train.checkpoint import Checkpointer
from redi_ray.train.distributed import Distributed
from redi_ray.train.early_stop import EarlyStop
from redi_ray.train.loop import Hooks, train
from redi_ray.train.progress import TrainResult
from redi_ray.train.shard import shard_policy
from redi_ray.train.stores import LocalStore

SETTINGS = TrainSettings(
    learning_rate=1e-3,
    batch_size=4,
    epochs=2,
    tokens_per_pack=64,
    checkpoint_every=2,
    keep_last=1,
    keep_best="dev_accuracy",
    export="best",
    probe=ProbeSettings(every=1),
)
STEPS = 10
ACCURACY = {1: 0.1, 2: 0.3, 3: 0.9, 4: 0.8, 5: 0.2, 6: 0.8, 7: 0.95, 8: 0.5, 9: 0.4, 10: 0.6}
"""After so many steps. The best at a checkpoint is that of step 4; the higher ones are where none is saved."""


def measured(step: int, metrics: Mapping[str, float]) -> dict[str, float]:
    return {"dev_accuracy": ACCURACY[step + 1]}


def run(
    folder: Path,
    settings: TrainSettings = SETTINGS,
    *,
    stop_after: int | None = None,
    who: Distributed | None = None,
    world_size: int = 1,
) -> tuple[Policy, TrainResult]:
    policy, who, calls = tiny_policy(), who or Distributed(), iter(range(1, 100))
    shard_policy(policy, world_size=world_size)
    kept = Checkpointer(
        LocalStore(folder), {}, distributed=who, keep_last=settings.keep_last, keep_best=settings.keep_best
    )
    hooks = Hooks(on_step=measured, stop_requested=lambda: next(calls) == stop_after)
    store = tiny_store(num_pairs=20)
    return policy, train(policy, store, RediObjective(), settings, distributed=who, checkpoints=kept, hooks=hooks)


def weights_after(folder: Path, steps: int) -> list[torch.Tensor]:
    """Those of a run that exports its last step, stopped early."""
    policy, result = run(folder, replace(SETTINGS, export="last"), stop_after=steps)
    assert result.steps == steps
    return list(policy.parameters())


def assert_weights(policy: Policy, expected: list[torch.Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), expected, strict=True))


def test_the_best_checkpoint_is_exported(tmp_path: Path) -> None:
    policy, result = run(tmp_path / "run")
    assert (result.status, result.steps, result.total_steps, result.reason) == ("done", 4, STEPS, "")
    assert result.metrics["dev_accuracy"] == ACCURACY[STEPS], "the metrics are those of the last step that ran"
    assert_weights(policy, weights_after(tmp_path / "reference", 4))


@pytest.mark.parametrize("stop_after", [3, 4, 7, None])
def test_patience_ends_the_run_and_a_resumed_one_at_the_same_step(tmp_path: Path, stop_after: int | None) -> None:
    """An equal value is no better one, and what was measured without a checkpoint does not count."""
    settings = replace(SETTINGS, patience=4)
    if stop_after is not None:
        assert run(tmp_path / "run", settings, stop_after=stop_after)[1].status == "preempted"
    for _ in range(2):  # the second finds the end, as after a kill between the last checkpoint and the export
        policy, result = run(tmp_path / "run", settings)
        assert (result.status, result.steps) == ("done", 4)
        assert "0.8 (at step 4) for 4 steps" in result.reason
        assert max(int(p.name[5:13]) for p in (tmp_path / "run").iterdir()) == 8
    assert_weights(policy, weights_after(tmp_path / "reference", 4))


def test_without_the_best_checkpoint_the_next_best_is_taken(tmp_path: Path) -> None:
    """The damaged one is not trusted; only the newest is left besides it."""
    run(tmp_path / "run")
    (best,) = (tmp_path / "run").glob("step-00000004*")
    (best / "__0_0.distcp").write_bytes(b"")
    policy, result = run(tmp_path / "run")
    assert (result.status, result.steps) == ("done", STEPS)
    assert_weights(policy, weights_after(tmp_path / "reference", STEPS))


def test_the_best_needs_checkpoints_that_keep_it(tmp_path: Path) -> None:
    kept = Checkpointer(LocalStore(tmp_path), {}, distributed=Distributed())
    for checkpoints in (None, kept):
        with pytest.raises(ValueError, match="best"):
            train(tiny_policy(), tiny_store(num_pairs=4), RediObjective(), SETTINGS, checkpoints=checkpoints)


def test_what_is_no_number_is_never_the_best() -> None:
    watch = EarlyStop(replace(SETTINGS, patience=2))
    for step, value in ((2, float("nan")), (4, 0.0), (6, float("inf"))):
        watch.observe(step, {"dev_accuracy": value})
    watch.observe(8, {})
    assert watch.state_dict() == {"value": 0.0, "step": 4}
    assert EarlyStop(watch.settings).state_dict() == {}


def rank_process(rank: int, world_size: int, folder: str) -> None:
    who = Distributed(rank, world_size, local_rank=rank, local_world_size=world_size)
    policy, result = run(Path(folder), replace(SETTINGS, patience=4), who=who, world_size=world_size)
    assert (result.status, result.steps) == ("done", 4)
    torch.save([p.full_tensor() for p in policy.parameters()], Path(folder) / f"rank-{rank}.pt")


def test_two_ranks_end_together_with_the_same_weights(tmp_path: Path) -> None:
    run_on_ranks(rank_process, 2, str(tmp_path))
    one, other = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    alone = weights_after(tmp_path / "reference", 4)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one, alone, strict=True))
