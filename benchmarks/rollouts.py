"""Objectives on all samples of a problem against losses on one pair of it, at equal tokens, in and out of the domain learnt from.

    python benchmarks/rollouts.py [--quick] [--out DIR] [--seeds N] [--tuning N] [--rates R ...]

A seed decides a world of `reproduction.py` with its problems, the SFT model that all arms start from, and 8 samples of each
problem by that model: sampler, reference and start are one. Every step of every arm reads 16 sequences: 8 pairs, 2 problems with
all 8 samples, or 16 right ones. All that is learnt from has sums and differences only; test problems are of the same kind, and as
many of another, with products. Learning rates: the best mean development pass@1 in the tuning worlds; where the best is at an end
of the rates, further ones are tried, at most two. Reporting worlds are others, their test problems are asked once. Arms are
compared world by world (Student's t, two-sided, 95 % intervals). What is finished in DIR is not computed again. The last line is
JSON; table and figure (`rollouts.md`, `.png`) are written to DIR.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rollouts_figure import draw
from rollouts_world import ARMS, COMPARED, Rollouts, RolloutScale
from wrong_parts import FIRST_TUNING, START, Family, best, compare, mean_facts, report, sem, tune
from wrong_parts_runs import Outcome, write

from redi_ray.eval.metrics import pass_at_k

RATES = (2e-5, 6.3e-5, 2e-4, 6.3e-4)
TOY = RolloutScale(
    **{"problems": 60, "dev": 20, "test": 20, "corpus": 5000, "min_digits": 3, "max_digits": 3, "sft_epochs": 1},
    **{"steps": 3, "dev_samples": 1, "test_samples": 2, "solved": 1},
)
PARTS = {"in": 0, "out": 1}
"""Test problems of the kind learnt from, and of the other one: which half they are."""


def arm_record(outcomes: Sequence[Outcome], samples: int) -> dict[str, Any]:
    """An arm's test scores in percent over worlds: pass@1 and pass@k for all k samples, of either kind of problem."""
    found: dict[str, Any] = {"learning_rate": outcomes[0].learning_rate}
    for part, half in PARTS.items():
        rights = [np.array(outcome.right).reshape(2, -1)[half] for outcome in outcomes]
        for name, k in (("pass_at_1", 1), (f"pass_at_{samples}", samples)):
            per_seed = [100 * pass_at_k(right, samples, k) for right in rights]
            found[f"{part} {name}"] = {"mean": float(np.mean(per_seed)), "sem": sem(per_seed), "per_seed": per_seed}
    return found


def compared(arms: Mapping[str, Any], measure: str) -> list[dict[str, Any]]:
    """All comparisons by one measure."""
    records = {name: arm[measure] for name, arm in arms.items()}
    return [{"measure": measure, **compare(records, one, other)} for one, other in COMPARED]


def run(scale: RolloutScale, told: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Tune, choose, test."""
    family = Family(Rollouts, scale, scale, ARMS, COMPARED, Rollouts.facts)
    tuning = [Rollouts(FIRST_TUNING + number, scale, folder) for number in range(told.tuning)]
    dev = tune(family, tuning, told.rates, folder)
    chosen: dict[str, float | None] = {START: None} | {name: best(means) for name, means in dev.items()}
    worlds = [Rollouts(1 + number, scale, folder) for number in range(told.seeds)]
    outcomes = report(family, worlds, chosen, folder)
    arms = {name: arm_record(found, scale.test_samples) for name, found in outcomes.items()}
    return {
        "arms": arms,
        "compared": [row for measure in measures(scale.test_samples) for row in compared(arms, measure)],
        "dev": {name: {f"{rate:g}": round(mean, 4) for rate, mean in means.items()} for name, means in dev.items()},
        "facts": mean_facts([world.facts() for world in worlds]),
        "samples": scale.test_samples,
    }


def measures(samples: int) -> list[str]:
    return [f"{part} pass_at_{k}" for part in PARTS for k in (1, samples)]


def table(result: Mapping[str, Any]) -> str:
    """The arms and the comparisons, as Markdown."""
    k, columns = result["samples"], measures(result["samples"])
    lines = [f"| arm | learning rate | pass@1 | pass@{k} | products: pass@1 | pass@{k} |", "|---|---|---|---|---|---|"]
    for name, arm in result["arms"].items():
        rate = "" if arm["learning_rate"] is None else f"{arm['learning_rate']:g}"
        cells = [f"{arm[column]['mean']:.1f} ± {arm[column]['sem']:.1f}" for column in columns]
        lines.append(f"| {name} | {rate} | {' | '.join(cells)} |")
    lines += ["", "| arm | against | measure | difference | 95 % | above in | p |", "|---|---|---|---|---|---|---|"]
    for row in result["compared"]:
        low, high = row.get("interval", [float("nan")] * 2)
        lines.append(
            f"| {row['arm']} | {row['than']} | {row['measure'].replace('_at_', '@')} | {row['difference']:+.1f} "
            f"| {low:+.1f} to {high:+.1f} | {row['above_in']} | {row.get('p_value', float('nan')):.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="toy worlds and one learning rate, to see that it runs")
    parser.add_argument("--out", type=Path, help="keep runs, table and figure here (default: a temporary folder)")
    parser.add_argument("--seeds", type=int, help="reporting worlds (default 5)")
    parser.add_argument("--tuning", type=int, help="tuning worlds (default 2)")
    parser.add_argument("--rates", type=float, nargs="+", help="learning rates (default 2e-5 6.3e-5 2e-4 6.3e-4)")
    told = parser.parse_args()
    told.seeds = told.seeds or (2 if told.quick else 5)
    told.tuning = told.tuning or (1 if told.quick else 2)
    told.rates = told.rates or ((1e-4,) if told.quick else RATES)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = told.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = run(TOY if told.quick else RolloutScale(), told, folder)
        print(f"\n{table(result)}\n", flush=True)
        (folder / "rollouts.md").write_text(table(result) + "\n")
        write(folder / "rollouts.json", result)
        draw(result, folder / "rollouts.png")
    print(json.dumps(result | {"seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    main()
