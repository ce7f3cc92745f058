"""Pairs of a right and a wrong trace per million sampled tokens: rounds that go where pairs are to be had, or as without that.

    python benchmarks/adaptive_sampling.py [--quick] [--data DIR] [--sets world sky gsm8k mint] [--seeds 20]

No engine runs (in `adaptive_engine.py` one does). `world`: the built-in world itself, in the demo's settings, each sample a
solution of its corpus, which falls for its misconceptions. `sky`, `gsm8k`, `mint`: simulations; a problem is solved as often as
the models of a real set solved it (MATH-500 by six models, GSM8K by four, MINT by 53), its traces being as long as theirs; of
`mint` no lengths are known. DIR holds these sets (default: $REDI_TEST_DATA); without it `world` alone is run.

Who is asked is decided by the functions that a run calls. All policies see the same samples: of a seed, sample k of a problem is
the same one whoever asks for it. They are held against each other at the tokens that today's rounds, which sample what has no
right trace yet, take for `--rounds` rounds of four samples; `every` samples all problems in each. Differences are paired by seed,
with Student's 95 % interval. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from redi_ray.config.frontier import Frontier
from redi_ray.config.worlds import ArithmeticSource
from redi_ray.data.sample.frontier import Tally, allocate
from redi_ray.data.sources.world import answer, build_world, read_chain, solve

EACH = 4
"""Samples of a problem in today's rounds, and in the first round of all."""
CHARACTERS = 4
"""Of a token, where only texts are known."""
DEMO = {"num_problems": 1000, "misconception_share": 0.25, "misconception_rate": 0.8}
Draw = Callable[[int, int, int], tuple[bool, int]]
"""(seed, problem, number of the sample) -> whether it is right, its tokens."""


@dataclass
class Problems:
    """A set that can be sampled."""

    size: int
    draw: Draw
    known: dict[tuple[int, int, int], tuple[bool, int]] = field(default_factory=dict)

    def sample(self, seed: int, problem: int, number: int) -> tuple[bool, int]:
        """One sample, the same one for everybody."""
        key = (seed, problem, number)
        if key not in self.known:
            self.known[key] = self.draw(*key)
        return self.known[key]


def the_world(quick: bool) -> Problems:
    """Solutions of the built-in world's corpus."""
    source = ArithmeticSource(**{**DEMO, "num_problems": 300} if quick else DEMO)
    world = build_world(source)
    chains = [read_chain(problem) for problem in world.train]
    golds = [f"\\boxed{{{answer(problem)}}}" for problem in world.train]

    def draw(seed: int, problem: int, number: int) -> tuple[bool, int]:
        chance = random.Random(f"{seed}/{problem}/{number}")
        text = solve(chains[problem], world, chance, source.misconception_rate)
        return text.endswith(golds[problem]), len(text)

    return Problems(len(chains), draw)


def simulated(rates: list[float], lengths: list[list[int]]) -> Problems:
    """rates: how often each problem is solved; lengths: tokens of its traces."""

    def draw(seed: int, problem: int, number: int) -> tuple[bool, int]:
        chance = random.Random(f"{seed}/{problem}/{number}")
        return chance.random() < rates[problem], chance.choice(lengths[problem])

    return Problems(len(rates), draw)


def rows_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def sky(data: Path) -> Problems:
    """MATH-500, six models, verdicts of those who collected them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(data / "traces/sky_math500.jsonl.gz"):
        found.setdefault(row["problem_id"], []).append(row)
    rates = [float(np.mean([row["correct_third_party"] for row in rows])) for rows in found.values()]
    return simulated(rates, [[len(row["trace"]) // CHARACTERS for row in rows] for rows in found.values()])


def gsm8k(data: Path) -> Problems:
    """GSM8K, four models."""
    rows = rows_of(data / "traces/gsm8k_openai_example_model_solutions.jsonl.gz")
    models = [[value for value in row.values() if isinstance(value, dict)] for row in rows]
    rates = [float(np.mean([one["is_correct"] for one in some])) for some in models]
    return simulated(rates, [[max(1, len(one["solution"]) // CHARACTERS) for one in some] for some in models])


def mint(data: Path) -> Problems:
    """MINT, 53 models, at the largest budget."""
    rows = rows_of(data / "steps_turns_rewards/mint_difficulty.jsonl.gz")
    rates = [float(np.mean([budgets[-1] for budgets in row["solved_within"].values()])) for row in rows]
    return simulated(rates, [[256]] * len(rates))


REAL = {"sky": sky, "gsm8k": gsm8k, "mint": mint}

# ------------------------------------------------------------------------------------------------------------ policies


def unsolved(tally: Tally, seed: int, number: int) -> np.ndarray:
    """Today's rounds: what has no right trace yet."""
    return EACH * (tally.right == 0)


def every(tally: Tally, seed: int, number: int) -> np.ndarray:
    return np.full(len(tally.problems), EACH)


def frontier(rule: str) -> Callable[[Tally, int, int], np.ndarray]:
    settings = Frontier(rule=rule, samples=1.0, each=2, most=8)  # type: ignore[arg-type]
    return lambda tally, seed, number: allocate(tally, settings, len(tally.problems), seed, number)


POLICIES: dict[str, Callable[[Tally, int, int], np.ndarray]] = {
    "unsolved": unsolved, "every": every, "expected": frontier("expected"), "thompson": frontier("thompson"),
}  # fmt: skip


def curve(problems: Problems, policy: str, seed: int, rounds: int, budget: float | None) -> list[tuple[float, int]]:
    """(tokens, pairs) after each round; budget: tokens at which it ends, None for so many rounds."""
    tally, found = Tally.of(np.arange(problems.size).astype(np.uint64)), [(0.0, 0)]
    for number in range(rounds if budget is None else 1000):
        first = np.full(problems.size, EACH)
        counts = first if number == 0 else POLICIES[policy](tally, seed, number)
        if not counts.sum():
            break
        tally = drawn(problems, tally, counts, seed)
        found.append((float(tally.tokens.sum()), tally.paired()))
        if budget is not None and found[-1][0] >= budget:
            break
    return found


def drawn(problems: Problems, tally: Tally, counts: np.ndarray, seed: int) -> Tally:
    asked = [(at, tally.asked[at] + k) for at in np.flatnonzero(counts) for k in range(counts[at])]
    told = [problems.sample(seed, int(problem), int(number)) for problem, number in asked]
    right, tokens = (np.array(values, float) for values in zip(*told, strict=True))
    places = tally.problems[[problem for problem, _ in asked]]
    return tally.with_traces(places, right, 1 - right, tokens).with_asked(counts)


def at(curve: list[tuple[float, int]], tokens: float) -> float:
    """Pairs at so many tokens, between two rounds in proportion; those of the end where nothing more was asked."""
    return float(np.interp(tokens, *zip(*curve, strict=True)))


def held_against(problems: Problems, seeds: int, rounds: int) -> dict[str, Any]:
    """Pairs per million tokens of each policy at the tokens of today's rounds, and what more they are, in percent."""
    per_million: dict[str, list[float]] = {name: [] for name in POLICIES}
    budgets = []
    for seed in range(seeds):
        today = curve(problems, "unsolved", seed, rounds, None)
        budgets.append(today[-1][0])
        for name in POLICIES:
            mine = today if name == "unsolved" else curve(problems, name, seed, rounds, budgets[-1])
            per_million[name].append(1e6 * at(mine, budgets[-1]) / budgets[-1])
        problems.known.clear()
    found: dict[str, Any] = {"problems": problems.size, "tokens": float(np.mean(budgets)), "policies": {}}
    for name, values in per_million.items():
        found["policies"][name] = against(values, per_million["unsolved"])
    return found


def against(values: list[float], today: list[float]) -> dict[str, Any]:
    """Pairs per million tokens, of each seed, and what more they are than today's, in percent."""
    seeds, gains = len(values), 100 * (np.array(values) / np.array(today) - 1)
    wide = float(stats.t.ppf(0.975, seeds - 1) * gains.std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else float("nan")
    return {
        "pairs_per_million": float(np.mean(values)),
        "gain": float(gains.mean()),
        "ci95": [float(gains.mean()) - wide, float(gains.mean()) + wide],
        "above_in": int((gains > 0).sum()),
    }


def told_of(policy: str, one: dict[str, Any], seeds: int) -> str:
    """A line of what `against` says."""
    low, high = one["ci95"]
    return (
        f"  {policy:9} {one['pairs_per_million']:8.1f} pairs per million tokens  {one['gain']:+6.1f} % "
        f"({low:+.1f} to {high:+.1f}), above in {one['above_in']} of {seeds}"
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer seeds and problems")
    parser.add_argument("--data", default=os.environ.get("REDI_TEST_DATA"), help="folder of the real sets")
    parser.add_argument("--sets", nargs="+", choices=["world", "sky", "gsm8k", "mint"])
    parser.add_argument("--seeds", type=int, help="default 20, with --quick 5")
    parser.add_argument("--rounds", type=int, default=4, help="of today's sampling")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Set -> what `held_against` says."""
    names = options.sets or (["world", "sky", "gsm8k", "mint"] if options.data else ["world"])
    if not options.data and names != ["world"]:
        raise SystemExit("sky, gsm8k and mint are read from --data DIR")
    seeds, found = options.seeds or (5 if options.quick else 20), {}
    for name in names:
        problems = (
            the_world(options.quick)
            if name == "world"
            else {"sky": sky, "gsm8k": gsm8k, "mint": mint}[name](Path(options.data))
        )
        found[name] = held_against(problems, seeds, options.rounds)
        told = found[name]
        print(
            f"{name}: {told['problems']} problems, {told['tokens']:,.0f} tokens of {options.rounds} rounds, {seeds} seeds"
        )
        for policy, one in told["policies"].items():
            print(told_of(policy, one, seeds))
    return found


if __name__ == "__main__":
    print(json.dumps(run(parse())))
