"""The paper's comparison in the small: SFT, then REDI against its rivals, every arm at its own learning rate.

    python benchmarks/reproduction.py [--quick] [--out DIR] [--seeds N]

Per seed a world of its own (`reproduction_runs.py`); per arm and seed one run at each learning rate, the same ones for all
arms. The learning rate of an arm, and the alpha that stands for REDI, have the best mean development pass@1 over seeds.
Only then are the test problems touched, once: pass@1 and pass@8 as means over seeds with their SEM (ddof 1), arms compared
pairwise by seed (t-test). What is finished in DIR is not computed again. The last line is JSON, the table and the figure
(`reproduction.png`) are written to DIR.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reproduction_figure import draw
from reproduction_runs import ARMS, Outcome, Scale, SeedRun
from scipy.stats import ttest_rel

from redi_ray.eval.metrics import pass_at_k

REDI_ARMS = ("alpha 0.2", "alpha 0.5", "alpha 0.8")
QUICK = Scale(
    problems=120, dev=40, test=60, corpus=1500, sft_epochs=4, epochs=1, samples=8, dev_samples=2, learning_rates=(1e-4,)
)
Chosen = dict[str, float | None]
"""Arm -> its learning rate; None for SFT."""


def prepare_process() -> None:
    """One thread each: the processes share the cores, and the models are small."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)


def train_seed(seed: int, scale: Scale, folder: Path) -> list[Outcome]:
    """Every arm at every learning rate."""
    run = SeedRun(seed, scale, folder)
    assert run.sft is not None
    return [run.run_arm(arm, rate) for arm, rate in product(ARMS, scale.learning_rates)]


def test_seed(seed: int, scale: Scale, folder: Path, chosen: Chosen) -> dict[str, list[int]]:
    """Right answers per test problem of each arm at its learning rate."""
    run = SeedRun(seed, scale, folder)
    return {arm: run.test_verdicts(run.load(arm, rate)).sum(axis=1).tolist() for arm, rate in chosen.items()}


def dev_means(outcomes: Sequence[Outcome]) -> dict[tuple[str, float], float]:
    """Mean development pass@1 over seeds, by arm and learning rate."""
    keys = sorted({(o.arm, o.learning_rate) for o in outcomes})
    return {key: float(np.mean([o.dev for o in outcomes if (o.arm, o.learning_rate) == key])) for key in keys}


def choose(means: Mapping[tuple[str, float], float], rates: Sequence[float]) -> Chosen:
    """Each arm's best learning rate; of equal ones the lowest."""
    return {"SFT": None} | {arm: max(rates, key=lambda rate: means[arm, rate]) for arm in ARMS}


def sem(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def arm_record(arm: str, rate: float | None, right: Sequence[Sequence[int]], samples: int) -> dict[str, Any]:
    """An arm's scores. right: `[seeds][problems]`, right answers of `samples`."""
    first = [float(np.mean(row) / samples) for row in right]
    eighth = [pass_at_k(row, samples, 8) for row in right]
    return {
        "name": arm,
        "learning_rate": rate,
        "mean": float(np.mean(first)),
        "sem": sem(first),
        "per_seed": first,
        "pass@8": float(np.mean(eighth)),
        "pass@8_sem": sem(eighth),
    }


def summarize(outcomes: Sequence[Outcome], tested: Sequence[Mapping[str, list[int]]], scale: Scale) -> dict[str, Any]:
    """The fields of the last line."""
    means = dev_means(outcomes)
    chosen = choose(means, scale.learning_rates)
    arms = [arm_record(arm, rate, [row[arm] for row in tested], scale.samples) for arm, rate in chosen.items()]
    by_name = {record["name"]: record for record in arms}
    redi = by_name[max(REDI_ARMS, key=lambda arm: means[arm, chosen[arm] or 0.0])]
    others = [record for record in arms if record["name"] not in REDI_ARMS]
    best = max(others, key=lambda record: record["mean"])
    for record in arms:
        record["p_value_vs_redi"] = None if record is redi else paired(redi, record)
    collapsed = {f"{arm} at {rate:g}": 0 for arm, rate in means}
    for outcome in outcomes:
        collapsed[f"{outcome.arm} at {outcome.learning_rate:g}"] += outcome.collapsed
    return {
        "arms": arms,
        "redi": redi["name"],
        "best_other": best["name"],
        "redi_minus_best_other": redi["mean"] - best["mean"],
        "p_value": paired(redi, best),
        "dev": {f"{arm} at {rate:g}": round(mean, 4) for (arm, rate), mean in means.items()},
        "collapsed_seeds": {name: count for name, count in collapsed.items() if count},
        "seeds": len(tested),
        "scale": asdict(scale),
    }


def paired(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Two-sided p of the t-test paired by seed."""
    return float(ttest_rel(a["per_seed"], b["per_seed"]).pvalue)


def show(result: Mapping[str, Any]) -> str:
    """The table, as Markdown."""
    lines = ["| arm | learning rate | pass@1 | pass@8 | p against REDI |", "|---|---|---|---|---|"]
    for arm in result["arms"]:
        rate, p = arm["learning_rate"], arm["p_value_vs_redi"]
        lines.append(
            f"| {arm['name']} | {'' if rate is None else f'{rate:g}'} | {arm['mean']:.1%} ± {arm['sem']:.1%} "
            f"| {arm['pass@8']:.1%} ± {arm['pass@8_sem']:.1%} | {'' if p is None else f'{p:.3f}'} |"
        )
    return "\n".join(lines)


def reproduce(seeds: Sequence[int], scale: Scale, folder: Path, processes: int) -> dict[str, Any]:
    """Train, choose, test."""
    started = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=prepare_process) as pool:
        outcomes = []
        for number, found in enumerate(pool.map(partial(train_seed, scale=scale, folder=folder), seeds)):
            outcomes += found
            print(f"seed {number + 1} of {len(seeds)} trained, {time.monotonic() - started:.0f} s", flush=True)
        chosen = choose(dev_means(outcomes), scale.learning_rates)
        tested = list(pool.map(partial(test_seed, scale=scale, folder=folder, chosen=chosen), seeds))
    facts = [json.loads((folder / f"sft-{seed}.json").read_text()) for seed in seeds]
    result = summarize(outcomes, tested, scale) | {"stage_1": facts, "seconds": round(time.monotonic() - started)}
    table = show(result)
    print(table)
    (folder / "reproduction.md").write_text(table + "\n")
    draw(outcomes, result, folder / "reproduction.png")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds of a toy world, to see that it runs")
    parser.add_argument("--out", type=Path, help="keep runs, table and figure here (default: a temporary folder)")
    parser.add_argument("--seeds", type=int, default=6, help="worlds (default 6)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="seeds side by side")
    told = parser.parse_args()
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        folder = told.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        seeds, scale = (range(1, 3), QUICK) if told.quick else (range(1, told.seeds + 1), Scale())
        print(json.dumps(reproduce(seeds, scale, folder, told.processes)))


if __name__ == "__main__":
    main()
