"""Runs end as they should: resumed runs bit for bit, broken steps without a trace, collapses where the guard says."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from tiny_models import tiny_policy, tiny_store
from tiny_runs import PLAIN_SETTINGS, TOTAL_STEPS, assert_same_run, finish, torchrun

from redi_ray.config.objectives import DpoObjective, RediObjective, SftObjective
from redi_ray.config.training import CollapseGuard, TrainSettings
from redi_ray.modeling.policy import Policy
from redi_ray.train import loop
from redi_ray.train.checkpoint import Checkpointer
from redi_ray.train.distributed import Distributed
from redi_ray.train.guard import reach
from redi_ray.train.loop import Hooks, train
from redi_ray.train.monitors import STEP_METRICS, Monitors, read_metrics
from redi_ray.train.progress import TrainResult
from redi_ray.train.records import SequenceRecord
from redi_ray.train.results import StepResult
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.stores import LocalStore

SETTINGS = TrainSettings(learning_rate=1e-3, batch_size=4, epochs=2, tokens_per_pack=64, checkpoint_every=3)
STORE = tiny_store(num_pairs=20)
STEPS = 10


def run(
    folder: Path | None = None, settings: TrainSettings = SETTINGS, hooks: Hooks | None = None
) -> tuple[Policy, TrainResult]:
    policy = tiny_policy()
    checkpoints = (
        Checkpointer(LocalStore(folder / "checkpoints"), {}, distributed=Distributed(), keep_last=settings.keep_last)
        if folder
        else None
    )
    monitors = Monitors(folder) if folder else None
    return policy, train(
        policy, STORE, RediObjective(), settings, checkpoints=checkpoints, monitors=monitors, hooks=hooks
    )


def assert_equal_weights(one: Policy, other: Policy) -> None:
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def at_call(number: int, of: int = 1000) -> Iterable[bool]:
    return iter([call == number for call in range(1, of)])


@pytest.mark.parametrize("stop_after", [1, 6, 9])
def test_stopped_and_resumed_equals_undisturbed(tmp_path: Path, stop_after: int) -> None:
    """Stopped at a regular checkpoint or between two, then run again: same weights, same lines, each step once."""
    undisturbed, result = run(tmp_path / "undisturbed")
    assert (result.status, result.steps) == ("done", STEPS)
    calls = at_call(stop_after)
    _, stopped = run(tmp_path / "stopped", hooks=Hooks(stop_requested=lambda: next(iter(calls))))
    assert (stopped.status, stopped.steps) == ("preempted", stop_after)
    resumed, result = run(tmp_path / "stopped")
    assert (result.status, result.steps) == ("done", STEPS)
    assert_equal_weights(undisturbed, resumed)
    lines = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("undisturbed", "stopped")]
    for key in ("step", "loss", "grad_norm", "update_norm", "learning_rate"):
        assert [line[key] for line in lines[0]] == [line[key] for line in lines[1]]


def test_a_finished_run_starts_at_its_end(tmp_path: Path) -> None:
    first, _ = run(tmp_path)
    again, result = run(tmp_path)
    assert (result.status, result.steps) == ("done", STEPS)
    assert result.metrics["loss"] == read_metrics(tmp_path / "metrics.jsonl")[-1]["loss"]
    assert_equal_weights(first, again)


def test_a_requested_checkpoint_is_extra_and_training_goes_on(tmp_path: Path) -> None:
    saved: list[int] = []
    calls = at_call(4)
    hooks = Hooks(checkpoint_requested=lambda: next(iter(calls)), on_checkpoint=lambda steps, _: saved.append(steps))
    policy, result = run(tmp_path, hooks=hooks)
    assert saved == [3, 4, 6, 9, 10]
    assert result.status == "done"
    assert_equal_weights(run()[0], policy)


@pytest.mark.parametrize("objective", [SftObjective(), RediObjective(), DpoObjective()], ids=lambda o: o.name)
def test_everything_watched_is_logged(tmp_path: Path, objective: SftObjective | RediObjective | DpoObjective) -> None:
    """Null only where the objective has no such thing."""
    train(tiny_policy(), STORE, objective, replace(SETTINGS, max_steps=2), monitors=Monitors(tmp_path))
    absent = {"sft": {"rejected_logp", "margin", "pair_accuracy", "alpha"}, "redi": set(), "dpo": {"alpha"}}
    for line in read_metrics(tmp_path / "metrics.jsonl"):
        assert {name for name in STEP_METRICS if line[name] is None} == absent[objective.name]


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Real steps, but in these a gradient turns out infinite, as after an overflow."""
    real, count = loop.forward_backward, iter(range(1000))

    def poisoned(policy: Policy, *args: object, **kwargs: object) -> StepResult:
        result = real(policy, *args, **kwargs)  # type: ignore[arg-type]
        if next(count) in steps:
            next(p for p in policy.parameters() if p.grad is not None).grad[0] = math.inf  # type: ignore[index]
        return result

    monkeypatch.setattr(loop, "forward_backward", poisoned)


def test_nonfinite_stop_saves_nothing_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends with the weights from before the bad step; run again, it goes on from the last good checkpoint."""
    undisturbed, _ = run()
    before, _ = run(settings=replace(SETTINGS, max_steps=None), hooks=Hooks(stop_requested=at_call(5).__next__))  # type: ignore[attr-defined]
    poison(monkeypatch, {5})
    policy, result = run(tmp_path)
    assert (result.status, result.steps) == ("nonfinite", 5)
    assert "step 5" in result.reason
    assert_equal_weights(policy, before)
    assert sorted(p.name[:13] for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000003"]
    resumed, result = run(tmp_path)  # the poison's step number has passed
    assert result.status == "done"
    assert_equal_weights(undisturbed, resumed)


def test_nonfinite_skip_leaves_weights_and_moments_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {0, 4, 5})
    weights: list[torch.Tensor] = []
    policy = tiny_policy()
    hooks = Hooks(on_step=lambda step, metrics: weights.append(policy.head_weight.detach().clone()))
    result = train(policy, STORE, RediObjective(), replace(SETTINGS, on_nonfinite="skip"), hooks=hooks)
    assert (result.status, result.steps, result.skipped_steps) == ("done", STEPS, 3)
    assert torch.equal(weights[3], weights[5])
    assert not torch.equal(weights[5], weights[6])
    assert all(torch.isfinite(p).all() for p in policy.parameters())


def test_skipping_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, set(range(1000)))
    _, result = run(settings=replace(SETTINGS, on_nonfinite="skip", epochs=20))
    assert (result.status, result.skipped_steps) == ("nonfinite", loop.MAX_SKIPS_IN_A_ROW)


def near_twins() -> SequenceStore:
    """Pairs that differ in one token: with alpha above 1, everything they share is pushed down."""
    rng, records = np.random.default_rng(0), []
    for group in range(20):
        chosen = rng.integers(0, 8, 24).tolist()
        rejected = [*chosen[:12], (chosen[12] + 1) % 8, *chosen[13:]]
        records += [SequenceRecord(group, 1, chosen, 4), SequenceRecord(group, -1, rejected, 4)]
    return SequenceStore.from_records(records)


COLLAPSING = TrainSettings(
    learning_rate=2e-3,
    lr_schedule="constant",
    warmup_ratio=0.0,
    batch_size=4,
    epochs=20,
    tokens_per_pack=512,
    checkpoint_every=5,
    guard=CollapseGuard(window=8),
)


def collapse(folder: Path, action: Literal["warn", "stop", "rollback", "off"], steps: int | None = None):
    """A real collapse, through the whole loop."""
    settings = replace(COLLAPSING, guard=replace(COLLAPSING.guard, action=action), max_steps=steps)
    who, policy = Distributed(), tiny_policy()
    store = LocalStore(folder / "checkpoints")
    checkpoints = Checkpointer(store, {}, distributed=who, keep_last=1, horizon=reach(settings))
    objective, monitors = RediObjective(alpha=1.5), Monitors(folder)
    return policy, train(policy, near_twins(), objective, settings, checkpoints=checkpoints, monitors=monitors)


def test_collapse_stop_and_rollback(tmp_path: Path) -> None:
    """`stop` ends at the trip; `rollback` ends with the weights of a checkpoint from before, bit for bit, kept for that."""
    _, stopped = collapse(tmp_path / "stop", "stop")
    assert stopped.status == "stopped_by_guard"
    assert stopped.steps < stopped.total_steps
    assert "collapse" in stopped.reason
    policy, rolled_back = collapse(tmp_path / "rollback", "rollback")
    assert rolled_back.status == "rolled_back"
    assert rolled_back.reason == stopped.reason
    assert rolled_back.steps <= stopped.steps - reach(COLLAPSING)
    reference = tiny_policy()
    if rolled_back.steps:
        reference, _ = collapse(tmp_path / "reference", "off", rolled_back.steps)
    assert_equal_weights(policy, reference)


@pytest.mark.parametrize("action", ["stop", "rollback"])
def test_a_run_that_the_guard_ended_stays_ended(tmp_path: Path, action: Literal["stop", "rollback"]) -> None:
    """Killed between the stop and the export, and started again: the same weights and the same result, no step more."""
    policy, ended = collapse(tmp_path, action)
    lines = (tmp_path / "metrics.jsonl").read_bytes()
    again, result = collapse(tmp_path, action)
    assert result == ended
    assert_equal_weights(policy, again)
    assert (tmp_path / "metrics.jsonl").read_bytes() == lines


def test_collapse_warning_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told when it begins, and the result says how often and when first."""
    caplog.set_level("WARNING", "redi_ray")
    _, result = collapse(tmp_path, "warn")
    assert result.status == "done"
    tripped = [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl") if line["collapse"]]
    assert result.trips == len(tripped)
    assert result.first_trip.startswith(f"step {tripped[0]}: collapse")
    assert f"step {tripped[0]}: collapse" in caplog.text


def test_every_trip_of_an_accuracy_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Measured every 3 steps with a window of 4, which have few steps in common; each measurement from the third is a trip."""
    caplog.set_level("WARNING", "redi_ray")
    accuracies = {2: 0.9, 5: 0.1, 8: 0.1, 11: 0.1, 14: 0.1}
    settings = replace(SETTINGS, epochs=3, guard=CollapseGuard(window=4))
    hooks = Hooks(on_step=lambda step, _: {"dev_accuracy": accuracies[step]} if step in accuracies else None)
    _, result = run(settings=settings, hooks=hooks)
    told = [record.getMessage().split(":")[0] for record in caplog.records if "collapse" in record.getMessage()]
    assert told == ["step 8", "step 11", "step 14"]
    assert result.trips == 3


def test_rollback_needs_checkpoints() -> None:
    with pytest.raises(ValueError, match="rollback"):
        run(settings=replace(SETTINGS, guard=CollapseGuard(action="rollback")))


def test_two_gloo_ranks_stop_on_sigterm_and_resume(inputs: tuple[str, str], undisturbed: Path, tmp_path: Path) -> None:
    """torchrun without Ray: terminated in the middle, all ranks save and end together; run again, as if undisturbed."""
    arguments = (*inputs, str(tmp_path), json.dumps(PLAIN_SETTINGS))
    process = torchrun(*arguments)
    metrics = tmp_path / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 10):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)  # torchrun passes it on to both ranks
    output, _ = process.communicate(timeout=120)
    assert len(read_metrics(metrics)) < TOTAL_STEPS, output
    finish(torchrun(*arguments))
    assert_same_run(tmp_path, undisturbed)
