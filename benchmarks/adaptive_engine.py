"""Pairs per million sampled tokens, as `adaptive_sampling.py` counts them, of a real engine: vLLM samples the demo's base model.

    python benchmarks/adaptive_engine.py [--quick] [--out DIR] [--seeds 2 3 4 5 6] [--config configs/demo.yaml] [--set PATH=VALUE]

A seed decides a world's facts, problems and corpus, the first weights and the samples. The base model learns the corpus and is
sampled by steps that differ in who is asked in later rounds: what has no right trace yet (`unsolved`), or where pairs are to be
had (`expected`, `thompson`). Sample k of a problem is the same one whoever asks for it. All are held against four rounds of
`unsolved` at the tokens that these took, between two rounds in proportion. What is finished in DIR is not computed again. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from adaptive_sampling import EACH, against, at, told_of

from redi_ray.cluster.runtime import ray_connection, setup_logging
from redi_ray.config.load import load_config
from redi_ray.pipeline.runner import Pipeline
from redi_ray.schemas import Verdict
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest

QUICK = [
    *("problems.source.num_problems=60", "problems.source.num_test=16", "problems.source.num_dev=16"),
    *("model.init.corpus_size=4800",),
]
SEEDED = ("problems.source", "model.init.architecture", "model.init.train", "generate")
SEEDS = (2, 3, 4, 5, 6)
FRONTIERS = ("expected", "thompson")
ROUNDS = {"unsolved": 4, **dict.fromkeys(FRONTIERS, 8)}
"""Those of a frontier are smaller: one sample a problem on the average."""


def steps_of() -> dict[str, dict[str, Any]]:
    """A step that samples by each policy, and one that verifies that."""
    found: dict[str, dict[str, Any]] = {}
    for policy, rounds in ROUNDS.items():
        sample = {"do": "sample", "model": "base", "samples_per_round": EACH, "max_rounds": rounds}
        if policy in FRONTIERS:
            sample["frontier"] = {"rule": policy, "samples": 1.0, "each": 2, "most": 8}
        found |= {policy: sample, f"{policy}_math": {"do": "verify", "of": policy}}
    return found


def curve(verified: Manifest) -> list[tuple[float, int]]:
    """(tokens, problems with a right and a wrong trace) after each round; nothing before the first."""
    right, wrong, tokens, found = set[str](), set[str](), 0, [(0.0, 0)]
    root, rounds = verified.table("verified"), dict[str, list[str]]()
    for file in verified.files("verified"):
        rounds.setdefault(file.removeprefix(root).lstrip("/").split("/")[0], []).append(file)
    for name in sorted(rounds):
        for table in parquet.read_tables(rounds[name], ["problem_id", "verdict", "num_tokens"]):
            for row in table.to_pylist():
                tokens += row["num_tokens"]
                if row["verdict"] in (Verdict.CORRECT, Verdict.WRONG):
                    (right if row["verdict"] == Verdict.CORRECT else wrong).add(row["problem_id"])
        found.append((float(tokens), len(right & wrong)))
    return found


def curves_of(config: str, seed: int, changes: list[str], out: str) -> dict[str, list[tuple[float, int]]]:
    """Policy -> its curve in one world."""
    seeded = [f"{section}.seed={seed}" for section in SEEDED]
    steps = [f"steps.{name}={json.dumps(step)}" for name, step in steps_of().items()]
    root = f"storage.root={storage.join(out, f'seed-{seed}')}"
    pipeline = Pipeline(load_config(config, [root, *seeded, *steps, *changes]))
    return {policy: curve(pipeline.until(f"{policy}_math")) for policy in ROUNDS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a toy world and one seed, to see that it runs")
    parser.add_argument("--out", help="keep the runs here (default: a temporary folder)")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--config", default=str(Path(__file__).parent.parent / "configs/demo.yaml"))
    parser.add_argument("--set", action="append", default=[], help="an override of the config, path=value")
    told = parser.parse_args()
    seeds, changes = told.seeds[:1] if told.quick else told.seeds, [*(QUICK if told.quick else []), *told.set]
    per_million: dict[str, list[float]] = {policy: [] for policy in ROUNDS}
    worlds = []
    setup_logging()
    with tempfile.TemporaryDirectory() as temporary, ray_connection(load_config(told.config, changes).resources.ray):
        for seed in seeds:
            found = curves_of(told.config, seed, changes, told.out or temporary)
            budget = found["unsolved"][-1][0]
            worlds.append({"seed": seed, "tokens": budget, "curves": found})
            for policy, one in found.items():
                assert one[-1][0] >= budget or len(one) <= ROUNDS[policy], f"{policy}: too few rounds to compare"
                per_million[policy].append(1e6 * at(one, budget) / budget)
            print(f"seed {seed}:", {policy: round(values[-1], 1) for policy, values in per_million.items()}, flush=True)
    policies = {policy: against(values, per_million["unsolved"]) for policy, values in per_million.items()}
    for policy, told_against in policies.items():
        print(told_of(policy, told_against, len(seeds)))
    print(json.dumps({"policies": policies, "worlds": worlds}))


if __name__ == "__main__":
    main()
