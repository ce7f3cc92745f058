"""Which problems the next round of sampling goes to, by what came of them so far: a bandit over problems.

A problem's pass rate has a Beta distribution: before any sample that of all problems, fitted to their verdicts, and then
sharpened by the problem's own. From it follows how many pairs k further samples are expected to bring (exactly, as a sum over
their outcomes), which is divided by the tokens that they are expected to take. Chunks of samples are given out, the most
promising first, until the round's budget is spent. All of it depends on verdicts, seed and round alone, and is written down
before a round begins, so that a run that goes on asks for the same samples.
"""

from __future__ import annotations

import io
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


def fitted_prior(right: Numbers, wrong: Numbers) -> tuple[float, float]:
    """The Beta distribution of all problems' pass rates, by the moments of their verdicts (intraclass correlation); uniform where
    no problem has two."""
    rated = right + wrong
    some = rated > 1
    if not some.any():
        return 1.0, 1.0
    rates, samples = right[some] / rated[some], rated[some]
    mean = float(np.clip(right[some].sum() / samples.sum(), 1e-3, 1 - 1e-3))
    by_chance = mean * (1 - mean) * float((1 / samples).mean())
    spread = mean * (1 - mean) - by_chance
    correlation = float(np.clip((rates.var() - by_chance) / max(spread, 1e-12), 0.02, 0.95))
    strength = (1 - correlation) / correlation
    return mean * strength, (1 - mean) * strength


def expected_pairs(right: Numbers, wrong: Numbers, a: Numbers, b: Numbers, samples: int, wanted: int) -> Numbers:
    """New pairs that `samples` further samples are expected to bring, `[N]`, of problems with so many right and wrong ones whose
    pass rate has the distribution Beta(a, b).

    The number of right ones among them is beta-binomial; pairs are the smaller of both counts, `wanted` at the most. Example: of
    a problem with one wrong trace and a uniform pass rate one more sample brings half a pair.
    """
    probability = np.ones(np.broadcast(right, a).shape)
    for turn in range(samples):  # of none right
        probability = probability * (b + turn) / (a + b + turn)
    expected = np.zeros_like(probability)
    for found in range(samples + 1):
        pairs = np.minimum(np.minimum(right + found, wrong + samples - found), wanted)
        expected += probability * pairs
        if found < samples:
            factor = (samples - found) / (found + 1) * (a + found) / np.maximum(b + samples - found - 1, 1e-12)
            probability = probability * factor
    return expected - np.minimum(np.minimum(right, wrong), wanted)


def allocate(tally: Tally, settings: Frontier, budget: int, seed: int, number: int) -> NDArray[np.int64]:
    """Samples of each problem in round `number`, `[N]`: multiples of `each`, together `budget` at the most (`each` at the
    least), fewer where nothing more is wanted."""
    a0, b0 = fitted_prior(tally.right, tally.wrong)
    a, b = a0 + tally.right, b0 + tally.wrong
    if settings.rule == "thompson":
        rates = np.random.default_rng([seed, number]).beta(a, b)
        a, b = 1e9 * np.maximum(rates, 1e-9), 1e9 * np.maximum(1 - rates, 1e-9)  # as good as known
    clear = (tally.right + tally.wrong + 1) / (tally.drawn + 1)  # how often a trace has a clear verdict
    mean = tally.tokens.sum() / max(1, tally.drawn.sum()) or 1.0
    cost = (tally.tokens + ACQUAINTED * mean) / (tally.drawn + ACQUAINTED)
    chunks = max(1, settings.most // settings.each)
    before, gains = np.zeros(len(tally.problems)), []
    for chunk in range(1, chunks + 1):
        after = clear * expected_pairs(tally.right, tally.wrong, a, b, chunk * settings.each, settings.pairs)
        gain = (after - before) / settings.each
        gains.append(np.minimum(gain, gains[-1]) if gains else gain)  # a later chunk never comes before an earlier one
        before = after
    promise = np.stack(gains)  # [chunks, N], pairs a sample
    worth = np.where(promise > max(settings.least, 1e-12), promise / cost, 0.0).ravel()
    order = np.argsort(-worth, kind="stable")[: max(1, budget // settings.each)]
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
