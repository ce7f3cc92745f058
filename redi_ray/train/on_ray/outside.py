"""What reaches the ranks from outside while they train: the driver's stop, Ray Train's wish to grow, a node's notice."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import ray.train
from ray.train.v2.api.preemption import PreemptionInfo

from redi_ray.errors import StorageError
from redi_ray.store import storage
from redi_ray.train.distributed import Distributed
from redi_ray.train.loop import Hooks
from redi_ray.train.on_ray.orders import RESIZE, RESIZED, STOP, Orders

POLL_SECONDS = {"local": 0.3, "s3": 3.0}
"""Between two looks for a word of the driver or of Ray Train."""
NOTICE_POLL_STEPS = 10
"""Steps between questions to Ray whether a node is about to go (each is a round trip of all ranks)."""


class GivingWay(RuntimeError):
    """The ranks have saved and end, because a node is about to go and there are enough of them without it."""

    def __init__(self, notice: PreemptionInfo) -> None:
        super().__init__(notice)
        self.notice = notice


class Outside:
    """One rank's view. The driver and Ray Train leave files, which rank 0 looks for beside the steps; the loop tells the others
    what it has found."""

    def __init__(self, orders: Orders, who: Distributed) -> None:
        self.orders, self.who = orders, who
        self.stop = threading.Event()
        self.resize = self.saved_for = ""
        """What Ray Train has asked to save for, and what has been saved for."""
        self.notice: PreemptionInfo | None = None
        """Of nodes that are about to go; all ranks know it."""
        self.steps = 0

    @property
    def gives_way(self) -> bool:
        """Whether enough ranks are left without those of the nodes that go: the others wait for nothing then."""
        left = self.who.world_size - len(self.notice.preempted_ranks if self.notice else ())
        return self.notice is not None and left >= self.orders.fewest_ranks

    def hooks(self) -> Hooks:
        """What the training loop asks and tells."""
        hears_probes = {"on_probe": self.report} if self.orders.report_probes else {}
        return Hooks(
            on_checkpoint=self.saved,
            checkpoint_requested=self.save_requested,
            stop_requested=lambda: self.stop.is_set() or self.gives_way,
            **hears_probes,
        )

    def save_requested(self) -> bool:
        """A collective on every tenth call, where nodes are watched."""
        self.steps += 1
        if self.orders.watch_nodes and self.notice is None and self.steps % NOTICE_POLL_STEPS == 0:
            self.notice = ray.train.get_preemption_info()
            if self.notice is not None:
                return True
        return self.resize != self.saved_for

    def saved(self, steps: int, metrics: Mapping[str, float]) -> None:
        self.answer()
        self.report(steps, metrics)

    def answer(self) -> None:
        """A checkpoint is durable: Ray Train may end the ranks, if that is what it waits for."""
        if (resize := self.resize) != self.saved_for:
            with suppress(StorageError):  # the next checkpoint tells it
                storage.write_bytes(storage.join(self.orders.bookkeeping, RESIZED), resize.encode())
                self.saved_for = resize

    def report(self, steps: int, metrics: Mapping[str, float]) -> None:
        ray.train.report({**metrics, "step": steps})

    def look(self) -> None:
        """Read what the driver and Ray Train have left."""
        stop, resize = (storage.join(self.orders.bookkeeping, name) for name in (STOP, RESIZE))
        with suppress(StorageError):  # it will be there at the next look
            if storage.exists(stop):
                self.stop.set()
            if self.orders.grows and storage.exists(resize):
                self.resize = storage.read_bytes(resize).decode()


@contextmanager
def listening(orders: Orders, who: Distributed) -> Iterator[Outside]:
    """While the block runs, rank 0 looks again and again."""
    outside, done = Outside(orders, who), threading.Event()
    seconds = POLL_SECONDS["s3" if orders.bookkeeping.startswith("s3://") else "local"]

    def watch() -> None:
        while not outside.stop.is_set() and not done.wait(seconds):
            outside.look()

    if who.rank == 0:
        threading.Thread(target=watch, name="outside", daemon=True).start()
    try:
        yield outside
    finally:
        done.set()
