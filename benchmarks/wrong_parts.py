"""Losses on steps, tokens and turns against losses on whole traces, in worlds with misconceptions.

    python benchmarks/wrong_parts.py [--quick] [--out DIR] [--worlds digits tools] [--seeds N] [--tuning N] [--rates R ...]

In the world of digits Step-DPO, cDPO and REDI on steps or weighted tokens against DPO and REDI on whole traces; in the world of
tools preferences over the model's own turns against SFT on right traces. A seed decides a world with its problems, the SFT model
that all arms start from, and all samples. Every arm has its own learning rate: the best mean development pass@1 in the tuning
worlds; where the best is at an end of the rates, further ones are tried, at most two, by the same factor. The reporting worlds
are others, their test problems are asked once. Arms are compared world by world (Student's t, two-sided, 95 % intervals). What
is finished in DIR is not computed again. The last line is JSON; table and figure (`wrong_parts.md`, `.png`) are written to DIR.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import wrong_parts_digits as digits
import wrong_parts_facts as facts
import wrong_parts_tools as tools
from scipy import stats
from wrong_parts_figure import draw
from wrong_parts_runs import Arm, Outcome, run_arm, write

RATES = (2e-5, 4.5e-5, 1e-4, 2.2e-4, 5e-4)
FURTHER = 2
"""Rates beyond the ends at the most."""
FIRST_TUNING = 101
"""Seed of the first tuning world; reporting worlds count from 1."""
START = "SFT"


@dataclass(frozen=True)
class Family:
    """A kind of world and what is compared in it."""

    world: Any
    scale: Any
    quick: Any
    arms: Mapping[str, Arm]
    compared: Sequence[tuple[str, str]]
    facts: Callable[[Any], dict[str, Any]]
    """What a world's data are, in numbers."""


TINY: dict[str, Any] = {"problems": 120, "dev": 30, "test": 40, "corpus": 1500, "sft_epochs": 2, "steps": 6}
TOY_TOOLS: dict[str, Any] = TINY | {
    **{"corpus": 3000, "min_digits": 2, "max_digits": 2, "least": 2, "largest": 5, "problems": 12, "dev": 6, "test": 6},
    **{"misconception_rate": 0.5, "own_samples": 12},
}
FAMILIES = {
    "digits": Family(
        digits.Digits,
        digits.DigitScale(),
        digits.DigitScale(**TINY, min_digits=3, max_digits=4, samples=4, continuations=4),
        digits.ARMS,
        digits.COMPARED,
        facts.facts_of,
    ),
    "tools": Family(
        tools.Tools, tools.ToolScale(), tools.ToolScale(**TOY_TOOLS), tools.ARMS, tools.COMPARED, tools.Tools.facts
    ),
}


def tune(family: Family, worlds: Sequence[Any], rates: Sequence[float], folder: Path) -> dict[str, dict[float, float]]:
    """Arm -> learning rate -> mean development pass@1 over the tuning worlds."""
    found: dict[str, dict[float, float]] = {}
    for name, arm in family.arms.items():
        means: dict[float, float] = {}
        asked = list(rates)
        while asked:
            for rate in asked:
                outcomes = [run_arm(world, name, arm, rate, folder, test=False) for world in worlds]
                means[rate] = float(np.mean([outcome.dev for outcome in outcomes]))
                print(f"{name} at {rate:g}: dev {means[rate]:.3f}", flush=True)
            asked = further(means, len(rates) + FURTHER)
        found[name] = dict(sorted(means.items()))
    return found


def further(means: Mapping[float, float], most: int) -> list[float]:
    """The next rate to try: beyond the end at which the best one is. None where it is inside, or where so many were tried."""
    rates = sorted(means)
    if len(rates) < 2 or len(rates) >= most:
        return []
    factor, chosen = rates[1] / rates[0], best(means)
    return [rates[0] / factor] if chosen == rates[0] else [rates[-1] * factor] if chosen == rates[-1] else []


def best(means: Mapping[float, float]) -> float:
    """The best rate; of equal ones the lowest."""
    return max(sorted(means), key=lambda rate: means[rate])


def report(
    family: Family, worlds: Sequence[Any], chosen: Mapping[str, float | None], folder: Path
) -> dict[str, list[Outcome]]:
    """Arm -> its run in each reporting world."""
    found: dict[str, list[Outcome]] = {name: [] for name in chosen}
    for world in worlds:
        for name, rate in chosen.items():
            found[name].append(run_arm(world, name, family.arms.get(name), rate, folder, test=True))
            print(
                f"seed {world.seed}, {name}: {np.mean(found[name][-1].right):.3f} of {world.scale.test_samples}",
                flush=True,
            )
    return found


def arm_record(outcomes: Sequence[Outcome], worlds: Sequence[Any]) -> dict[str, Any]:
    """An arm's test pass@1 in percent: over worlds, and of problems by how many misconceptions their solution meets."""
    rights = [
        100 * np.array(outcome.right) / world.scale.test_samples
        for outcome, world in zip(outcomes, worlds, strict=True)
    ]
    met = [np.minimum(world.difficulty(), 3) for world in worlds]
    per_seed = [float(right.mean()) for right in rights]
    by_met = {
        str(number): [
            float(right[mine == number].mean())
            for right, mine in zip(rights, met, strict=True)
            if (mine == number).any()
        ]
        for number in range(4)
    }
    logps = {
        name: [float(np.mean([outcome.logps[name][end] for outcome in outcomes])) for end in (0, 1)]
        for name in outcomes[0].logps
        if all(outcome.logps[name] for outcome in outcomes)
    }
    return {
        "learning_rate": outcomes[0].learning_rate,
        "mean": float(np.mean(per_seed)),
        "sem": sem(per_seed),
        "per_seed": per_seed,
        "by_misconceptions": {number: float(np.mean(values)) for number, values in by_met.items() if values},
        "logps": logps,
    }


def sem(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def compare(records: Mapping[str, Mapping[str, Any]], one: str, other: str) -> dict[str, Any]:
    """How far the first is above the second, world by world."""
    differences = np.array(records[one]["per_seed"]) - np.array(records[other]["per_seed"])
    found = {
        "arm": one,
        "than": other,
        "difference": float(differences.mean()),
        "above_in": int((differences > 0).sum()),
    }
    if len(differences) < 2:
        return found
    test = stats.ttest_1samp(differences, 0.0)
    interval = test.confidence_interval(0.95)
    return found | {"interval": [float(interval.low), float(interval.high)], "p_value": float(test.pvalue)}


def mean_facts(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in found])) for name in found[0] if name != "seed"}


def compare_family(family: Family, scale: Any, told: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Tune, choose, test."""
    started = time.monotonic()
    tuning = [family.world(FIRST_TUNING + number, scale, folder) for number in range(told.tuning)]
    for world in tuning:
        print(
            f"seed {world.seed}, {START}: dev {world.dev_score(world.sft):.3f}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
    dev = tune(family, tuning, told.rates, folder)
    chosen: dict[str, float | None] = {START: None} | {name: best(means) for name, means in dev.items()}
    worlds = [family.world(1 + number, scale, folder) for number in range(told.seeds)]
    outcomes = report(family, worlds, chosen, folder)
    arms = {name: arm_record(found, worlds) for name, found in outcomes.items()}
    return {
        "arms": arms,
        "compared": [compare(arms, one, other) for one, other in family.compared],
        "dev": {name: {f"{rate:g}": round(mean, 4) for rate, mean in means.items()} for name, means in dev.items()},
        "facts": mean_facts([family.facts(world) for world in worlds]),
    }


def table(result: Mapping[str, Any]) -> str:
    """The arms and the comparisons, as Markdown."""
    lines = [
        "| arm | learning rate | pass@1 | misconceptions met: 0 | 1 | 2 | 3 and more |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, arm in result["arms"].items():
        rate = "" if arm["learning_rate"] is None else f"{arm['learning_rate']:g}"
        by = [f"{arm['by_misconceptions'].get(str(n), float('nan')):.1f}" for n in range(4)]
        lines.append(f"| {name} | {rate} | {arm['mean']:.1f} ± {arm['sem']:.1f} | {' | '.join(by)} |")
    lines += ["", "| arm | against | difference | 95 % | above in | p |", "|---|---|---|---|---|---|"]
    for row in result["compared"]:
        low, high = row.get("interval", [float("nan")] * 2)
        lines.append(
            f"| {row['arm']} | {row['than']} | {row['difference']:+.1f} | {low:+.1f} to {high:+.1f} "
            f"| {row['above_in']} | {row.get('p_value', float('nan')):.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="toy worlds and one learning rate, to see that it runs")
    parser.add_argument("--out", type=Path, help="keep runs, table and figure here (default: a temporary folder)")
    parser.add_argument("--worlds", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--seeds", type=int, help="reporting worlds (default 5)")
    parser.add_argument("--tuning", type=int, help="tuning worlds (default 2)")
    parser.add_argument("--rates", type=float, nargs="+", help="learning rates (default 2e-5 4.5e-5 1e-4 2.2e-4 5e-4)")
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
        result: dict[str, Any] = {}
        for name in told.worlds:
            family, place = FAMILIES[name], folder / name
            place.mkdir(parents=True, exist_ok=True)
            result[name] = compare_family(family, family.quick if told.quick else family.scale, told, place)
            print(f"\n{name}\n\n{table(result[name])}\n", flush=True)
        (folder / "wrong_parts.md").write_text("\n\n".join(table(one) for one in result.values()) + "\n")
        write(folder / "wrong_parts.json", result)
        draw(result, folder / "wrong_parts.png")
    print(json.dumps(result | {"seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    main()
