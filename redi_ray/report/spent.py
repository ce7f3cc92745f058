"""What a run has taken: time, rows, tokens, GPU-hours and their price, step by step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from redi_ray.cluster.notify import duration
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.states import run_of
from redi_ray.plan.show import hours, number
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, current_manifest

OF_A_MODEL = ("tokens", "prompt_tokens")
"""Facts of a manifest where a model was asked; others count tokens, too."""
BESIDE = ("judge",)
"""Facts that hold such facts of a model that was asked besides."""


@dataclass(frozen=True)
class Spent:
    """What a step has taken. What several steps share counts to the first of them."""

    step: str
    seconds: float
    """Of the attempt that finished it, and those of what it made on the way."""
    rows: int | None
    """That came out."""
    sampled: int
    """Tokens that models wrote."""
    trained: int
    """Tokens that a training read, in all its epochs."""
    gpu_hours: float
    """Of the GPUs that it was given, for all of its time; of a pool that grows, those that it begins with."""
    price: float | None
    """At `resources.gpu_hour_price` and the prices of endpoints; None where neither is known."""


def spent(run: Run, graph: Graph) -> list[Spent]:
    """Of every finished step of a run, in order."""
    counted: set[str] = set()
    found = [_of_step(run, step, counted) for step in graph]
    return [one for one in found if one is not None]


def _of_step(run: Run, step: Step, counted: set[str]) -> Spent | None:
    made = [manifest for stage in (*step.parts, step.stage) if (manifest := _manifest(run.uri, stage)) is not None]
    if not made or made[-1].stage != step.stage:
        return None
    own = [manifest for manifest in made if f"{manifest.stage}/{manifest.key}" not in counted]
    counted |= {f"{manifest.stage}/{manifest.key}" for manifest in own}
    seconds = sum(manifest.seconds for manifest in own)
    held = sum(demand.amounts.get("GPU", 0.0) for demand in KINDS[step.kind].room(run_of(run, step), step))
    gpu_hours = held * seconds / 3600
    prices = [manifest.facts["cost"] for manifest in own if manifest.facts.get("cost") is not None]
    if (gpu_hour := run.config.resources.gpu_hour_price) is not None and gpu_hours:
        prices.append(gpu_hour * gpu_hours)
    return Spent(
        step=step.name,
        seconds=seconds,
        rows=made[-1].counts.get("out"),
        sampled=sum(map(_sampled, own)),
        trained=sum(map(_trained, own)),
        gpu_hours=gpu_hours,
        price=sum(prices) if prices else None,
    )


def _manifest(run_uri: str, stage: str) -> Manifest | None:
    there = storage.exists(storage.join(run_uri, stage, "manifest.json"))
    return current_manifest(run_uri, stage) if there else None


def _sampled(manifest: Manifest) -> int:
    """Tokens that models wrote for it."""
    facts = [manifest.facts, *(manifest.facts[name] for name in BESIDE if isinstance(manifest.facts.get(name), dict))]
    told = sum(int(found["tokens"]) for found in facts if all(isinstance(found.get(name), int) for name in OF_A_MODEL))
    if not manifest.stage.startswith("eval/"):
        return told
    rows = storage.read_json(storage.join(manifest.uri, "report.json"))["benchmarks"]
    return told + round(sum(row["mean_tokens"] * row["num_problems"] * row["num_samples"] for row in rows))


def _trained(manifest: Manifest) -> int:
    """Tokens of all steps of a training, prompts among them."""
    uri = storage.join(manifest.uri, "metrics.jsonl")
    if not manifest.stage.startswith("checkpoints/") or not storage.exists(uri):
        return 0
    by_step: dict[Any, float] = {}
    for line in storage.read_bytes(uri).splitlines():
        try:
            row = json.loads(line)
            by_step[row["step"]] = float(row.get("total_tokens") or 0)  # a step that was taken again counts once
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return round(sum(by_step.values()))


def total(rows: Iterable[Spent]) -> Spent:
    """Of all steps together."""
    rows = list(rows)
    prices = [row.price for row in rows if row.price is not None]
    return Spent(
        step="all",
        seconds=round(sum(row.seconds for row in rows), 1),
        rows=None,
        sampled=sum(row.sampled for row in rows),
        trained=sum(row.trained for row in rows),
        gpu_hours=sum(row.gpu_hours for row in rows),
        price=sum(prices) if prices else None,
    )


def print_spent(rows: list[Spent], console: Console | None = None) -> None:
    """A row for each step, and the sum; columns of which nothing is known are left out."""
    shown = [row for row in rows if row.seconds >= 0.5 or row.sampled or row.trained]
    if not shown:
        return
    whole = total(rows)
    columns: dict[str, Any] = {"time": lambda row: duration(row.seconds)}
    columns["rows"] = lambda row: "" if row.rows is None else f"{row.rows:,}"
    columns["sampled"] = lambda row: number(row.sampled) if row.sampled else ""
    columns["trained"] = lambda row: number(row.trained) if row.trained else ""
    if whole.gpu_hours:
        columns["GPU-hours"] = lambda row: hours(row.gpu_hours) if row.gpu_hours else ""
    if whole.price is not None:
        columns["price"] = lambda row: "" if row.price is None else f"{row.price:,.2f}"
    table = Table(
        title="what it took; sampled and trained are tokens", title_justify="left", box=SIMPLE_HEAD, show_footer=True
    )
    table.add_column("step", footer="all", no_wrap=True)
    for name, told in columns.items():
        table.add_column(name, footer=told(whole), justify="right", no_wrap=True)
    for row in shown:
        table.add_row(row.step, *(told(row) for told in columns.values()))
    (console or Console()).print(table)


def plain(rows: list[Spent]) -> dict[str, Any]:
    """The sum, as JSON holds it."""
    found: Mapping[str, Any] = asdict(total(rows))
    return {name: value for name, value in found.items() if name not in ("step", "rows")}
