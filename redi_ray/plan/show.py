"""A plan as tables for a terminal, and as plain values for other tools."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from redi_ray.plan.assumptions import Assumption, Assumptions
from redi_ray.plan.costs import Inputs, Plan, StageMemory
from redi_ray.plan.sensitivity import Swing, used_by

MEMORY_PARTS = {
    "weights": "weights", "gradients": "grads", "optimizer": "moments", "gathered": "gathered", "activations": "activ.",
    "head": "head",
}  # fmt: skip
"""Field -> heading."""
SIDES_SHOWN = 10
"""Most rows of the table of swings."""


def number(value: float) -> str:
    """A count in a few characters: 512, 3.4k, 2.31G."""
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:  # 999,900 is 1M, not 1e+03k
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def hours(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"


def show_plan(inputs: Inputs, assume: Assumptions, plan: Plan, swings: list[Swing], console: Console) -> None:
    """Stages, memory, storage, assumptions, and what decides."""

    def tell(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    shape = inputs.student
    tell(f"{inputs.config.name}: {shape.name}, {number(shape.parameters)} parameters; data: {inputs.sample.note}")
    ids = {name: str(index) for index, name in enumerate(sorted(used_by(plan)), start=1)}
    console.print(_stage_table(plan, ids))
    for stage in plan.stages:
        if stage.note:
            tell(f"{stage.name}: {stage.note}")
    for step in plan.beside:
        tell(f"{step.name}: {step.note}; no model runs")
    if plan.gpu_hours is None:
        tell("everything runs on CPU here, so GPU-hours do not apply; tokens and memory do")
    else:
        gpu = inputs.gpu
        clock = sum(stage.hours or 0 for stage in plan.stages)
        tell(
            f"{hours(plan.gpu_hours)} GPU-hours of {gpu.name} ({gpu.bf16_tflops:g} TFLOP/s, {gpu.memory_gb:g} GB), "
            f"{hours(clock)} hours one stage after another"
        )
    if plan.price is not None:
        tell(f"price: {plan.price:,.2f}")
    console.print(_memory_table(plan.memory, ids))
    for line in _verdicts(plan.memory, inputs.gpu.name):
        tell(line)
    stored = ", ".join(f"{name} {number(size)}B" for name, size in plan.storage.items() if size)
    tell(
        f"\nstorage: {number(sum(plan.storage.values()))}B; {stored}; assumes {_numbers(plan.storage_assumptions, ids)}"
    )
    console.print(_assumption_table(assume, ids))
    _tell_swings(plan, swings, tell, console)


def _stage_table(plan: Plan, ids: dict[str, str]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("stage", no_wrap=True)
    for name in ("sequences", "tokens", "FLOPs", "MFU, %", "GPU-hours", "hours", "price"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("assumes")
    priced = any(stage.price is not None for stage in plan.stages)
    for stage in plan.stages:
        table.add_row(
            stage.name,
            number(stage.sequences),
            number(stage.tokens),
            number(stage.flops) if stage.flops else "-",
            "-" if stage.mfu is None else f"{100 * stage.mfu:.0f}",
            hours(stage.gpu_hours),
            hours(stage.hours),
            "-" if stage.price is None else f"{stage.price:,.2f}",
            _numbers(stage.assumptions, ids),
        )
    if not priced:
        table.columns.pop(7)
    return table


def _memory_table(stages: list[StageMemory], ids: dict[str, str]) -> Table:
    """Stages of the same figures share a row."""
    table = Table(
        box=SIMPLE_HEAD,
        title="\nbytes on each training rank; tokens of its longest pack",
        title_justify="left",
        padding=(0, 1, 0, 0),
    )
    table.add_column("stage", min_width=16)
    for name in ("ranks", "pack", *MEMORY_PARTS.values(), "peak", "pack that fits"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("assumes")
    rows: dict[tuple[str, ...], list[str]] = {}
    for stage in stages:
        figures = (
            str(stage.ranks),
            f"{stage.pack_tokens:,}",
            *(number(getattr(stage.memory, name)) for name in MEMORY_PARTS),
            number(stage.memory.peak),
            "-" if stage.budget is None else f"{stage.budget:,}",
            _numbers(stage.assumptions, ids),
        )
        rows.setdefault(figures, []).append(stage.name)
    for figures, names in rows.items():
        table.add_row(", ".join(names), *figures)
    return table


def _numbers(names: list[str], ids: dict[str, str]) -> str:
    """Assumptions by their numbers in the table."""
    return " ".join(sorted((ids[name] for name in names), key=int))


def _verdicts(stages: list[StageMemory], gpu: str) -> list[str]:
    """What to do where a training does not fit; one line where all do."""
    checked = [stage for stage in stages if stage.room is not None]
    ways: dict[str, list[str]] = {}
    for stage in checked:
        if not stage.fits:
            ways.setdefault(_remedy(stage, gpu), []).append(stage.name)
    lines = [f"{', '.join(names)}: DOES NOT FIT; {way}" for way, names in ways.items()]
    return lines or [
        f"every training fits on {gpu}, of which {number(stage.room or 0)}B count" for stage in checked[:1]
    ]


def _remedy(stage: StageMemory, gpu: str) -> str:
    ways = [] if stage.checkpointing else ["gradient_checkpointing would spare most of the activations"]
    if stage.keep_gathered:
        ways.append("keep_gathered: false would spare most of the weights")
    if stage.budget:
        ways.append(f"{stage.ranks} ranks of {gpu} hold packs and sequences of up to {stage.budget:,} tokens")
    if stage.ranks_needed is not None:
        ways.append(f"{stage.ranks_needed} ranks would hold packs of {stage.pack_tokens:,}")
    elif stage.shorter is not None and stage.shorter[1]:
        ranks, tokens = stage.shorter
        ways.append(f"no number of {gpu} holds packs of {stage.pack_tokens:,} tokens, {ranks} would hold {tokens:,}")
    elif stage.shorter is not None:
        ways.append(f"no number of {gpu} holds any pack: one layer, the embedding and the head are too large for it")
    return "; ".join(ways)


def _assumption_table(assume: Assumptions, ids: dict[str, str]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="\nassumptions (--assume NAME=NUMBER sets one)", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("name", no_wrap=True)
    for name in ("value", "from", "to"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("source")
    for each in sorted((each for each in assume if each.name in ids), key=lambda each: each.name):
        ends = ("", "") if each.known else (number(each.low), number(each.high))
        table.add_row(ids[each.name], each.name, number(each.value), *ends, each.source)
    return table


def _tell_swings(plan: Plan, swings: list[Swing], tell: Any, console: Console) -> None:
    unit = "tokens" if plan.gpu_hours is None else "GPU-hours"
    moving = [swing for swing in swings if swing.width > 0.001 * plan.total][:SIDES_SHOWN]
    if not moving:
        tell(f"no assumption moves the total of {number(plan.total)} {unit}")
        return
    table = Table(box=SIMPLE_HEAD, title=f"\ntotal {unit} when one assumption goes to its ends", title_justify="left")
    table.add_column("assumption", no_wrap=True)
    for name in ("at its low end", "at its high end"):
        table.add_column(name, justify="right", no_wrap=True)
    for swing in moving:
        table.add_row(swing.name, number(swing.at_low), number(swing.at_high))
    console.print(table)
    first, total = moving[0], plan.total
    tell(
        f"{first.name} dominates: over its range the total of {number(total)} {unit} goes from "
        f"{number(min(first.at_low, first.at_high))} to {number(max(first.at_low, first.at_high))}"
    )


def as_values(inputs: Inputs, assume: Assumptions, plan: Plan, swings: list[Swing]) -> dict[str, Any]:
    """The plan as plain values, bytes and tokens as they are: what `--json` prints."""
    used = used_by(plan)
    return {
        "name": inputs.config.name,
        "gpu": asdict(inputs.gpu),
        "model": {**asdict(inputs.student), "parameters": inputs.student.parameters},
        "data": inputs.sample.note,
        "stages": [{**asdict(stage), "hours": stage.hours} for stage in plan.stages],
        "beside": [asdict(step) for step in plan.beside],
        "total": {"gpu_hours": plan.gpu_hours, "tokens": plan.tokens, "price": plan.price},
        "memory": [_memory_values(stage) for stage in plan.memory],
        "storage_bytes": plan.storage,
        "assumptions": [_assumption_values(each) for each in assume if each.name in used],
        "sensitivity": [asdict(swing) for swing in swings],
        "dominant": swings[0].name if swings and swings[0].width else None,
    }


def _memory_values(stage: StageMemory) -> dict[str, Any]:
    parts = {**asdict(stage.memory), "state": stage.memory.state, "peak": stage.memory.peak}
    return {**asdict(stage), "memory": parts, "fits": stage.fits}


def _assumption_values(each: Assumption) -> dict[str, Any]:
    return {**asdict(each), "known": each.known}
