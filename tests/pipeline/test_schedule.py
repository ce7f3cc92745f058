"""Steps side by side: no more than wanted, none before what it comes from, none after a failure, and trainings saved first."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from redi_ray.cluster.capacity import demand
from redi_ray.cluster.exits import clear_errors
from redi_ray.cluster.preemption import ends_on_sigterm, saving_first
from redi_ray.errors import Preempted, UserError
from redi_ray.pipeline.graph import Step
from redi_ray.pipeline.room import packs
from redi_ray.pipeline.schedule import Limits, walk
from redi_ray.store.manifests import Manifest

STEPS = [
    Step("p", "problems"),
    *(Step(name, "train", {"start": "p"}) for name in "abc"),
    Step("soup", "merge", {"a": "a", "b": "b"}),
    *(Step(f"eval/{name}", "evaluate", {"model": name}) for name in ("a", "b", "soup")),
]


class Work:
    """Makes steps, each in a moment; notes their order and which have run together."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.lock = failing, threading.Lock()
        self.begun: list[str] = []
        self.together: set[frozenset[str]] = set()
        self.at_work: set[str] = set()
        self.threads: set[int] = set()

    def __call__(self, step: Step) -> Manifest:
        with self.lock:
            self.begun.append(step.name)
            self.at_work.add(step.name)
            self.threads.add(threading.get_ident())
            self.together.add(frozenset(self.at_work))
        time.sleep(0.03)
        with self.lock:
            self.at_work.remove(step.name)
        if step.name == self.failing:
            raise UserError("it is broken")
        return Manifest(stage=step.name, key="", uri="", config={}, inputs={})


@pytest.mark.parametrize(
    ("limits", "most", "mixed"),
    [(Limits(), 1, False), (Limits(1, 2), 2, False), (Limits(2, 1), 2, True), (Limits(3, 3), 3, True)],
)
def test_no_more_than_wanted_and_in_order(limits: Limits, most: int, mixed: bool) -> None:
    """With one step at a time evaluations still have a limit of their own, and then run beside nothing else."""
    work, done = Work(), dict[str, Manifest]()
    walk(STEPS, done, work, limits)
    assert set(done) == set(work.begun) == {step.name for step in STEPS}
    assert len(work.begun) == len(STEPS)
    place = {name: number for number, name in enumerate(work.begun)}
    assert all(place[step.name] > place[of] for step in STEPS for of in step.inputs.values())
    assert max(map(len, work.together)) <= most
    kinds = [{name.startswith("eval/") for name in names} for names in work.together]
    assert mixed or not any(len(found) == 2 for found in kinds)
    assert max(sum(n.startswith("eval/") for n in names) for names in work.together) <= limits.evaluations
    if most == 1:
        assert work.begun == [step.name for step in STEPS]
        assert work.threads == {threading.get_ident()}


def test_independent_steps_run_together() -> None:
    """A training beside a training, then an evaluation beside a training: each waits until the other is there, too."""
    together = {
        frozenset("ab"): threading.Barrier(2, timeout=20),
        frozenset(["c", "eval/a"]): threading.Barrier(2, timeout=20),
    }

    def make(step: Step) -> Manifest:
        next(barrier for names, barrier in together.items() if step.name in names).wait()
        return Manifest(stage=step.name, key="", uri="", config={}, inputs={})

    done = {"p": Manifest("p", "", "", {}, {})}
    walk([*STEPS[1:4], STEPS[5]], done, make, Limits(2, 1))
    assert set(done) == {"p", "a", "b", "c", "eval/a"}


def test_what_finds_no_room_waits_until_it_is_alone() -> None:
    """Also when it would never fit beside another: nothing hangs, nothing fails."""
    work, done = Work(), dict[str, Manifest]()
    walk(STEPS, done, work, Limits(3, 3), fits=lambda running, step: step.name not in ("b", "soup"))
    assert len(done) == len(STEPS)
    begun_beside = [names for names in work.together if "b" in names and len(names) > 1]
    assert all(work.begun.index("b") < work.begun.index(name) for names in begun_beside for name in names - {"b"})


def test_after_a_failure_nothing_begins_and_the_step_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    work, done = Work(failing="a"), dict[str, Manifest]()
    with pytest.raises(SystemExit), clear_errors():
        walk(STEPS, done, work, Limits(2, 1))
    begun = len(work.begun)
    time.sleep(0.2)
    assert len(work.begun) == begun <= 4
    assert "a" not in done
    assert capsys.readouterr().err.endswith("error: it is broken\n  in step a (train)\n")


def test_a_training_beside_a_failure_saves_first() -> None:
    saved = threading.Event()

    def make(step: Step) -> Manifest:
        if step.name == "a":
            time.sleep(0.1)
            raise UserError("it is broken")
        with saving_first() as asked:
            assert asked.wait(20)
            time.sleep(0.1)  # its step
            saved.set()
        return Manifest(stage=step.name, key="", uri="", config={}, inputs={})

    with pytest.raises(UserError):
        walk(STEPS[1:3], {"p": Manifest("p", "", "", {}, {})}, make, Limits(2, 1))
    assert saved.is_set()


def test_sigterm_saves_every_training_and_nothing_more_begins() -> None:
    """Also what would become free to begin while they save, because a step beside them ends."""
    begun, saved = [], []

    def make(step: Step) -> Manifest:
        begun.append(step.name)
        if step.name == "a":
            while len(begun) < 3:
                time.sleep(0.01)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
            return Manifest(step.name, "", "", {}, {})
        with saving_first() as asked:
            assert asked.wait(20)
            time.sleep(0.5 if step.name == "b" else 0.7)  # its step
            saved.append(step.name)
        raise Preempted("saved")

    with pytest.raises(Preempted), ends_on_sigterm():
        walk(STEPS[1:], {"p": Manifest("p", "", "", {}, {})}, make, Limits(3, 1))
    assert begun == ["a", "b", "c"]
    assert sorted(saved) == ["b", "c"]


def node(cpus: float, gpus: float = 0, **labels: str) -> dict:
    return {"Resources": {"CPU": cpus, "GPU": gpus}, "Labels": labels}


def test_room_is_by_node_and_label() -> None:
    """Half of two engines on two nodes is no engine, and GPUs of the wrong pool are none."""
    engine, trainer = [{"CPU": 1.0, "GPU": 2.0}], [{"CPU": 1.0, "GPU": 1.0}] * 2
    both = [demand("engine", engine, {}), demand("trainer", trainer, {})]
    assert packs([node(4, 4)], both)
    assert packs([node(1, 2), node(2, 2)], both)
    assert not packs([node(4, 3), node(4, 0)], both)
    assert not packs([node(2, 1), node(2, 1)], both[:1])
    labelled = [demand("engine", engine, {"pool": "big"})]
    assert packs([node(4, 4), node(4, 2, pool="big")], labelled)
    assert not packs([node(4, 4), node(4, 1, pool="big")], labelled)
