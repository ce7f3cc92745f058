"""A training that grows and shrinks with the cluster: when, to how many ranks, and what is saved before.

Ray Train changes the number of ranks by ending all of them and starting others, which go on from the newest checkpoint; a
step's batch does not depend on their number, so nothing else changes. Its own policy ends them at once, which loses the
steps since that checkpoint, and goes by what nodes have in all, whatever their labels, what else runs there, and whether
they are about to go; what it then waits for may never come. Here:

    growing     the ranks are asked to save (RESIZE), go on, and are ended when it is done (RESIZED); while they cannot save,
                because they load, probe or export, nothing happens. It is no failure, and there is no limit to it.
    shrinking   a node with notice: the ranks save, and leave if there are enough without it (`GivingWay`), which Ray Train
                counts as a preemption. A node without: the ranks fail, and those that find room go on from the newest
                checkpoint, as with any failure.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from contextlib import suppress
from typing import Any

from ray.train import ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)
from ray.train.v2.api.exceptions import PreemptionError

from redi_ray.cluster.capacity import free_resources
from redi_ray.cluster.notices import tell
from redi_ray.errors import StorageError
from redi_ray.store import storage
from redi_ray.train.on_ray.orders import RESIZE, RESIZED, Orders
from redi_ray.train.on_ray.outside import GivingWay

SETTLE_SECONDS = 3.0
"""Before fewer than the most ranks begin: what has just ended is free a moment later."""
POLL_SECONDS = 0.5
"""Between two looks for room while nobody trains; Ray Train's loop itself does not pause."""
TINY = 1e-6
"""Of any resource, or ten times a tenth of a CPU would find no room on one."""
TOLD_SECONDS = 60.0
"""Between two lines that say that there is too little room."""


class SavingPolicy(ElasticScalingPolicy):
    """Ray Train's policy for a range of ranks, with the differences above. It runs in Ray Train's controller."""

    def __init__(self, scaling: ScalingConfig, orders: Orders) -> None:
        super().__init__(scaling)  # type: ignore[arg-type]  # Ray Train V2's, put in place at run time
        self.name, self.selector = orders.name, dict(scaling.label_selector or {})  # type: ignore[attr-defined]
        self.resize, self.resized = (storage.join(orders.bookkeeping, file) for file in (RESIZE, RESIZED))
        self.ours: Counter[str] = Counter()
        """Ranks by node: those that run, and those that have failed, whose places Ray Train keeps until the next begin."""
        self.asked: str | None = None
        """What the ranks have been asked to save for."""
        self.waiting_since: float | None = None
        self.told_at = -TOLD_SECONDS

    def _get_reserved_resources(self) -> dict[str, dict[str, float]]:
        """By node, what ranks may take: what is free there, and what they have."""
        each = self.scaling_config._resources_per_worker_not_none
        room = free_resources(self.selector)
        return {
            node: {name: free.get(name, 0.0) + self.ours[node] * amount + TINY for name, amount in each.items()}
            for node, free in room.items()
        }

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Begin with all ranks that find room; with fewer than the most only when there have been no more for a while."""
        self.withdraw()
        now = time.monotonic()
        self.waiting_since = now if self.waiting_since is None else self.waiting_since
        decision = super().make_decision_for_non_running_worker_group()
        if isinstance(decision, ResizeDecision):
            if decision.num_workers == self.scaling_config.max_workers or now - self.waiting_since >= SETTLE_SECONDS:
                return self.begin(decision)
        elif now - self.told_at >= TOLD_SECONDS:
            self.told_at = now
            tell(f"{self.name}: no room for {self.scaling_config.min_workers} ranks; waits for nodes", logging.WARNING)
        time.sleep(POLL_SECONDS)
        return NoopDecision()

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> ScalingDecision:
        """Grow where there is room for more and the ranks have saved. Fewer than run now is not for this to decide."""
        self.waiting_since = None
        self.ours = Counter(worker.metadata.node_id for worker in worker_group_state.workers)
        now_running = worker_group_state.num_workers
        if self.asked is None:
            decision = super().make_decision_for_running_worker_group(worker_group_state, worker_group_status)
            if isinstance(decision, ResizeDecision) and decision.num_workers > now_running:
                self.ask()
            return NoopDecision()
        self._maybe_send_resource_request()
        if not self.saved():
            return NoopDecision()
        self.withdraw()
        fitting = self._count_possible_workers(self._get_reserved_resources())  # nodes may have gone meanwhile
        if fitting <= now_running:
            return NoopDecision()
        return self.begin(self._get_resize_decision(fitting))

    def begin(self, decision: ResizeDecision) -> ResizeDecision:
        """The ranks that were are ended, and others begin; their number is told where it is another."""
        before = self.ours.total()
        if before and before != decision.num_workers:
            tell(f"{self.name}: goes on with {decision.num_workers} ranks in place of {before}")
        self.ours.clear()
        return decision

    def ask(self) -> None:
        """Ask the ranks to save."""
        asked = uuid.uuid4().hex
        with suppress(StorageError):  # at the next look
            storage.write_bytes(self.resize, asked.encode())
            self.asked = asked

    def saved(self) -> bool:
        with suppress(StorageError):
            return storage.exists(self.resized) and storage.read_bytes(self.resized).decode() == self.asked
        return False

    def withdraw(self) -> None:
        """Nothing is asked for any more."""
        if self.asked is not None:
            self.asked = None
            with suppress(StorageError):  # whoever still reads it saves once more
                storage.delete_file(self.resize)


class GivingWayPolicy(DefaultFailurePolicy):
    """Ray Train's policy for failures, to which ranks that have given way are a preemption."""

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        failures = training_failed_error.worker_failures if isinstance(training_failed_error, WorkerGroupError) else {}
        notice = next((error.notice for error in failures.values() if isinstance(error, GivingWay)), None)
        return super().make_decision(training_failed_error if notice is None else PreemptionError(notice))


class ElasticTrainer(TorchTrainer):
    """A TorchTrainer that decides by these policies. There is no public way to give Ray Train any."""

    def __init__(self, *arguments: Any, orders: Orders, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.orders = orders

    def _initialize_and_run_controller(self, **told: Any) -> Any:
        told["scaling_policy"] = SavingPolicy(self.scaling_config, self.orders)
        told["failure_policy"] = GivingWayPolicy(self.run_config.failure_config)  # type: ignore[arg-type]
        return super()._initialize_and_run_controller(**told)  # type: ignore[misc]
