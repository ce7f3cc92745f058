"""What a run has taken: every step's own numbers, what is shared once, GPU-hours by what it was given."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from redi_ray.config.load import dump_config, parse_config
from redi_ray.eval.metrics import summarize
from redi_ray.pipeline.standard import graph_of
from redi_ray.report.spent import plain, print_spent, spent
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Stage
from redi_ray.store.storage import join, write_bytes, write_json


def test_time_tokens_and_cost_of_a_run(tmp_path: Path):
    config = parse_config(
        {
            "name": "run",
            "storage": {"root": str(tmp_path)},
            "generate": {"kind": "endpoint", "endpoint": {"base_url": "http://host/v1", "model": "m"}},
            "evaluate": {"models": ["redi"]},
            "redi": {"arms": {"redi": {}, "alpha0": {}}},
            "resources": {
                "engine": {"device": "gpu", "tensor_parallel_size": 2},
                "trainer": {"num_workers": 4, "use_gpu": True},
                "gpu_hour_price": 2.0,
            },
        }
    )
    run, graph = Run.of(config), graph_of(config)
    write_bytes(join(run.uri, "config.yaml"), dump_config(config).encode())
    told = {"tokens": 5000, "prompt_tokens": 900, "cost": 0.75}
    Stage(run.uri, "traces", {}, {}).publish(counts={"in": 12, "out": 12}, facts=told, seconds=36.0)
    Stage(run.uri, "sequences/pairs", {}, {}).publish(counts={"groups": 3}, seconds=18.0)
    for arm, seconds in (("redi", 3600.0), ("alpha0", 1800.0)):
        stage = Stage(run.uri, f"checkpoints/{arm}", {"arm": arm}, {})
        lines = [{"step": 0, "total_tokens": 10}, {"step": 1, "total_tokens": 20}, {"step": 1, "total_tokens": 30}]
        write_bytes(
            join(stage.uri, "metrics.jsonl"), b"\n".join(json.dumps(line).encode() for line in lines) + b'\n{"st'
        )
        stage.publish(facts={"export": "x"}, seconds=seconds)
    scores = Stage(run.uri, "eval/redi", {}, {})
    result = summarize([[True, False]] * 3, [[10, 20]] * 3, [[False, False]] * 3)
    write_json(join(scores.uri, "report.json"), {"benchmarks": [{"name": "own", **asdict(result)}]})
    scores.publish(seconds=90.0)

    found = {row.step: row for row in spent(run, graph)}
    assert (found["traces"].sampled, found["traces"].rows, found["traces"].price) == (5000, 12, 0.75)
    assert (found["redi"].trained, found["redi"].sampled) == (40, 0)  # a step that was taken again counts once
    arms = [found["redi"].seconds, found["alpha0"].seconds]
    assert sorted(arms) in ([1818.0, 3600.0], [1800.0, 3618.0])  # what both learn from was made once
    assert found["alpha0"].gpu_hours == 4 * found["alpha0"].seconds / 3600
    assert found["alpha0"].price == 2 * found["alpha0"].gpu_hours
    evaluated = next(row for name, row in found.items() if graph[name].gives == "scores")
    assert (evaluated.sampled, round(evaluated.gpu_hours, 4)) == (90, 0.05)
    whole = plain(list(found.values()))
    assert whole["seconds"] == 36 + 18 + 3600 + 1800 + 90
    assert round(whole["price"], 2) == round(0.75 + 2 * (4 * 5418 + 2 * 90) / 3600, 2)
    console = Console(file=io.StringIO(), width=80)
    print_spent(list(found.values()), console)
    shown = console.file.getvalue()
    assert "1 h 32 min" in shown
    assert "12.89" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_without_gpus_and_prices_there_are_no_such_columns(tmp_path: Path):
    config = parse_config(
        {"name": "run", "storage": {"root": str(tmp_path)}, "resources": {"engine": {"device": "cpu"}}}
    )
    Stage(str(tmp_path / "run"), "traces", {}, {}).publish(counts={"in": 2, "out": 2}, facts={"tokens": 9}, seconds=3.0)
    rows = spent(Run.of(config), graph_of(config))
    console = Console(file=io.StringIO(), width=80)
    print_spent(rows, console)
    assert "GPU-hours" not in console.file.getvalue()
    assert "price" not in console.file.getvalue()
