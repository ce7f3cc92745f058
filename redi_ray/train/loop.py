"""The training loop: named steps on one screen, the same under Ray Train, torchrun, or in a plain process.

Everything that a step does follows from (seed, step) and the weights, so a run that is killed and resumed from a
checkpoint ends with the weights of an undisturbed one, bit for bit (on GPUs, up to the order in which kernels add up).
Left out: evaluation, which belongs to a layer above (what `on_step` returns is logged, and `dev_accuracy` in it reaches
the collapse guard).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

import torch

from redi_ray.config.objectives import Objective
from redi_ray.config.training import TrainSettings
from redi_ray.modeling.policy import Policy
from redi_ray.train.batches import plan_batches
from redi_ray.train.checkpoint import Checkpointer, Restored
from redi_ray.train.distributed import Distributed, any_rank, together
from redi_ray.train.early_stop import EarlyStop
from redi_ray.train.guard import Guard, reach
from redi_ray.train.monitors import Monitors
from redi_ray.train.optim import clip_gradients, learning_rate_at, make_optimizer, set_learning_rate, update_norm
from redi_ray.train.process import peak_memory_gib
from redi_ray.train.progress import LoopState, Status, TrainResult
from redi_ray.train.rehearsal import Rehearsed, added
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.step import forward_backward

log = logging.getLogger("redi_ray")

MAX_SKIPS_IN_A_ROW = 10
"""After this many steps without a finite gradient, `skip` gives up too: the weights are beyond repair."""


@dataclass(frozen=True)
class Hooks:
    """What the surroundings may add. Each is called on every rank, and must treat all ranks alike."""

    on_step: Callable[[int, Mapping[str, float]], Mapping[str, float] | None] = lambda step, metrics: None
    """After every step (the first is 0); what it returns joins the step's metrics."""
    on_checkpoint: Callable[[int, Mapping[str, float]], None] = lambda steps, metrics: None
    """After a checkpoint of `steps` steps is durable."""
    on_probe: Callable[[int, Mapping[str, float]], None] = lambda steps, metrics: None
    """After `steps` steps, when development accuracy has been measured and is among the metrics."""
    checkpoint_requested: Callable[[], bool] = lambda: False
    """Asked at every step; a yes on any rank saves after it (a node is about to go), and training continues."""
    stop_requested: Callable[[], bool] = lambda: False
    """Asked at every step; a yes on any rank saves after it and ends the run as `preempted`."""


def train(
    policy: Policy,
    store: SequenceStore,
    objective: Objective,
    settings: TrainSettings,
    *,
    rehearsed: Rehearsed | None = None,
    distributed: Distributed | None = None,
    checkpoints: Checkpointer | None = None,
    monitors: Monitors | None = None,
    hooks: Hooks | None = None,
    anchor: Policy | None = None,
) -> TrainResult:
    """Train in place, from the newest of `checkpoints` if there is one. A collective call: all ranks make it alike.

    `policy` is on its device and sharded (`shard_policy`) before; `anchor` is a frozen one, see `forward_backward`. Raises
    ValueError where settings and data do not fit, and TrackerError where a tracker does not start.
    """
    who = distributed or Distributed()
    hooks = hooks or Hooks()
    how = partial(_Run, policy, store, objective, settings=settings, who=who, checkpoints=checkpoints, hooks=hooks)
    run = together(partial(how, rehearsed=rehearsed, anchor=anchor))
    monitors = monitors or Monitors()
    run.resume()
    try:
        together(partial(monitors.start, run.progress.step))
        while run.status == "running":
            step = run.progress.step
            metrics = run.one_step(step)
            metrics |= run.hooks.on_step(step, metrics) or {}
            metrics |= run.judge(metrics)
            monitors.log(step, metrics)
            if run.save_is_due():
                monitors.sync()
                run.save()
        if run.status == "rolled_back":
            run.roll_back()
        elif settings.export == "best" and run.status in ("done", "stopped_by_guard"):
            run.take_best()
    except BaseException:
        monitors.close(failed=True)
        raise
    monitors.close()
    return run.result()


class _Run:
    """The state of one call of `train`, and its steps by name."""

    def __init__(
        self,
        policy: Policy,
        store: SequenceStore,
        objective: Objective,
        *,
        settings: TrainSettings,
        who: Distributed,
        checkpoints: Checkpointer | None,
        hooks: Hooks,
        rehearsed: Rehearsed | None,
        anchor: Policy | None,
    ) -> None:
        if settings.guard.action == "rollback" and checkpoints is None:
            raise ValueError("guard.action = rollback needs checkpoints to go back to")
        if settings.export == "best" and (checkpoints is None or checkpoints.keep_best != settings.keep_best):
            raise ValueError("export = best needs checkpoints that keep it")
        self.policy, self.store, self.objective, self.settings = policy, store, objective, settings
        self.anchor = anchor
        self.who, self.checkpoints, self.hooks = who, checkpoints, hooks
        self.plan = plan_batches(store, settings, who.world_size, objective)
        self.rehearsed = rehearsed
        self.rehearsals = rehearsed.plan(self.plan.total_steps, settings, who.world_size) if rehearsed else None
        self.optimizer = make_optimizer(policy, settings)
        self.progress = LoopState()
        self.guard, self.early_stop = Guard(settings.guard), EarlyStop(settings)
        self.status: Status = "running"
        self.reason = ""
        self.save_requested = self.stop_requested = False
        self.warned_at: int | None = None
        """The last step at which the guard's finding was told, while it still finds it."""

    def resume(self) -> None:
        """Go on from the newest valid checkpoint, if there is one."""
        restored = self.checkpoints.load(self.policy, self.optimizer) if self.checkpoints else None
        if restored is not None:
            self.progress = LoopState(**restored.state)
            self.guard = Guard(self.settings.guard, self.progress.guard)
            self.early_stop = EarlyStop(self.settings, **self.progress.best)
            self.status, self.reason = self.progress.ended or "running", self.progress.reason
            if self.who.rank == 0:
                log.info("resumed from %s", restored.name)
        elif self.settings.guard.action == "rollback":
            self.save()  # a collapse may begin before the first regular checkpoint
        if self.status == "running":
            self._end_if_done()
        if self.status == "running":
            self.progress.on_ranks(self.who.world_size)

    def one_step(self, step: int) -> dict[str, float]:
        """Gradient of the global loss, then the update, or none if anything is not finite on any rank."""
        started = time.perf_counter()
        total, who = self.plan.total_steps, self.who
        torch.manual_seed(((self.settings.seed << 24) + step) * 4096 % 2**62 + who.rank)  # for dropout
        set_learning_rate(self.optimizer, learning_rate_at(step, total, self.settings))
        gradient = partial(
            forward_backward,
            self.policy,
            progress=step / total,
            settings=self.settings,
            rank=who.rank,
            world_size=who.world_size,
            device=who.device,
            anchor=self.anchor,
        )
        result = gradient(store=self.store, plan=self.plan[step], objective=self.objective)
        if (its := self.rehearsed) is not None and self.rehearsals is not None:
            result = added(result, gradient(store=its.store, plan=self.rehearsals[step], objective=its.objective))
        grad_norm = clip_gradients(self.policy.parameters(), self.settings.max_grad_norm)
        bad, self.save_requested, self.stop_requested = any_rank(
            [
                not (result.finite and math.isfinite(grad_norm)),
                self.hooks.checkpoint_requested(),
                self.hooks.stop_requested(),
            ],
            who.device,
        )
        change = self._skip(step, result.loss, grad_norm) if bad else self._update()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - started
        return {
            "loss": result.loss,
            **result.metrics,
            "grad_norm": grad_norm,
            "update_norm": change,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "tokens_per_second": result.metrics["total_tokens"] / seconds,
            "ranks": float(who.world_size),
            "peak_memory_gib": peak_memory_gib(who.device),
            "applied": float(not bad),
        }

    def _update(self) -> float:
        self.optimizer.step()
        self.progress.skipped_in_a_row = 0
        return update_norm(self.optimizer)

    def _skip(self, step: int, loss: float, grad_norm: float) -> float:
        self.progress.skipped += 1
        self.progress.skipped_in_a_row += 1
        message = f"step {step} is not finite (loss {loss}, gradient norm {grad_norm})"
        if self.settings.on_nonfinite == "stop" or self.progress.skipped_in_a_row >= MAX_SKIPS_IN_A_ROW:
            self.status, self.reason = "nonfinite", message
        elif self.who.rank == 0:
            log.warning("%s: skipped", message)
        return 0.0

    def judge(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Count the step, hear the guard, and decide whether the run ends here."""
        self.progress.metrics = dict(metrics)
        if self.status == "nonfinite":
            return {}
        self.progress.step += 1
        found = self._ask_guard(metrics)
        self.early_stop.observe(self.progress.step, metrics)
        self.progress.best = self.early_stop.state_dict()
        if self.status == "running":
            self._end_if_done()
        if self.status == "running" and self.stop_requested:
            self.status = "preempted"
        return {} if self.settings.guard.action == "off" else {"collapse": float(found is not None)}

    def _end_if_done(self) -> None:
        """All steps are done, or there has been nothing better for too long."""
        reason = self.early_stop.reason(self.progress.step)
        if reason and self.progress.step < self.plan.total_steps:
            self.reason = reason
            if self.who.rank == 0:
                log.info("training ends early: %s", reason)
        if reason or self.progress.step >= self.plan.total_steps:
            self.status = "done"

    def _ask_guard(self, metrics: Mapping[str, float]) -> str | None:
        guard, action = self.settings.guard, self.settings.guard.action
        if action == "off" or not metrics["applied"]:
            return None
        found = self.guard.observe(metrics)
        self.progress.guard = self.guard.state_dict()
        if found is None:
            self.warned_at = None
            return None
        step, progress = self.progress.step - 1, self.progress
        progress.trips += 1
        progress.first_trip = progress.first_trip or f"step {step}: {found}"
        if action != "warn":
            progress.ended, progress.reason = ("rolled_back" if action == "rollback" else "stopped_by_guard"), found
            self.status, self.reason = progress.ended, found
        # a plunge trips at every step while it lasts, an accuracy once for each time that it is measured
        if self.warned_at is None or "dev_accuracy" in metrics or step - self.warned_at >= guard.window:
            self.warned_at = step
            if self.who.rank == 0:
                log.warning("step %d: %s (guard: %s)", step, found, action)
        return found

    def save_is_due(self) -> bool:
        if self.status == "nonfinite":
            return False
        return self._is_regular() or self.save_requested or self.status != "running"

    def _is_regular(self) -> bool:
        every = self.settings.checkpoint_every
        return every > 0 and self.progress.step % every == 0

    def save(self) -> None:
        if self.checkpoints is not None:
            asked_for = self.status in ("running", "preempted") and not self._is_regular()
            self.progress.extra = asked_for or self.status == "rolled_back"
            self.checkpoints.save(self.policy, self.optimizer, self.progress.step, asdict(self.progress))
            self.hooks.on_checkpoint(self.progress.step, self.progress.metrics)

    def roll_back(self) -> None:
        """Load the newest checkpoint from before the collapse can have begun."""
        assert self.checkpoints is not None
        before = self.progress.step - reach(self.settings)
        restored = self.checkpoints.load(self.policy, self.optimizer, at_most=max(0, before))
        if restored is None:
            raise RuntimeError(f"no valid checkpoint of at most {before} steps is left to roll back to")
        self._go_back(restored)
        if self.who.rank == 0:
            log.warning("rolled back to %s", restored.name)

    def take_best(self) -> None:
        """Load the checkpoint that did best; without any (the guard may be earlier than the first) all stays as it is."""
        assert self.checkpoints is not None
        if (restored := self.checkpoints.load_best(self.policy, self.optimizer)) is not None:
            self._go_back(restored)

    def _go_back(self, restored: Restored) -> None:
        """The progress of a restored checkpoint, with the metrics of the last step that ran and what the guard has seen."""
        last = self.progress
        seen = {"metrics": last.metrics, "trips": last.trips, "first_trip": last.first_trip}
        self.progress = LoopState(**{**restored.state, **seen})

    def result(self) -> TrainResult:
        done = self.progress
        ended = (self.status, self.plan.total_steps, done.skipped, done.metrics, self.reason)
        sizes = tuple((step, ranks) for step, ranks in done.world_sizes)
        return TrainResult(done.step, *ended, trips=done.trips, first_trip=done.first_trip, world_sizes=sizes)
