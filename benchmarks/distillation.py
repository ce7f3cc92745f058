"""Learning from a teacher: from its texts, right and wrong, from its distributions, or from what it says of the student's texts.

    python benchmarks/distillation.py [--quick] [--out DIR] [--seeds N] [--tuning N] [--rates R ...]

A seed decides a world of `reproduction.py` with its problems, a student that all arms start from, a larger teacher, and 4 samples
of each problem by either. Every step of every arm reads 16 sequences that the teacher has written, or has scored where the
student wrote them, so that arms are compared at equal tokens of the teacher. Learning rates: the best mean development pass@1 in
the tuning worlds; where the best is at an end of the rates, further ones are tried, at most two. Reporting worlds are others,
their test problems are asked once. Arms are compared world by world (Student's t, two-sided, 95 % intervals). Every model, every
set of samples and every (world, arm, rate) is written to DIR when it is finished: the same command goes on where it was cut off,
one at another scale is refused there. The last line is JSON; it, the table and the figure are written to DIR as
`distillation.json`, `.md` and `.png`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from distillation_world import ARMS, COMPARED, Distillation, DistillationScale
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from wrong_parts import FIRST_TUNING, Family, best, compare, mean_facts, report, sem, tune
from wrong_parts_figure import by_arm, by_rate
from wrong_parts_runs import Outcome, replaced, write

from redi_ray.report.figures import STYLE

RATES = (6.3e-5, 2e-4, 6.3e-4, 2e-3)
START = "student"
TOY = DistillationScale(
    **{"problems": 40, "dev": 10, "test": 10, "corpus": 1200, "student_corpus": 400, "min_digits": 2, "max_digits": 2},
    **{"sft_epochs": 1, "steps": 2, "dev_samples": 1, "test_samples": 2},
)


def arm_record(outcomes: Sequence[Outcome], samples: int) -> dict[str, Any]:
    """An arm's test pass@1 in percent over worlds."""
    per_seed = [100 * float(np.mean(outcome.right or [])) / samples for outcome in outcomes]
    found = {"learning_rate": outcomes[0].learning_rate, "mean": float(np.mean(per_seed)), "sem": sem(per_seed)}
    return found | {"per_seed": per_seed}


def hold(folder: Path, scale: DistillationScale) -> None:
    """Say at which scale and with which objectives the folder's results are made; end where those in it are others."""
    now = json.loads(json.dumps({"scale": asdict(scale), "arms": {name: asdict(arm) for name, arm in ARMS.items()}}))
    path = folder / "made_with.json"
    if path.exists() and json.loads(path.read_text()) != now:
        raise SystemExit(f"{folder} holds results of another scale or of other arms: name another folder with --out")
    write(path, now)


def run(scale: DistillationScale, told: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Tune, choose, test."""
    family = Family(Distillation, scale, scale, ARMS, COMPARED, Distillation.facts)
    tuning = [Distillation(FIRST_TUNING + number, scale, folder) for number in range(told.tuning)]
    dev = tune(family, tuning, told.rates, folder)
    chosen: dict[str, float | None] = {START: None} | {name: best(means) for name, means in dev.items()}
    worlds = [Distillation(1 + number, scale, folder) for number in range(told.seeds)]
    outcomes = report(family, worlds, chosen, folder)
    arms = {name: arm_record(found, scale.test_samples) for name, found in outcomes.items()}
    return {
        "arms": arms,
        "compared": [compare(arms, one, other) for one, other in COMPARED],
        "dev": {name: {f"{rate:g}": round(mean, 4) for rate, mean in means.items()} for name, means in dev.items()},
        "facts": mean_facts([world.facts() for world in worlds]),
    }


def table(result: Mapping[str, Any]) -> str:
    """The arms and the comparisons, as Markdown."""
    lines = ["| arm | learning rate | pass@1, % | by world |", "|---|---|---|---|"]
    for name, arm in result["arms"].items():
        rate = "" if arm["learning_rate"] is None else f"{arm['learning_rate']:g}"
        by = " ".join(f"{value:.1f}" for value in arm["per_seed"])
        lines.append(f"| {name} | {rate} | {arm['mean']:.1f} ± {arm['sem']:.1f} | {by} |")
    lines.append(f"| teacher | | {100 * result['facts']['teacher']:.1f} | |")
    lines += ["", "| arm | against | difference | 95 % | above in | p |", "|---|---|---|---|---|---|"]
    for row in result["compared"]:
        low, high = row.get("interval", [float("nan")] * 2)
        lines.append(
            f"| {row['arm']} | {row['than']} | {row['difference']:+.1f} | {low:+.1f} to {high:+.1f} "
            f"| {row['above_in']} | {row.get('p_value', float('nan')):.4f} |"
        )
    return "\n".join(lines)


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write the PNG: development score by learning rate, test score by arm, the teacher's as a line."""
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=(11, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        rates, arms = figure.subplots(1, 2, width_ratios=(1.2, 1))
        by_rate(rates, result, "a smaller student")
        by_arm(arms, result)
        arms.axvline(100 * result["facts"]["teacher"], color="#8a8a8c", linestyle=":", label="the teacher")
        arms.legend(fontsize=8, frameon=False)
        figure.savefig(path, dpi=130, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="toy worlds and one learning rate, to see that it runs")
    parser.add_argument("--out", type=Path, help="keep runs, table and figure here (default: a temporary folder)")
    parser.add_argument("--seeds", type=int, help="reporting worlds (default 5)")
    parser.add_argument("--tuning", type=int, help="tuning worlds (default 2)")
    parser.add_argument("--rates", type=float, nargs="+", help=f"learning rates (default {' '.join(map(str, RATES))})")
    told = parser.parse_args()
    told.seeds = told.seeds or (2 if told.quick else 5)
    told.tuning = told.tuning or (1 if told.quick else 2)
    told.rates = told.rates or ((1e-3,) if told.quick else RATES)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = told.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        scale = TOY if told.quick else DistillationScale()
        hold(folder, scale)
        result = run(scale, told, folder)
        print(f"\n{table(result)}\n", flush=True)
        replaced(folder / "distillation.md", lambda path: path.write_text(table(result) + "\n"))
        replaced(folder / "distillation.png", lambda path: draw(result, path))
        write(folder / "distillation.json", result)
    print(json.dumps(result | {"seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    main()
