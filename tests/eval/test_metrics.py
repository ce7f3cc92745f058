"""Protects the numbers under every table: pass@1, SEM, pass@k, intervals, paired comparisons."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from redi_ray.eval.metrics import (
    BenchmarkResult,
    bootstrap_interval,
    compare,
    compare_scores,
    pass_at_k,
    sample_scores,
    standard_error,
    summarize,
)


def result(verdicts: np.ndarray, **options: object) -> BenchmarkResult:
    tokens = np.arange(verdicts.size).reshape(verdicts.shape)
    return summarize(verdicts, tokens, np.zeros_like(verdicts), ks=(1, 2, 4, 8), **options)  # type: ignore[arg-type]


def test_real_k_sample_fixture(test_data: Path) -> None:
    """100 problems x 8 samples of a public evaluation; the figures are those its labels were published with."""
    with gzip.open(test_data / "traces" / "qwen2.5math_cot_100x8.jsonl.gz", "rt") as file:
        verdicts = np.array([json.loads(line)["score"] for line in file], dtype=bool)
    found = result(verdicts)
    assert (found.num_problems, found.num_samples) == (100, 8)
    assert found.pass_at_1 == pytest.approx(0.91)
    assert found.sample_scores == pytest.approx((0.90, 0.92, 0.93, 0.89, 0.92, 0.92, 0.90, 0.90))
    assert found.sem == pytest.approx(0.0046771, abs=5e-8)
    assert result(verdicts, ddof=1).sem == pytest.approx(0.0050000, abs=5e-8)
    expected = {"1": 0.91, "2": 0.9328571, "4": 0.951, "8": 0.96}
    assert found.pass_at_k == pytest.approx(expected, abs=5e-8)


def test_hand_worked() -> None:
    """Two problems, four samples. P = (1, .5, 0, .5): mean .5, sd sqrt(.125), SEM sd/2. c = (3, 1)."""
    verdicts = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], dtype=bool)
    found = result(verdicts)
    assert found.sample_scores == (1.0, 0.5, 0.0, 0.5)
    assert found.pass_at_1 == 0.5
    assert found.sem == pytest.approx(math.sqrt(0.125) / 2)
    # k = 2: the first problem misses with C(1,2)/C(4,2) = 0, the second with C(3,2)/C(4,2) = 1/2
    assert found.pass_at_k == pytest.approx({"1": 0.5, "2": 0.75, "4": 1.0})  # 8 > 4 samples: left out
    assert found.num_correct == (3, 1)
    assert found.mean_tokens == 3.5
    assert found.mean_tokens_correct == (0 + 1 + 3 + 4) / 4


def test_pass_at_k_is_the_mean_over_all_subsets() -> None:
    """The estimator equals drawing every k-subset of the samples, and grows with k from pass@1 to 'any correct'."""
    generator = np.random.default_rng(1)
    verdicts = generator.random((20, 7)) < generator.random((20, 1))
    counts = verdicts.sum(axis=1)
    curve = [pass_at_k(counts, 7, k) for k in range(1, 8)]
    for k, value in enumerate(curve, start=1):
        subsets = [verdicts[:, list(chosen)].any(axis=1).mean() for chosen in combinations(range(7), k)]
        assert value == pytest.approx(np.mean(subsets), abs=1e-12)
    assert curve == sorted(curve)
    assert curve[0] == pytest.approx(verdicts.mean())
    assert curve[-1] == pytest.approx(verdicts.any(axis=1).mean())


def test_pass_at_k_is_stable_for_many_samples() -> None:
    """C(2000, 1000) overflows a double; 1 correct of n is found by k draws with probability exactly k/n."""
    assert pass_at_k([1], 2000, 1000) == pytest.approx(0.5, rel=1e-9)
    with pytest.raises(ValueError, match="pass@9 needs"):
        pass_at_k([1], 8, 9)


def test_one_sample_has_no_sem() -> None:
    """A greedy run must not be shown with an error of 0."""
    assert standard_error([0.9]) is None
    assert result(np.array([[True], [False]])).sem is None


def test_sem_is_invariant_to_problem_order_and_shrinks_with_samples() -> None:
    generator = np.random.default_rng(2)
    verdicts = generator.random((50, 64)) < 0.5
    few, many = standard_error(sample_scores(verdicts[:, :8])), standard_error(sample_scores(verdicts))
    assert few is not None
    assert many is not None
    assert many < few
    assert standard_error(sample_scores(verdicts[::-1])) == many


def test_ragged_samples_name_the_problems() -> None:
    rows = [[True, False], [True], [False, True]]
    with pytest.raises(ValueError, match=r"1 of 3 problems have fewer than 2 samples: aime24-7 \(1\)"):
        summarize(rows, rows, rows, problem_ids=["aime24-6", "aime24-7", "aime24-8"])
    with pytest.raises(ValueError, match="no samples"):
        summarize([], [], [])


def test_json_round_trip() -> None:
    """What evaluation writes is what the report reads, through JSON, also without a single correct sample."""
    for verdicts in (np.zeros((3, 2), dtype=bool), np.eye(3, dtype=bool)):
        found = result(verdicts, problem_ids=["a", "b", "c"])
        written = json.loads(json.dumps(asdict(found) | {"name": "x"}, allow_nan=False))
        assert BenchmarkResult.from_dict(written) == found


def test_bootstrap_interval_covers_and_repeats() -> None:
    """About 95% of intervals hold the true mean (percentile bootstrap at n = 60: a little less), and seeds repeat."""
    generator = np.random.default_rng(3)
    draws = (generator.random((200, 60)) < 0.4).astype(float)
    intervals = [bootstrap_interval(row, resamples=300, seed=4) for row in draws]
    covered = np.mean([low <= 0.4 <= high for low, high in intervals])
    assert 0.88 <= covered <= 0.99
    assert bootstrap_interval(draws[0], seed=5) == bootstrap_interval(draws[0], seed=5)


def test_paired_comparison_uses_the_pairing() -> None:
    """A gain of .05 on every problem is certain although scores differ widely between problems; swapping arms mirrors it."""
    before = np.random.default_rng(6).random(40) * 0.9
    gain = compare_scores(before, before + 0.05)
    assert gain.difference == pytest.approx(0.05)
    assert gain.ci95 == pytest.approx((0.05, 0.05))
    assert gain.p_value == pytest.approx(1 / 2001)
    assert compare_scores(before + 0.05, before).difference == pytest.approx(-0.05)
    assert compare_scores(before, before).p_value == 1.0


def test_permutation_p_value_is_uniform_without_a_difference() -> None:
    generator = np.random.default_rng(7)
    p_values = [compare_scores(generator.random(30), generator.random(30), resamples=200).p_value for _ in range(200)]
    assert 0.01 <= np.mean(np.array(p_values) <= 0.05) <= 0.11


def test_compare_refuses_other_problems() -> None:
    verdicts = np.eye(2, dtype=bool)
    first, other = result(verdicts, problem_ids=["a", "b"]), result(verdicts, problem_ids=["a", "c"])
    assert compare(first, other) is None
    assert compare(result(verdicts), result(verdicts)) is None
    same = compare(first, first)
    assert same is not None
    assert same.difference == 0.0
