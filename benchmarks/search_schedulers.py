"""Does ASHA find what the whole grid finds, and with how many of its steps?

    python benchmarks/search_schedulers.py [--quick] [--out DIR] [--config FILE] [--seeds 1 2 3]

The searches of a config (default: configs/search_demo.yaml), once per seed, which orders the data and the trials: first
with ASHA, then every cell to its end. Both run on Ray Tune, as `redi-ray tune` does, share the stages before, and export
a trial's best checkpoint by development accuracy, which is its value. ASHA's trials also end where there was no better one
for `--patience` steps, unless it is 0. Its choice counts as good as the grid's if it is at most one SEM below (that of the
grid's best cell, from its problems). What is finished in DIR is not computed again. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from redi_ray.cluster.runtime import ray_connection, setup_logging
from redi_ray.config.load import load_config
from redi_ray.search.plan import SearchPlan
from redi_ray.search.results import Point, to_points, winner
from redi_ray.search.tuner import run_search

CONFIG = Path(__file__).parent.parent / "configs" / "search_demo.yaml"
QUICK = [
    "problems.source={kind: arithmetic, num_problems: 80, num_test: 20, num_dev: 40}",
    "model.init.corpus_size=600",
    "generate.max_rounds=1",
    "sft.train.epochs=1",
    "redi.train.epochs=4",
    "redi.train.probe={every: 4, problems: 40, max_tokens: 96, batch_size: 40}",
    "search.space={redi.train.learning_rate: {grid: [3e-5, 3e-4, 3e-3]}}",
]
BEST = ("keep_best=dev_accuracy", "export=best")
"""A trial is worth its best checkpoint."""


def search(config: str, overrides: list[str]) -> tuple[Point | None, int]:
    """The winner, and the steps of all trials together."""
    plan = SearchPlan(load_config(config, overrides))
    records = run_search(plan, local=True)
    return winner(to_points(records), plan.search.mode, 1), sum(record.steps for record in records)


def compare(config: str, overrides: list[str], asha: dict[str, Any], patience: int, seed: int) -> dict[str, Any]:
    """Both searches with one seed."""
    overrides = [*overrides, f"search.seeds=[{seed}]", f"search.seed={seed}"]
    started = time.monotonic()
    rule = [f"search.scheduler={json.dumps(asha)}", f"redi.train.patience={patience or 'null'}"]
    chosen, asha_steps = search(config, [*overrides, *rule])
    between = time.monotonic()
    best, grid_steps = search(config, [*overrides, "search.scheduler={kind: none}"])
    if best is None or best.value is None or best.sem is None:
        raise SystemExit("no cell of the grid has a value and a SEM: every trial collapsed, or the metric has none")
    value = chosen.value if chosen is not None else None
    found = {
        "seed": seed,
        "asha": {"cell": chosen.name if chosen else None, "value": value, "steps": asha_steps},
        "grid": {"cell": best.name, "value": best.value, "sem": best.sem, "steps": grid_steps},
        "steps_ratio": round(asha_steps / grid_steps, 3),
        "within_one_sem": value is not None and best.value - value <= best.sem,
        "seconds": {"asha": round(between - started), "grid": round(time.monotonic() - between)},
    }
    print(json.dumps(found), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="one seed and three cells of a toy world, to see that it runs"
    )
    parser.add_argument("--config", default=str(CONFIG), help="a config with a grid search whose metric has SEMs")
    parser.add_argument("--out", type=Path, help="keep the runs here (default: a temporary folder)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--grace-steps", type=int, help="ASHA's (default: one interval of the probe)")
    parser.add_argument("--reduction-factor", type=float, default=4, help="ASHA's: one in so many goes on")
    parser.add_argument("--patience", type=int, help="of ASHA's trials (default: two intervals of the probe)")
    told = parser.parse_args()
    setup_logging()
    with tempfile.TemporaryDirectory() as temporary:
        overrides = [f"storage.root={told.out or temporary}", *(QUICK if told.quick else [])]
        config = load_config(told.config, overrides)
        if config.redi.train.probe is None:
            raise SystemExit(f"{told.config} has no redi.train.probe, by which the trials are compared")
        every = config.redi.train.probe.every
        overrides += [f"redi.train.{name}" for name in (f"checkpoint_every={every}", *BEST)]
        patience = 2 * every if told.patience is None else told.patience
        asha = {
            "kind": "asha",
            "grace_steps": told.grace_steps or every,
            "reduction_factor": told.reduction_factor,
        }
        with ray_connection(config.resources.ray, dashboard=True):  # Ray Train asks it which trials were stopped
            seeds = told.seeds[:1] if told.quick else told.seeds
            runs = [compare(told.config, overrides, asha, patience, seed) for seed in seeds]
    steps = {name: sum(run[name]["steps"] for run in runs) for name in ("asha", "grid")}
    result = {
        "benchmark": "search_schedulers",
        "quick": told.quick,
        "steps_ratio": round(steps["asha"] / steps["grid"], 3),
        "seeds_within_one_sem": sum(run["within_one_sem"] for run in runs),
        "seeds": len(runs),
        "asha": {**asha, "patience": patience},
        "runs": runs,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
