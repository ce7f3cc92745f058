"""A node that goes and a rank that hangs, on a Ray of several nodes: the same numbers as where nothing happens."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from ray_nodes import ray_nodes
from recovery import tell_recovery
from tiny_runs import PLAIN_SETTINGS, TOTAL_STEPS, assert_same_run, finish, torchrun, write_inputs
from trace_shards import write_trace_shards

from redi_ray.config.answers import VerifySettings
from redi_ray.config.objectives import RediObjective
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.verify.traces import verify_traces
from redi_ray.store import parquet
from redi_ray.train.on_ray.launch import TrainOutcome, launch_training

pytestmark = [pytest.mark.long, pytest.mark.timeout(400), pytest.mark.own_ray]
WORKERS = {"pool": "workers"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def undisturbed(inputs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    finish(torchrun(*inputs, str(out), json.dumps(PLAIN_SETTINGS)))
    return out


@contextmanager
def once(condition: Callable[[], bool], act: Callable[[], None]) -> Iterator[dict[str, float]]:
    """While the block runs, `act` once when `condition` holds; the time of it under `at`. Fails if it never came to it."""
    done, over = dict[str, float](), threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            if condition():
                act()
                done["at"] = time.monotonic()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()
    assert done, "the moment never came"


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def train(inputs: tuple[str, str], out: Path, collective_timeout_s: int = 900) -> TrainOutcome:
    return launch_training(
        model_path=inputs[0],
        overrides=ModelOverrides(),
        sequences_uri=inputs[1],
        objective=RediObjective(),
        settings=TrainSettings(**(PLAIN_SETTINGS | {"checkpoint_every": 5})),  # type: ignore[arg-type]
        out_uri=str(out),
        trainer=TrainerSettings(
            num_workers=2, label_selector=WORKERS, collective_timeout_s=collective_timeout_s, trackers=[]
        ),
    )


def ranks() -> list[psutil.Process]:
    """The training workers among the processes that this test has started."""
    return [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]


def test_a_node_goes_with_all_ranks(inputs: tuple[str, str], undisturbed: Path, tmp_path: Path):
    """Two nodes could each take both ranks; the one that has them is removed."""
    with ray_nodes([{}, WORKERS, WORKERS], num_cpus=2) as (cluster, nodes):

        def remove() -> None:
            raylet = next(p for p in ranks()[0].parents() if "raylet" in p.name())
            cluster.remove_node(next(n for n in nodes if n.all_processes["raylet"][0].process.pid == raylet.pid))

        with once(lambda: lines_of(tmp_path / "metrics.jsonl") >= 12, remove) as removed:
            outcome = train(inputs, tmp_path)
    tell_recovery("the node of both ranks went", since=removed["at"])
    assert (outcome.status, outcome.steps) == ("done", TOTAL_STEPS)
    assert_same_run(tmp_path, undisturbed)


def test_a_rank_hangs(inputs: tuple[str, str], undisturbed: Path, tmp_path: Path):
    """It is stopped (SIGSTOP), not killed: nobody but the other rank can notice."""
    with ray_nodes([WORKERS]):
        stop = lambda: os.kill(ranks()[0].pid, signal.SIGSTOP)  # noqa: E731
        with once(lambda: lines_of(tmp_path / "metrics.jsonl") >= 12, stop) as stopped:
            outcome = train(inputs, tmp_path, collective_timeout_s=10)
    tell_recovery("a rank hung, 10 s of them the limit", since=stopped["at"])
    assert (outcome.status, outcome.steps) == ("done", TOTAL_STEPS)
    assert_same_run(tmp_path, undisturbed)


def test_a_node_goes_with_a_verifier(tmp_path: Path):
    inputs = write_trace_shards(str(tmp_path / "in"), shards=40, rows=50)
    out = tmp_path / "out"
    settings = VerifySettings(timeout_seconds=2)
    # two actors of one core each, one on each of two nodes
    with ray_nodes([{}, WORKERS, WORKERS], num_cpus=1) as (cluster, nodes):
        written = lambda: len(list(out.glob("*.parquet"))) >= 5  # noqa: E731
        with once(written, lambda: cluster.remove_node(nodes[1], allow_graceful=False)) as removed:
            counts = verify_traces(inputs, str(out), settings, concurrency=2, label_selector=WORKERS)
        tell_recovery("a verifier's node went", since=removed["at"])
        calm = verify_traces(inputs, str(tmp_path / "calm"), settings, concurrency=1, label_selector=WORKERS)
    assert sum(counts.verdicts.values()) == 2000
    assert counts.verdicts == calm.verdicts
    for name in (uri.rsplit("/", 1)[1] for uri in inputs):
        torn, whole = (parquet.read_tables([f"{tmp_path}/{folder}/{name}"]) for folder in ("out", "calm"))
        assert list(torn) == list(whole), name
