"""A recipe over worlds: every model's pass@1 with its error over seeds, and paired comparisons.

    python benchmarks/recipe_seeds.py configs/recipes/selection.yaml --compare on_slow:on_any on_slow:on_all --out DIR
    python benchmarks/recipe_seeds.py configs/recipes/light_r1.yaml --compare sft2:sft2_any --seeds 2 3 --quick

A seed decides a world's facts, problems and corpus, the first weights, the samples and the order of training; everything else
is the config's, with `--set` on top. Each world is one `redi-ray run`, and what is finished in DIR is not computed again. The
test of a comparison is Student's, over worlds, two-sided. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

SEEDS = (2, 3, 4, 5, 6)
"""The recipes' own seed is not among them."""
SEEDED = (
    "problems.source",
    "model.init.architecture",
    "model.init.train",
    "generate",
    "sft.train",
    "redi.train",
    "evaluate",
)
QUICK = [
    *("problems.source.num_problems=60", "problems.source.num_dev=20", "problems.source.num_test=40"),
    *("model.init.corpus_size=960", "sft.train.epochs=1", "redi.train.epochs=1", "evaluate.num_samples=2"),
]


def scores(config: str, seed: int, overrides: list[str], out: Path) -> dict[str, float]:
    """pass@1 of every model in percent, of one world's run."""
    name = yaml.safe_load(Path(config).read_text())["name"]
    folder = out / f"seed-{seed}"
    changes = [f"storage.root={folder}", *(f"{section}.seed={seed}" for section in SEEDED), *overrides]
    command = [sys.executable, "-m", "redi_ray.cli", "run", config, *changes]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nseed {seed} ended with exit code {done.returncode}")
    report = json.loads((folder / name / "report" / "report.json").read_text())
    found = {row["name"]: 100 * row["pass@1"] for row in report["arms"]}
    print(json.dumps({"seed": seed, **{model: round(score, 2) for model, score in found.items()}}), flush=True)
    return found


def summary(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard error over worlds of each model."""
    table = {}
    for model in rows[0]:
        values = np.array([row[model] for row in rows])
        sem = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        table[model] = {"mean": round(float(values.mean()), 2), "sem": round(float(sem), 2)}
    return table


def compared(rows: list[dict[str, float]], one: str, other: str) -> dict[str, Any]:
    """How far the first is above the second, over worlds."""
    differences = np.array([row[one] - row[other] for row in rows])
    test = stats.ttest_1samp(differences, 0.0) if len(differences) > 1 else None
    return {
        "model": one,
        "than": other,
        "difference": round(float(differences.mean()), 2),
        "above_in": f"{int((differences > 0).sum())} of {len(differences)}",
        "p_value": None if test is None else round(float(test.pvalue), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--quick", action="store_true", help="toy worlds, to see that it runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--compare", nargs="*", default=[], metavar="MODEL:MODEL")
    parser.add_argument("--set", action="append", default=[], help="an override of the config, path=value")
    parser.add_argument("--out", type=Path, help="keep the runs here (default: a temporary folder)")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out, overrides = told.out or Path(temporary), [*(QUICK if told.quick else []), *told.set]
        rows = [scores(told.config, seed, overrides, out) for seed in told.seeds]
    result = {"config": told.config, "set": told.set, "seeds": list(told.seeds), "models": summary(rows)}
    print(json.dumps(result | {"compared": [compared(rows, *pair.split(":")) for pair in told.compare]}))


if __name__ == "__main__":
    main()
