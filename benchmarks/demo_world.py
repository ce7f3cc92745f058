"""Why the demo's settings are what they are, and whether its result holds in other worlds than its own.

    python benchmarks/demo_world.py [--quick] [--out DIR] [--config configs/demo.yaml]

Every number is the config's, but for the seeds and what is chosen here: the learning rate of each arm, of the same few for
both, by mean pass@1 on the development problems of the `CHOICE` worlds. Then worlds that took no part in the choice (`CHECK`;
the demo's own seed is in neither) are made with the chosen rates, and their test problems touched once: pass@1 of every
model, and `redi` against `alpha0` by the report's own paired test over problems. One process, no Ray and no engine.
What is finished in DIR is not computed again. The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reproduction_runs import TOKENIZER, sample, store_of, verdicts

from redi_ray.config.experiment import ArithmeticModel, ExperimentConfig
from redi_ray.config.load import load_config
from redi_ray.config.objectives import Objective, SftObjective
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.sources.world import build_world, corpus
from redi_ray.eval.metrics import compare_scores
from redi_ray.modeling.policy import Policy, load_policy
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.train.loop import train
from redi_ray.train.sequences import SequenceStore

CHOICE, CHECK = (1,), (2, 3, 4, 5, 6)
"""Seeds of the worlds that learning rates are chosen in, and of those that the result is checked in."""
RATES = (2e-4, 4e-4, 8e-4, 1.6e-3)
ARMS = ("alpha0", "redi")
DEV_SAMPLES = 4
QUICK = [
    *("problems.source.num_problems=60", "problems.source.num_dev=20", "problems.source.num_test=40"),
    *("model.init.corpus_size=960", "sft.train.epochs=1", "redi.train.epochs=1", "evaluate.num_samples=2"),
]


class World:
    """The config's experiment with another seed for facts, problems, weights and order. Stages are made when asked for."""

    def __init__(self, config: ExperimentConfig, seed: int, folder: Path) -> None:
        self.config, self.seed, self.folder = config, seed, folder
        assert isinstance(config.model.init, ArithmeticModel)
        self.init = config.model.init
        self.source = config.problems.source.model_copy(update={"seed": seed})
        self.world = build_world(self.source)

    def fresh(self) -> Policy:
        """Random weights."""
        with tempfile.TemporaryDirectory() as folder:
            save_scratch_model(self.init.architecture.model_copy(update={"seed": self.seed}), TOKENIZER, folder)
            return load_policy(folder, ModelOverrides())

    def kept(
        self, name: str, start: Policy | None, store: Any, objective: Objective, settings: TrainSettings
    ) -> Policy:
        """A trained model; its weights lie in the folder from then on."""
        path, policy = self.folder / f"{name}-{self.seed}.pt", copy.deepcopy(start) if start else self.fresh()
        if path.exists():
            policy.load_state_dict(torch.load(path, weights_only=True))
            return policy
        began = time.process_time()
        train(policy, store(), objective, replace(settings, seed=self.seed))
        print(f"seed {self.seed}: {name} trained, {time.process_time() - began:.0f} s of processor", flush=True)
        torch.save(policy.state_dict(), path)
        return policy

    @cached_property
    def base(self) -> Policy:
        def store() -> SequenceStore:
            return store_of([(group, 1, *row) for group, row in enumerate(corpus(self.source, self.init.corpus_size))])

        return self.kept("base", None, store, SftObjective(), self.init.train)

    @cached_property
    def traces(self) -> list[tuple[str, list[str], list[bool]]]:
        """(problem, completions, which are right), in the config's rounds."""
        path, told = self.folder / f"traces-{self.seed}.json", self.config.generate
        if path.exists():
            return json.loads(path.read_text())
        found: dict[str, tuple[list[str], list[bool]]] = {problem: ([], []) for problem in self.world.train}
        for number in range(told.max_rounds):
            left = [problem for problem, (_, right) in found.items() if not any(right)]
            drawn = sample(self.base, left, "teacher", told.samples_per_round, seed=self.seed * 1000 + number)
            for problem, texts, right in zip(left, drawn, verdicts(left, drawn).tolist(), strict=True):
                found[problem][0].extend(texts)
                found[problem][1].extend(right)
        rows = [(problem, *row) for problem, row in found.items()]
        path.write_text(json.dumps(rows))
        return rows

    def positives(self) -> SequenceStore:
        """The first right trace of each problem that has one."""
        firsts = [(problem, texts[right.index(True)]) for problem, texts, right in self.traces if any(right)]
        return store_of([(group, 1, *row) for group, row in enumerate(firsts)])

    def pairs(self) -> SequenceStore:
        """First right and first wrong trace of each problem that has both."""
        both = [row for row in self.traces if any(row[2]) and not all(row[2])]
        rows = [
            (group, side, problem, texts[right.index(side > 0)])
            for group, (problem, texts, right) in enumerate(both)
            for side in (1, -1)
        ]
        return store_of(rows)

    @cached_property
    def sft(self) -> Policy:
        return self.kept("sft", self.base, self.positives, self.config.sft.objective, self.config.sft.train)

    def arm(self, name: str, rate: float) -> Policy:
        settings = replace(self.config.redi.settings(name), learning_rate=rate)
        return self.kept(f"{name}-{rate:g}", self.sft, self.pairs, self.config.redi.arms[name].objective, settings)

    def scores(self, label: str, policy: Policy, split: str) -> list[float]:
        """Share of right answers by problem, on `dev` or `test`."""
        path = self.folder / f"{split}-{label}-{self.seed}.json"
        if not path.exists():
            problems = self.world.dev if split == "dev" else self.world.test
            count = DEV_SAMPLES if split == "dev" else self.config.evaluate.num_samples
            drawn = sample(policy, problems, "evaluation", count, seed=self.seed)
            path.write_text(json.dumps(verdicts(problems, drawn).mean(axis=1).tolist()))
        return json.loads(path.read_text())


def choose(worlds: Sequence[World], rates: Sequence[float]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Each arm's best rate, of equal ones the lowest, and the scores: "arm rate" -> dev pass@1 in each world."""
    dev: dict[str, list[float]] = {f"{arm} {rate:g}": [] for arm in ARMS for rate in rates}
    for world, arm, rate in product(worlds, ARMS, rates):
        scores = world.scores(f"{arm}-{rate:g}", world.arm(arm, rate), "dev")
        dev[f"{arm} {rate:g}"].append(float(np.mean(scores)))
    best = {arm: max(rates, key=lambda rate: (round(sum(dev[f"{arm} {rate:g}"]), 9), -rate)) for arm in ARMS}
    return best, dev


def check(world: World, rates: dict[str, float]) -> dict[str, Any]:
    """One world's row of the table."""
    models = {"sft": world.sft} | {f"{arm}-{rates[arm]:g}": world.arm(arm, rates[arm]) for arm in ARMS}
    dev, test = (
        {name: world.scores(name, model, split) for name, model in models.items()} for split in ("dev", "test")
    )
    _, alpha0, redi = test.values()
    compared = compare_scores(alpha0, redi)
    row: dict[str, Any] = {"seed": world.seed, "problems_with_pairs": world.pairs().num_groups}
    for split, found in (("dev", dev), ("test", test)):
        row |= {f"{split}_{name.partition('-')[0]}": round(float(np.mean(s)), 4) for name, s in found.items()}
    return row | {"difference": round(compared.difference, 4), "p_value": compared.p_value}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="toy worlds, to see that it runs")
    parser.add_argument("--out", type=Path, help="keep weights and scores here (default: a temporary folder)")
    parser.add_argument("--config", default=str(Path(__file__).parent.parent / "configs/demo.yaml"))
    parser.add_argument("--set", action="append", default=[], help="an override of the config, path=value")
    parser.add_argument("--choice", type=int, nargs="*", default=CHOICE, help="seeds to choose the learning rates by")
    parser.add_argument("--check", type=int, nargs="*", default=CHECK, help="seeds to check the result with")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    logging.disable(logging.WARNING)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    config = load_config(told.config, [*told.set, *(QUICK if told.quick else [])])
    choice, seeds = (told.choice[:1], told.check[:1]) if told.quick else (told.choice, told.check)
    with tempfile.TemporaryDirectory() as temporary:
        folder = told.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rates, dev = choose([World(config, seed, folder) for seed in choice], told.rates)
        print(json.dumps({"dev": dev, "rates": rates}), flush=True)
        rows = []
        for seed in seeds:
            rows.append(check(World(config, seed, folder), rates))
            print(json.dumps(rows[-1]), flush=True)
    print(json.dumps({"dev": dev, "rates": rates, "worlds": rows, "redi": asdict(config.redi.arms["redi"].objective)}))


if __name__ == "__main__":
    main()
