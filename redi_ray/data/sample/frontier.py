"""Which problems the next round of sampling goes to, by what came of them so far: a bandit over problems.

What a problem's pass rate may be follows from its own verdicts and those of all others, and from that how many pairs k further
samples are expected to bring, which is divided by the tokens that they are expected to take. Chunks of samples are given out, the
most promising first, until the round's budget is spent. All of it depends on verdicts, seed and round alone, and is written down
before a round begins, so that a run that goes on asks for the same samples.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redi_ray.config.frontier import Frontier
from redi_ray.data.sample.samples import TASK_CPUS
from redi_ray.data.sources.ids import Hashes, hash_ids
from redi_ray.schemas import Verdict
from redi_ray.store import parquet, storage

SHARDS_PER_TASK = 64
ACQUAINTED = 2.0
"""Traces that all problems' mean length counts for in a problem's own."""
RATES = np.sin(np.linspace(0, np.pi / 2, 41)) ** 2
"""Pass rates that are told apart, closer together near 0 and 1, which are among them."""
NOTHING = 1e-9
"""Pairs a sample that are none."""
Numbers = NDArray[Any]


@dataclass(frozen=True)
class Tally:
    """What came of each problem so far: some 50 bytes a problem."""

    problems: Hashes
    """uint64 `[N]`, sorted."""
    right: Numbers
    wrong: Numbers
    drawn: Numbers
    """Traces, those without a clear verdict among them."""
    tokens: Numbers
    asked: Numbers
    """Samples asked for: the index of the next one."""

    @classmethod
    def of(cls, problems: Hashes) -> Tally:
        """Before the first round."""
        known = np.unique(problems)
        none = np.zeros(len(known), np.int64)
        return cls(known, none, none, none, none.astype(float), none)

    def with_traces(self, problems: Hashes, right: Numbers, wrong: Numbers, tokens: Numbers) -> Tally:
        """With what some traces are: `[M]` each, of the problems by their hashes."""
        place, size = np.searchsorted(self.problems, problems), len(self.problems)

        def summed(values: Numbers) -> Numbers:
            return np.bincount(place, values, size)

        return replace(
            self,
            right=self.right + summed(right).astype(np.int64),
            wrong=self.wrong + summed(wrong).astype(np.int64),
            drawn=self.drawn + summed(np.ones(len(place))).astype(np.int64),
            tokens=self.tokens + summed(tokens),
        )

    def with_asked(self, counts: Numbers) -> Tally:
        """With samples that are asked for, `[N]`."""
        return replace(self, asked=self.asked + counts)

    def paired(self, pairs: int = 1) -> int:
        """Pairs of all problems, at most `pairs` of each."""
        return int(np.minimum(np.minimum(self.right, self.wrong), pairs).sum())


def problems_of(shards: list[str]) -> Hashes:
    """The hashes of the problems of these shards, read by tasks."""
    return np.concatenate([np.empty(0, np.uint64), *_in_tasks(_ids_of, shards)])


def add_verdicts(tally: Tally, verified: list[str]) -> Tally:
    """With the traces of verified shards, read by tasks."""
    for problems, right, wrong, tokens in _in_tasks(_verdicts_of, verified):
        tally = tally.with_traces(problems, right, wrong, tokens)
    return tally


def _in_tasks(look: Any, uris: list[str]) -> list[Any]:
    import ray

    task = ray.remote(num_cpus=TASK_CPUS)(_look_at)
    chunks = [uris[at : at + SHARDS_PER_TASK] for at in range(0, len(uris), SHARDS_PER_TASK)]
    return [one for found in ray.get([task.remote(look, chunk) for chunk in chunks]) for one in found]


def _look_at(look: Any, uris: list[str]) -> list[Any]:
    return [look(uri) for uri in uris]


def _ids_of(uri: str) -> Hashes:
    (table,) = parquet.read_tables([uri], ["problem_id"])
    return hash_ids(table["problem_id"].to_pylist())


def _verdicts_of(uri: str) -> tuple[Hashes, Numbers, Numbers, Numbers]:
    (table,) = parquet.read_tables([uri], ["problem_id", "verdict", "num_tokens"])
    verdicts = np.array(table["verdict"].to_pylist(), dtype=object)
    tokens = table["num_tokens"].fill_null(0).to_numpy().astype(float)
    is_right, is_wrong = verdicts == str(Verdict.CORRECT), verdicts == str(Verdict.WRONG)
    return hash_ids(table["problem_id"].to_pylist()), is_right.astype(float), is_wrong.astype(float), tokens


# -------------------------------------------------------------------------------------------------------- what it is worth


@dataclass(frozen=True)
class PassRates:
    """What the pass rates of problems may be, by what came of them. Problems with the same verdicts are one state."""

    states: Numbers
    """int `[S, 2]`: right and wrong traces."""
    state_of: Numbers
    """int `[N]`, of each problem."""
    posterior: Numbers
    """float `[S, G]`: how probable each rate of RATES is, in each state."""


def pass_rates(right: Numbers, wrong: Numbers, turns: int = 100) -> PassRates:
    """Empirical Bayes: the distribution of all problems' pass rates is the one on RATES under which their verdicts are likeliest
    (Kiefer and Wolfowitz 1956, by `turns` of expectation maximisation from a flat one), whatever its form; problems that are
    always right and problems that nobody solves are heaps of their own at the ends."""
    states, state_of, sizes = np.unique(np.stack([right, wrong], 1), axis=0, return_inverse=True, return_counts=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.stack([np.log(RATES), np.log1p(-RATES)])
        terms = np.where(states[:, :, None] > 0, states[:, :, None] * logs[None], 0.0).sum(1)
    likelihood = np.exp(terms - terms.max(1, keepdims=True))
    prior = np.full(len(RATES), 1 / len(RATES))
    for _ in range(turns):
        joint = likelihood * prior
        prior = (sizes[:, None] * joint / joint.sum(1, keepdims=True)).sum(0) / sizes.sum()
    joint = likelihood * prior
    return PassRates(states, state_of.reshape(-1), joint / joint.sum(1, keepdims=True))


def new_pairs(states: Numbers, samples: int, wanted: int) -> Numbers:
    """New pairs that `samples` further samples bring on the average, `[S, G]`, in each state at each rate of RATES; pairs are the
    smaller of both counts, `wanted` at the most. Example: with one wrong trace, at a rate of a half, one sample brings half a
    pair."""
    found = np.arange(samples + 1)
    ways = np.array([math.comb(samples, int(k)) for k in found], float)
    chances = ways * RATES[:, None] ** found * (1 - RATES[:, None]) ** (samples - found)  # [G, samples + 1]
    right, wrong = states[:, :1] + found, states[:, 1:] + samples - found  # [S, samples + 1]
    pairs = np.minimum(np.minimum(right, wrong), wanted)
    before = np.minimum(states.min(1, keepdims=True), wanted)
    return (pairs - before) @ chances.T


def allocate(tally: Tally, settings: Frontier, budget: int, seed: int, number: int) -> NDArray[np.int64]:
    """Samples of each problem in round `number`, `[N]`: multiples of `each`, together `budget` at the most (`each` at the
    least), fewer where nothing more is wanted."""
    rates = pass_rates(tally.right, tally.wrong)
    generator, drawn = np.random.default_rng([seed, number]), None
    if settings.rule == "thompson":
        chance = generator.random(len(tally.problems))
        drawn = (rates.posterior.cumsum(1)[rates.state_of] < chance[:, None]).sum(1).clip(max=len(RATES) - 1)
    clear = (tally.right + tally.wrong + 1) / (tally.drawn + 1)  # how often a trace has a clear verdict
    mean = tally.tokens.sum() / max(1, tally.drawn.sum()) or 1.0
    cost = (tally.tokens + ACQUAINTED * mean) / (tally.drawn + ACQUAINTED)
    before, gains = np.zeros(len(tally.problems)), list[Numbers]()
    for chunk in range(1, max(1, settings.most // settings.each) + 1):
        pairs = new_pairs(rates.states, chunk * settings.each, settings.pairs)
        if drawn is None:
            after = clear * (rates.posterior * pairs).sum(1)[rates.state_of]
        else:
            after = clear * pairs[rates.state_of, drawn]
        gain = (after - before) / settings.each
        gains.append(np.minimum(gain, gains[-1]) if gains else gain)  # a later chunk never comes before an earlier one
        before = after
    promise = np.stack(gains)  # [chunks, N], pairs a sample
    worth = np.where(promise > max(settings.least, NOTHING), promise / cost, 0.0).ravel()
    shuffled = generator.permutation(len(worth))  # of equal ones others come first in each round
    order = shuffled[np.argsort(-worth[shuffled], kind="stable")][: max(1, budget // settings.each)]
    taken = order[worth[order] > 0] % len(tally.problems)
    return settings.each * np.bincount(taken, minlength=len(tally.problems))


# ------------------------------------------------------------------------------------------------------------ kept for a rerun


def saved(uri: str, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The round's allocation: the one that lies at `uri`, else `counts`, which is then written there."""
    if not storage.exists(uri):
        buffer = io.BytesIO()
        np.save(buffer, counts)
        storage.write_bytes(uri, buffer.getvalue())
        return counts
    known: NDArray[np.int64] = np.load(io.BytesIO(storage.read_bytes(uri)))
    return known
