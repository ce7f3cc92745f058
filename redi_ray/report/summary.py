"""A report's scores on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from redi_ray.data.embed.spread import NEAR
from redi_ray.report.formats import decimal, percent, points, share, tokens
from redi_ray.report.numbers import findings


def print_summary(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the scores of a `report.json`, a table per benchmark (80 columns suffice), and what has not been run."""
    console = console or Console()
    for benchmark in dict.fromkeys(row["benchmark"] for row in report["arms"]):
        console.print(_score_table(benchmark, [row for row in report["arms"] if row["benchmark"] == benchmark]))
    for benchmark in dict.fromkeys(row["benchmark"] for row in report["arms"] if "score" in row):
        console.print(_means_table(benchmark, [row for row in report["arms"] if row["benchmark"] == benchmark]))
    for benchmark in dict.fromkeys(row["benchmark"] for row in report["arms"] if "agreement" in row):
        console.print(_agreement_table(benchmark, [row for row in report["arms"] if row["benchmark"] == benchmark]))
    for benchmark in dict.fromkeys(row["benchmark"] for row in report["arms"] if "ranked" in row):
        console.print(_choice_table(benchmark, [row for row in report["arms"] if row["benchmark"] == benchmark]))
    for benchmark in dict.fromkeys(row["benchmark"] for row in report["arms"] if "guided" in row):
        console.print(_search_table(benchmark, [row for row in report["arms"] if row["benchmark"] == benchmark]))
    if not report["arms"]:
        console.print("Evaluation: not run.")
    for line in (
        *findings(report),
        *map(_compared, report["comparisons"]),
        *map(_critical, report["critical"]),
        *(line for row in report["reflections"] for line in _reflected(row)),
        *map(_spread, report["diversity"]),
        *map(_varied, report["variants"]),
        *(line for row in report["robustness"] for line in _robust(row)),
        *report["notes"],
    ):
        console.print(line, markup=False, highlight=False)


def _compared(row: Mapping[str, Any]) -> str:
    """How well a column of steps finds what another one knows, in a line."""
    beside = max(row["baselines"].values(), key=lambda one: one["f1"] or 0.0)
    return (
        f"{row['name']}: of {row['out']} samples {row['column']} names {points(row['wrong_accuracy'])}% of the first wrong steps "
        f"of {row['to']} and clears {points(row['right_accuracy'])}% of the right samples: F1 {points(row['f1'])} (without a "
        f"judge {points(beside['f1'])} at the most), AUC of steps {share(row['auc'])}."
    )


def _critical(row: Mapping[str, Any]) -> str:
    """How well a column's smallest numbers find where samples are lost, in a line."""
    told = f"{row['name']}: {row['with_critical']} of {row['out']} samples of {row['of']} have a critical token"
    if row.get("auc") is None:
        return f"{told}."
    return f"{told}; another token has a larger number of {row['column']} with probability {share(row['auc'])}."


def _reflected(row: Mapping[str, Any]) -> Iterator[str]:
    """How often samples look back, a line a behaviour."""
    for name, found in row["behaviours"].items():
        told = f"{row['name']}: {found['samples']} of {row['out']} samples of {row['of']} show {name} ({found['hits']} hits)"
        within = found["right_less_wrong"]["share"]["within"]
        if within is None:
            yield f"{told}; no problem has right and wrong ones."
            continue
        low, high = (f"{100 * bound:+.1f}" for bound in within["ci95"])
        yield (
            f"{told}; within problems right ones {100 * within['difference']:+.1f} points more often than wrong ones (95% "
            f"interval {low} to {high}, {within['num_problems']} problems)."
        )


def _spread(row: Mapping[str, Any]) -> str:
    """How spread problems that differ are, in a line."""
    near, by_chance = (share(row[name].get("mean_nearest")) for name in ("selected", "random"))
    covered, so_many = (percent(row[name]["coverage"]) for name in ("selected", "random"))
    return (
        f"{row['name']}: {row['problems']} problems of {row['of']} that differ: to the nearest other one {near} on the average "
        f"(by chance {by_chance}); {covered}% of all problems have one within {NEAR} (by chance {so_many}%)."
    )


def _varied(row: Mapping[str, Any]) -> str:
    """Which variants have kept their answers, in a line."""
    told = (f"{found['kept']} of {found['made']} {name}" for name, found in row["perturbations"].items())
    return f"{row['name']}: variants that keep their answers: {', '.join(told)}."


def _robust(row: Mapping[str, Any]) -> Iterator[str]:
    """What variants cost, a line for all and one for each kind."""
    for name, found in {"all variants": row["all"], **row["by"]}.items():
        low, high = (f"{100 * bound:+.1f}" for bound in found["ci95"])
        yield (
            f"{row['name']}: {name}: {100 * found['variants']:.1f}% right, the originals {100 * found['original']:.1f}% "
            f"({100 * found['difference']:+.1f} points, 95% interval {low} to {high}, {found['problems']} problems)."
        )
    yield f"{row['name']}: at each problem's worst variant {100 * row['worst']['accuracy']:.1f}% right."


def _score_table(benchmark: str, rows: list[dict[str, Any]]) -> Table:
    largest = max(rows[0]["pass@k"], key=int, default="1")
    title = f"{benchmark}: {rows[0]['num_problems']} problems x {rows[0]['num_samples']} samples"
    table = _table(title, "pass@1, %", "SEM", "95% interval", f"pass@{largest}", "tokens", "truncated")
    for row in rows:
        table.add_row(
            row["name"],
            percent(row["pass@1"]),
            percent(row["sem"], 2),
            f"{percent(row['ci95'][0])} to {percent(row['ci95'][1])}",
            percent(row["pass@k"].get(largest)),
            tokens(row["mean_tokens"]),
            percent(row["truncated"]),
        )
    return table


def _means_table(benchmark: str, rows: list[dict[str, Any]]) -> Table:
    scored = [row for row in rows if "score" in row]
    table = _table(
        f"{benchmark}: mean of {scored[0]['score']['scorer']}", "mean", "SEM", "95% interval", "against control"
    )
    for row in scored:
        score, difference = row["score"], row["score"]["difference"]
        against = "" if difference is None else f"{difference['difference']:+.4f}"
        ends = f"{decimal(score['ci95'][0])} to {decimal(score['ci95'][1])}"
        table.add_row(row["name"], decimal(score["mean"]), decimal(score["sem"]), ends, against)
    return table


def _agreement_table(benchmark: str, rows: list[dict[str, Any]]) -> Table:
    table = _table(f"{benchmark}: agreement with scores", "accuracy, %", "kappa", "95% interval", "correlation")
    for row in rows:
        if (found := row.get("agreement")) is not None:
            ends = found["kappa_ci95"]
            told = "-" if ends is None else f"{decimal(ends[0], 3)} to {decimal(ends[1], 3)}"
            numbers = (percent(found["accuracy"]), decimal(found["kappa"], 3), told, decimal(found["correlation"], 3))
            table.add_row(row["name"], *numbers)
    return table


def _choice_table(benchmark: str, rows: list[dict[str, Any]]) -> Table:
    ranked = [row for row in rows if "ranked" in row]
    k = ranked[0]["ranked"]["largest_k"]
    table = _table(
        f"{benchmark}: by {ranked[0]['ranked']['scorer']}, {k} samples, %", "any", "majority", "best", "weighted"
    )
    for row in ranked:
        found = row["ranked"]["at_k"][str(row["ranked"]["largest_k"])]
        table.add_row(row["name"], *(percent(found[name]) for name in ("any", "majority", "best", "weighted")))
    return table


def _search_table(benchmark: str, rows: list[dict[str, Any]]) -> Table:
    """Of each model the search, and below it the samples that cost as much."""
    searched = [row for row in rows if "guided" in row]
    guide = searched[0]["guided"]["guide"]
    table = _table(f"{benchmark}: search guided by {guide}, %", "tokens", "majority", "best", "weighted")
    for row in searched:
        found, equal = row["guided"], row["guided"]["equal"]
        told = (percent(found[name]) for name in ("majority", "best", "weighted"))
        table.add_row(row["name"], tokens(found["tokens"]), *told)
        beside = (percent(equal.get(name)) for name in ("majority", "best", "weighted"))
        table.add_row(f"  {found['equal_k']} samples", tokens(found["equal_tokens"]), *beside)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("arm", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
