"""Scores of k samples per problem: pass@1 with its SEM, pass@k, bootstrap intervals, paired comparisons.

Two kinds of noise, kept apart. The SEM of the paper's tables looks at sampling alone: the problems are taken as given,
and only the k samples vary. The bootstrap interval resamples problems and answers another question: how far would the
score move with other problems of the same kind? Thirty AIME problems have a small SEM and a wide interval.

Left out: any reading of answers (see `redi_ray.text.answers`); numpy is the only dependency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
"""Bootstrap and permutation draws: the Monte-Carlo error of a 95% bound is then about 3% of the interval's width."""


@dataclass(frozen=True)
class BenchmarkResult:
    """One model on one benchmark. Rates are fractions in [0, 1], lengths are completion tokens. JSON-able by `asdict`."""

    num_problems: int
    num_samples: int
    pass_at_1: float
    """Mean over all problems and samples."""
    sem: float | None
    """sd(P_1..P_k)/sqrt(k); None with too few samples to have one (k <= ddof, or k = 1)."""
    ddof: int
    """0: the population sd, as the paper's code has it; 1: the sample sd."""
    ci95: tuple[float, float]
    """Percentile bootstrap over problems."""
    pass_at_k: dict[str, float]
    """k -> unbiased pass@k."""
    sample_scores: tuple[float, ...]
    """P_j: the benchmark's score with every problem's j-th sample only."""
    truncated: float
    """Share of the samples that were cut off by the token limit."""
    mean_tokens: float
    median_tokens: float
    p95_tokens: float
    mean_tokens_correct: float | None
    """None if no sample is correct."""
    mean_tokens_incorrect: float | None
    """None if every sample is correct."""
    num_correct: tuple[int, ...]
    """Correct samples of each problem, in the order of `problem_ids`."""
    problem_ids: tuple[str, ...] | None
    """What paired comparisons match on."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BenchmarkResult:
        """Inverse of `dataclasses.asdict`, also after JSON; further keys are ignored (a report adds the benchmark's name).

        Raises KeyError for a missing one.
        """
        found: dict[str, Any] = {name: values[name] for name in cls.__dataclass_fields__}
        for name, value in found.items():
            found[name] = tuple(value) if isinstance(value, list) else value
        return cls(**found)


@dataclass(frozen=True)
class PairedComparison:
    """Arm b minus arm a on the same problems, as a difference of pass@1."""

    difference: float
    ci95: tuple[float, float]
    """Percentile bootstrap over problems, each drawn with both its arms."""
    p_value: float
    """Two-sided, sign-flip permutation: under no difference a problem's two scores could be swapped."""
    num_problems: int


def sample_matrix(
    rows: Sequence[Sequence[Any]] | NDArray[Any], problem_ids: Sequence[str] | None = None
) -> NDArray[Any]:
    """Rows of k values each as an array[num_problems, num_samples].

    Raises ValueError without problems or samples, and if problems differ in their number of samples; it names them, since
    averages over ragged samples weigh problems by accident.
    """
    lengths = [len(row) for row in rows]
    if not lengths or not max(lengths):
        raise ValueError("no samples to score")
    expected = max(lengths)
    short = [(problem_ids[i] if problem_ids else f"problem {i}", n) for i, n in enumerate(lengths) if n < expected]
    if short:
        shown = ", ".join(f"{name} ({n})" for name, n in short[:10]) + (", ..." if len(short) > 10 else "")
        raise ValueError(f"{len(short)} of {len(lengths)} problems have fewer than {expected} samples: {shown}")
    return np.asarray(rows)


def sample_scores(numbers: ArrayLike) -> NDArray[np.float64]:
    """P_j, the mean of the j-th samples: bool or float[num_problems, num_samples] -> float[num_samples]."""
    means: NDArray[np.float64] = np.asarray(numbers, dtype=np.float64).mean(axis=0)
    return means


def standard_error(scores: ArrayLike, ddof: int = 0) -> float | None:
    """sd(P_1..P_k)/sqrt(k) of float[k]; ddof = 0 is the paper's code. None for k = 1: one sample shows no spread."""
    values = np.asarray(scores, dtype=np.float64)
    if values.size <= max(ddof, 1):
        return None
    return float(values.std(ddof=ddof) / math.sqrt(values.size))


def pass_at_k(num_correct: ArrayLike, num_samples: int, k: int) -> float:
    """Mean over problems of 1 - C(n-c, k)/C(n, k) (Chen et al. 2021, arXiv 2107.03374), for c = int[num_problems].

    The ratio is the product of (1 - k/i) over i = n-c+1..n: no large binomials, no cancellation.
    Raises ValueError unless 1 <= k <= num_samples.
    """
    if not 1 <= k <= num_samples:
        raise ValueError(f"pass@{k} needs 1 <= k <= {num_samples} samples a problem")
    counts = np.asarray(num_correct, dtype=np.int64)
    # miss[c] = probability that k samples drawn without replacement hold none of the c correct ones
    factors = 1.0 - k / np.arange(num_samples, 0, -1)
    miss = np.concatenate([[1.0], np.cumprod(np.maximum(factors, 0.0))])
    return float(1.0 - miss[counts].mean())


def bootstrap_interval(
    values: ArrayLike, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of float[num_problems]; the same seed gives the same bounds."""
    data = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = [data[generator.integers(data.size, size=data.size)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def compare(baseline: BenchmarkResult, arm: BenchmarkResult, seed: int = 0) -> PairedComparison | None:
    """`arm` minus `baseline`, paired by problem; None unless both name the same problems in the same order."""
    if baseline.problem_ids is None or baseline.problem_ids != arm.problem_ids:
        return None
    before = np.asarray(baseline.num_correct) / baseline.num_samples
    after = np.asarray(arm.num_correct) / arm.num_samples
    return compare_scores(before, after, seed=seed)


def compare_scores(
    before: ArrayLike, after: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedComparison:
    """Compare two arms by their per-problem scores, float[num_problems] each.

    The p-value counts the observed assignment among the draws, so it is never 0 (Phipson and Smyth 2010).
    """
    difference = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    observed = difference.mean()
    generator = np.random.default_rng(seed)
    flips = (generator.choice((-1.0, 1.0), size=difference.size) for _ in range(resamples))
    # Tolerance: a flip that gives the same value up to rounding counts as extreme.
    extreme = sum(abs((sign * difference).mean()) >= abs(observed) - 1e-12 for sign in flips)
    return PairedComparison(
        difference=float(observed),
        ci95=bootstrap_interval(difference, resamples=resamples, seed=seed),
        p_value=float((extreme + 1) / (resamples + 1)),
        num_problems=difference.size,
    )


def summarize(
    verdict_matrix: Sequence[Sequence[bool]] | NDArray[np.bool_],
    num_tokens: Sequence[Sequence[int]] | NDArray[np.integer[Any]],
    truncated: Sequence[Sequence[bool]] | NDArray[np.bool_],
    ks: Sequence[int] = (1,),
    *,
    ddof: int = 0,
    problem_ids: Sequence[str] | None = None,
    seed: int = 0,
) -> BenchmarkResult:
    """Score a benchmark: all three are [num_problems, num_samples], True being correct and cut off respectively.

    A k above the number of samples is left out of pass@k, since one list of ks serves runs with 1 and with 16 samples.
    Raises ValueError for ragged or differently shaped input, naming the problems.
    """
    correct = sample_matrix(verdict_matrix, problem_ids).astype(bool)
    tokens = sample_matrix(num_tokens, problem_ids)
    cut = sample_matrix(truncated, problem_ids).astype(bool)
    if not correct.shape == tokens.shape == cut.shape:
        raise ValueError(f"shapes differ: verdicts {correct.shape}, num_tokens {tokens.shape}, truncated {cut.shape}")
    if problem_ids is not None and len(problem_ids) != len(correct):
        raise ValueError(f"{len(problem_ids)} problem_ids for {len(correct)} problems")
    num_samples = correct.shape[1]
    counts = correct.sum(axis=1)
    scores = sample_scores(correct)
    return BenchmarkResult(
        num_problems=len(correct),
        num_samples=num_samples,
        pass_at_1=float(correct.mean()),
        sem=standard_error(scores, ddof),
        ddof=ddof,
        ci95=bootstrap_interval(counts / num_samples, seed=seed),
        pass_at_k={str(k): pass_at_k(counts, num_samples, k) for k in sorted(set(ks)) if k <= num_samples},
        sample_scores=tuple(float(score) for score in scores),
        truncated=float(cut.mean()),
        mean_tokens=float(tokens.mean()),
        median_tokens=float(np.median(tokens)),
        p95_tokens=float(np.quantile(tokens, 0.95)),
        mean_tokens_correct=float(tokens[correct].mean()) if correct.any() else None,
        mean_tokens_incorrect=float(tokens[~correct].mean()) if not correct.all() else None,
        num_correct=tuple(int(count) for count in counts),
        problem_ids=tuple(problem_ids) if problem_ids is not None else None,
    )
