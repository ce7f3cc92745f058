"""The models of a run and how they scored, each against one of them, paired by problem."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from redi_ray.eval.metrics import BenchmarkResult, PairedComparison, compare
from redi_ray.report.runs import RunRecord

MOST_COMPARED = 2000
_COMPARED: dict[tuple[Any, ...], PairedComparison | None] = {}


@dataclass(frozen=True)
class ScoreRow:
    """One model on one benchmark."""

    model: str
    result: BenchmarkResult
    difference: PairedComparison | None
    """From the model that all are compared with; None where that cannot be paired."""
    clear: str
    """`gain` or `loss` where the interval leaves zero out, else empty."""


@dataclass(frozen=True)
class Benchmark:
    """Scores on one benchmark; `low` and `high` bound what its intervals are drawn between."""

    name: str
    rows: list[ScoreRow]
    ks: list[str]
    low: float
    high: float

    def place(self, value: float) -> float:
        """Of a score in the drawing, in percent of its width."""
        return 100 * (value - self.low) / ((self.high - self.low) or 1.0)


def benchmarks(run: RunRecord, against: str | None) -> list[Benchmark]:
    """Every benchmark that some model has scores on. against: a model, by default the run's control."""
    control = against if against in {arm.name for arm in run.arms} else run.control
    return [_benchmark(name, run.results(name), control) for name in run.benchmarks]


def _benchmark(name: str, results: Mapping[str, BenchmarkResult], control: str | None) -> Benchmark:
    ks = sorted({k for result in results.values() for k in result.pass_at_k if k != "1"}, key=int)
    ends = [end for result in results.values() for end in (*result.ci95, result.pass_at_1)]
    margin = 0.04 * (max(ends) - min(ends)) or 0.01
    rows = list(_rows(results, control))
    return Benchmark(name, rows, ks, max(0.0, min(ends) - margin), min(1.0, max(ends) + margin))


def _rows(results: Mapping[str, BenchmarkResult], control: str | None) -> Iterator[ScoreRow]:
    for model, result in results.items():
        before = results.get(control or "")
        paired = compared(before, result) if before is not None and model != control else None
        low, high = paired.ci95 if paired else (0.0, 0.0)
        yield ScoreRow(model, result, paired, "gain" if low > 0 else "loss" if high < 0 else "")


def compared(before: BenchmarkResult, after: BenchmarkResult) -> PairedComparison | None:
    """As `compare`, whose thousands of draws are made once."""
    key = tuple((one.num_correct, one.num_samples, one.problem_ids) for one in (before, after))
    if key not in _COMPARED:
        if len(_COMPARED) >= MOST_COMPARED:
            _COMPARED.clear()
        _COMPARED[key] = compare(before, after)
    return _COMPARED[key]
