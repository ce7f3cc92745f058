"""The numbers of a report: what `report.json` holds, drawn from a run's folder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from statistics import fmean, median
from typing import Any

from redi_ray.eval.metrics import compare
from redi_ray.eval.ranking import compare_means
from redi_ray.pipeline.graph import Step
from redi_ray.report.lineage import ancestors, graph_of_record
from redi_ray.report.runs import ArmRecord, RunRecord
from redi_ray.report.sources import mixtures
from redi_ray.store.manifests import Manifest
from redi_ray.store.storage import finite

PANELS: tuple[tuple[str, str, dict[str, bool]], ...] = (
    ("loss", "Loss", {}),
    ("rehearsal_loss", "Loss of what is rehearsed", {}),
    ("margin", "Margin: chosen - rejected", {}),
    ("pair_accuracy", "Pair accuracy", {}),
    ("dev_accuracy", "Development accuracy", {"noisy": False, "dots": True}),
    ("chosen_logp", "Chosen log-prob, nats per token", {}),
    ("rejected_logp", "Rejected log-prob, nats per token", {}),
    ("chosen_value", "Value of the chosen", {}),
    ("rejected_value", "Value of the rejected", {}),
    ("accuracy", "Accuracy", {}),
    ("learning_rate", "Learning rate", {"noisy": False}),
    ("grad_norm", "Gradient norm, before clipping", {"log": True}),
    ("update_norm", "Update norm", {"log": True}),
    ("alpha", "Negative weight alpha", {"noisy": False}),
)
"""Training metrics that are drawn: key, title, options of the figure's panel."""

SHOWN_AS = {"pass_at_1": "pass@1", "pass_at_k": "pass@k"}
AGAINST = "against_verdicts"
"""A fact of a column of numbers."""
DETAILS = ("num_correct", "problem_ids", "sample_scores")
"""Fields of a BenchmarkResult that stay in the evaluation's own file: they are long."""


def report_data(run: RunRecord) -> dict[str, Any]:
    """What `report.json` holds: arms, comparisons, funnel, training, stages, notes; JSON-able, non-finite numbers as null."""
    return finite(
        {
            "run": run.name,
            "arms": _arm_rows(run),
            "averages": _averages(run),
            "control": run.control,
            "rewards": rewards(run),
            "comparisons": comparisons(run),
            "critical": critical_tokens(run),
            "reflections": facts_of(run, "reflection"),
            "diversity": diversity(run),
            "variants": variants(run),
            "robustness": facts_of(run, "robustness"),
            "funnel": funnel(run),
            "sources": mixtures(run),
            "training": {arm.name: _training_summary(arm) for arm in run.arms if arm.steps},
            "stages": [_stage_row(name, manifest) for name, manifest in run.manifests.items()],
            "notes": run.notes,
            "config": run.config,
            "versions": next((m.versions for m in reversed(run.manifests.values())), {}),
        }
    )


def _arm_rows(run: RunRecord) -> list[dict[str, Any]]:
    """One row per benchmark and arm."""
    control = run.control
    rows = []
    for benchmark in run.benchmarks:
        results = run.results(benchmark)
        for name, result in results.items():
            values = {SHOWN_AS.get(key, key): value for key, value in asdict(result).items() if key not in DETAILS}
            against = results.get(control or "")
            paired = compare(against, result) if against is not None and name != control else None
            difference = {"control": control, **asdict(paired)} if paired else None
            more = _scored(run, benchmark, name)
            rows.append({"name": name, "benchmark": benchmark, **values, "difference": difference, **more})
    return rows


def _scored(run: RunRecord, benchmark: str, name: str) -> dict[str, Any]:
    """What scorers say of an arm: `score`, with its difference from the control, and `ranked`; what a search that they guide
    finds, `guided`; and `agreement` with people's scores; where they were asked."""
    told = {arm.name: arm.scored.get(benchmark, {}) for arm in run.arms}
    found, control = dict(told[name]), run.control or ""
    if "score" in found:
        means, before = found["score"]["problem_means"], told.get(control, {}).get("score")
        paired = compare_means(before["problem_means"], means) if before and name != control else None
        row = {key: value for key, value in found["score"].items() if key != "problem_means"}
        found["score"] = {**row, "difference": {"control": control, **asdict(paired)} if paired else None}
    return found


def _averages(run: RunRecord) -> dict[str, dict[str, float | None]]:
    """Mean pass@1 over the benchmarks, each counting once, for arms that have them all; empty with a single benchmark.

    Benchmarks are sampled independently, so that the SEMs add in squares.
    """
    averages: dict[str, dict[str, float | None]] = {}
    for arm in run.arms:
        results = [arm.results[name] for name in run.benchmarks if name in arm.results]
        if len(results) < max(2, len(run.benchmarks)):
            continue
        errors = [result.sem for result in results if result.sem is not None]
        sem = math.hypot(*errors) / len(results) if len(errors) == len(results) else None
        averages[arm.name] = {"pass@1": fmean(result.pass_at_1 for result in results), "sem": sem}
    return averages


def rewards(run: RunRecord) -> list[dict[str, Any]]:
    """Of each column of numbers how well it tells right samples from wrong ones, as its manifest has it."""
    made = ((step, run.stages[step.stage]) for step in run.steps("column"))
    return [
        {
            "name": step.name,
            "of": step.inputs["of"],
            "model": manifest.facts.get("model", manifest.facts.get("scorer")),
            **manifest.facts[AGAINST],
        }
        for step, manifest in made
        if manifest is not None and manifest.facts.get(AGAINST)
    ]


def comparisons(run: RunRecord) -> list[dict[str, Any]]:
    """Of each step that compares a column of steps with another one its counts and scores, as its manifest has them."""
    return facts_of(run, "comparison")


def facts_of(run: RunRecord, gives: str) -> list[dict[str, Any]]:
    """Of each finished step with an output of this type its counts, and what its manifest says."""
    made = [run.stages[step.stage] for step in run.steps(gives)]
    return [{**manifest.counts, "dropped": dict(manifest.dropped), **manifest.facts} for manifest in made if manifest]


def variants(run: RunRecord) -> list[dict[str, Any]]:
    """Of each step that makes variants of problems how many of each kind there are, and which have kept their answers."""
    return [row for row in facts_of(run, "problems") if "perturbations" in row]


def diversity(run: RunRecord) -> list[dict[str, Any]]:
    """Of each step that keeps problems which differ how spread they are, and as many by chance, as its manifest has it."""
    made = [(step, run.stages[step.stage]) for step in run.steps("verified", "groups")]
    return [
        {
            "name": step.name,
            "of": step.inputs["of"],
            "problems": manifest.facts.get("problems", manifest.counts["out"]),
            **manifest.facts["diversity"],
        }
        for step, manifest in made
        if manifest is not None and manifest.facts.get("diversity", {}).get("selected")
    ]


def critical_tokens(run: RunRecord) -> list[dict[str, Any]]:
    """Of each step that looks for critical tokens by rollouts how small a column's numbers are there, as its manifest has it."""
    made = [(step, run.stages[step.stage]) for step in run.steps("critical")]
    return [
        {
            "of": run.graph[step.inputs["of"]].inputs["of"],  # what the step went on from, token by token
            "column": step.inputs["column"],
            **manifest.counts,
            "dropped": dict(manifest.dropped),
            **manifest.facts,
        }
        for step, manifest in made
        if manifest
    ]


def funnel(run: RunRecord) -> list[dict[str, Any]]:
    """From problems to pairs, branch by branch: how many rows came out, and why others did not (count None: not run)."""
    return [row for step in run.steps("problems", "traces", "verified", "groups") for row in _rows_of(run, step)]


def _rows_of(run: RunRecord, step: Step) -> Iterator[dict[str, Any]]:
    manifest = run.stages[step.stage]

    def row(name: str, unit: str, count: str) -> dict[str, Any]:
        if manifest is None:
            return {"stage": name, "unit": unit, "count": None, "dropped": {}, "rejected": {}, "counts": {}}
        return {
            "stage": name,
            "unit": unit,
            "count": manifest.counts.get(count),
            "dropped": dict(manifest.dropped),
            "rejected": dict(manifest.rejected),
            "counts": {**manifest.counts, **manifest.facts.get("verdicts", {})},
        }

    if step.gives != "groups":
        yield row(step.name, "problems" if step.gives == "problems" else "traces", "out")
        return
    if step.kind == "import":
        yield row(step.name, "rows of the set", "out")
        return
    branch = f"{step.name}: " if step.own else ""
    if step.kind == "rectify":
        yield row(f"{branch}pairs", "right continuations", "pairs")
        return
    if step.kind == "groups":
        # the manifest accounts for samples; why a problem gave no group is told here
        lost = dict(manifest.facts.get("problems_dropped", {})) if manifest else {}
        yield {**row(f"{branch}groups", "problems", "groups"), "dropped": lost}
        return
    yield row(f"{branch}positives", "problems", "positives")
    # The manifest accounts for problems that gave no positive; why a positive gave no pair is told beside it.
    why = dict(manifest.facts.get("pairs_dropped", {})) if manifest else {}
    pairs = row(f"{branch}pairs", "positives with a rejected trace", "pairs")
    yield {**pairs, "dropped": why, "rejected": {}, "counts": {}}


def _training_summary(arm: ArmRecord) -> dict[str, Any]:
    """First and last values of a run, `last` being the mean over its last tenth."""
    tail = arm.steps[-max(1, len(arm.steps) // 10) :]

    def values(key: str, steps: Iterable[Mapping[str, float]]) -> list[float]:
        return [step[key] for step in steps if math.isfinite(step.get(key, math.nan))]

    last = {key: fmean(found) for key, _, _ in PANELS if (found := values(key, tail))}
    rates, memory = values("tokens_per_second", arm.steps), values("peak_memory_gib", arm.steps)
    fill, norms = values("pack_fill", arm.steps), values("update_norm", arm.steps)
    return {
        "steps": len(arm.steps),
        "first_loss": next(iter(values("loss", arm.steps)), None),
        "last": last,
        "scored_tokens": sum(values("scored_tokens", arm.steps)) or None,
        "tokens_per_second": median(rates) if rates else None,
        "peak_memory_gib": max(memory) if memory else None,
        "pack_fill": fmean(fill) if fill else None,
        "largest_update_norm": max(norms) if norms else None,
        "seconds": arm.checkpoint.seconds if arm.checkpoint else None,
    }


def _stage_row(name: str, manifest: Manifest) -> dict[str, Any]:
    row = {key: getattr(manifest, key) for key in ("seconds", "key", "counts", "dropped", "rejected", "facts")}
    return {"stage": name, **row}


def findings(report: Mapping[str, Any]) -> list[str]:
    """A sentence per arm and benchmark about its difference from the control, stated no stronger than it is; one more where a
    scorer's mean is reported, and that alone where no answer of either was right (nothing to compare with, as a rule)."""
    sentences = []
    before = ancestors(graph_of_record(report["config"])[0], report["control"]) if report["control"] else set()
    for row in report["arms"]:
        if row["name"] in before:
            continue
        told, score = row["difference"], row.get("score")
        scored = score["difference"] if score else None
        if told is not None and not (scored is not None and row["pass@1"] == 0 == told["difference"]):
            sentences.append(_finding(row, told, " points", 100))
        if scored is not None:
            sentences.append(_finding(row, scored, f" of {score['scorer']}", 1))
    return sentences


def _finding(row: Mapping[str, Any], told: Mapping[str, Any], unit: str, factor: float) -> str:
    """unit: of the differences, which are multiplied by `factor`."""
    low, high = told["ci95"]
    clear = "a clear gain" if low > 0 else "a clear loss" if high < 0 else "no clear difference"
    p_value = "p < 0.001" if told["p_value"] < 0.001 else f"p = {told['p_value']:.3f}"
    digits = 1 if factor == 100 else 4
    numbers = [f"{factor * value:+.{digits}f}" for value in (told["difference"], low, high)]
    return (
        f"{row['benchmark']}: {row['name']} against {told['control']}: {numbers[0]}{unit} (95% interval {numbers[1]} to "
        f"{numbers[2]}, {p_value}), {clear} over these problems; one training run each, so another seed may differ."
    )
