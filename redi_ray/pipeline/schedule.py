"""Walking a graph: steps that do not depend on each other run side by side, as many as wanted and as there is room for.

Only the thread that walks decides what begins and remembers what was made; a step's thread makes its one output. After a
failure, or a SIGTERM, nothing more begins: trainings at work save, and the rest is cut off, since its finished shards are on
disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

from redi_ray.cluster.preemption import is_ending, save_trainings
from redi_ray.cluster.runtime import log
from redi_ray.modeling.tokenizer import import_for_threads
from redi_ray.pipeline.graph import Step
from redi_ray.store.lock import LockLost
from redi_ray.store.manifests import Manifest


@dataclass(frozen=True)
class Limits:
    """How many steps may run at a time."""

    steps: int = 1
    """Of all kinds together, but that evaluations among themselves have a limit of their own."""
    evaluations: int = 1

    def allow(self, running: Sequence[Step], step: Step) -> bool:
        """Whether it may begin beside these."""
        scores = sum(one.gives == "scores" for one in (*running, step))
        others = len(running) + 1 - scores
        if scores and others:
            return scores + others <= self.steps and scores <= self.evaluations
        return scores <= self.evaluations and others <= self.steps

    def alone(self, step: Step) -> bool:
        """Whether nothing may ever run beside it."""
        return self.steps == 1 and (step.gives != "scores" or self.evaluations == 1)


def walk(
    steps: Sequence[Step],
    done: dict[str, Manifest],
    make: Callable[[Step], Manifest],
    limits: Limits,
    *,
    waits_for: Callable[[Step], set[str]] = lambda step: set(step.inputs.values()),
    fits: Callable[[Sequence[Step], Step], bool] = lambda running, step: True,
) -> None:
    """Make the steps that `done` lacks and add them to it, each as soon as what it waits for is there, in their order.

    fits: whether there is room for a step beside those that run; one that nothing runs beside is not asked about. A step that
    nothing may run beside is made in this very thread. Raises what the first step to fail has raised, its name added.
    """
    left = [step for step in steps if step.name not in done]
    running: dict[Future[Manifest], Step] = {}
    pool = ThreadPoolExecutor(max(limits.steps, limits.evaluations), thread_name_prefix="step")
    try:
        while left or running:
            begun = False
            for step in [step for step in left if waits_for(step) <= done.keys()]:
                beside = list(running.values())
                if is_ending() or not limits.allow(beside, step) or (beside and not fits(beside, step)):
                    continue
                left.remove(step)
                begun = True
                if limits.alone(step):
                    with named(step):
                        done[step.name] = make(step)
                    break  # what waited for it may come before the others
                import_for_threads()
                running[pool.submit(make, step)] = step
            assert begun or running, f"nothing makes what {', '.join(step.name for step in left)} wait for"
            if running:
                _take_finished(running, left, done)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _take_finished(running: dict[Future[Manifest], Step], left: Sequence[Step], done: dict[str, Manifest]) -> None:
    """Wait until some step has ended, and remember what it made. If it failed, save the trainings beside it, then raise."""
    finished, _ = wait(running, return_when=FIRST_COMPLETED)
    ended = [(running.pop(future), future) for future in finished]
    done.update({step.name: future.result() for step, future in ended if future.exception() is None})
    for step, future in ended:
        if (error := future.exception()) is None:
            continue
        if running:
            cut = ", ".join(other.name for other in running.values())
            log.warning("%s has ended before its time, and with it: %s; not begun: %d steps", step.name, cut, len(left))
        if not isinstance(error, LockLost):  # who has lost the run must not write it
            save_trainings()
        with named(step):
            future.result()


@contextmanager
def named(step: Step) -> Iterator[None]:
    """An error that leaves the block says in which step it happened."""
    try:
        yield
    except Exception as error:
        note = f"in step {step.name} ({step.kind})"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise
