"""A run whose training is under way: everything before it is published under its real keys, and its metrics grow as told."""

from __future__ import annotations

import json
from typing import Any

from redi_ray.config.load import dump_config, load_config
from redi_ray.pipeline.graph import Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import run_of
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.store.storage import exists, join, read_bytes, write_bytes, write_json

TRAINED = "redi"
GROUPS, STEPS_OF_BASE = 160, 8


def write_live_run(root: str, name: str = "live") -> LiveRun:
    """Problems to `sft` are finished, `redi` has begun, what comes behind is missing."""
    config = load_config("configs/demo.yaml", [f"name={name}", f"storage.root={root}"])
    run, graph = Run.of(config), graph_of(config)
    write_bytes(join(run.uri, "config.yaml"), dump_config(config).encode())
    made: dict[str, Manifest] = {}
    for step in graph.needed_for([TRAINED]):
        place = KINDS[step.kind].place(run_of(run, step), step, {role: made[of] for role, of in step.inputs.items()})
        assert isinstance(place, Stage)
        if step.name != TRAINED:
            made[step.name] = _publish(step, place)
            continue
        sequences = place.inputs["sequences"]
        write_json(join(run.uri, "sequences/pairs", sequences, "manifest.json"), {"counts": {"groups": GROUPS}})
        return LiveRun(run.uri, place, step.settings.settings.total_steps(GROUPS))
    raise AssertionError("the demo has no such arm")


def _publish(step: Step, place: Stage) -> Manifest:
    if step.gives == "model":
        write_bytes(join(place.uri, "metrics.jsonl"), b"".join(metrics_line(step) for step in range(STEPS_OF_BASE)))
        return place.publish(facts={"steps": STEPS_OF_BASE, "status": "done"}, seconds=3)
    return place.publish(counts={"in": 48, "out": 48, "positives": 40, "pairs": 30}, seconds=1)


def metrics_line(step: int, **more: Any) -> bytes:
    """As a training writes it."""
    row = {"step": step, "loss": 1 / (1 + step), "chosen_logp": -0.1, "rejected_logp": -0.2, "margin": 0.1 * step}
    row |= {"tokens_per_second": 1000.0, "total_tokens": 500.0, "grad_norm": 1.0, "learning_rate": 1e-4}
    return (json.dumps(row | more) + "\n").encode()


class LiveRun:
    """What a test lets happen in it."""

    def __init__(self, uri: str, stage: Stage, total: int) -> None:
        self.uri, self.stage, self.total, self.steps = uri, stage, total, 0

    def train(self, steps: int, **more: Any) -> None:
        """So many further optimizer steps."""
        place = join(self.stage.uri, "metrics.jsonl")
        before = read_bytes(place) if exists(place) else b""
        added = b"".join(metrics_line(self.steps + number, **more) for number in range(steps))
        write_bytes(place, before + added)
        self.steps += steps

    def finish(self) -> None:
        """The training is done."""
        self.stage.publish(facts={"steps": self.steps, "total_steps": self.total, "status": "done"}, seconds=9)
