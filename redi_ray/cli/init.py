"""`redi-ray init`: looks at data, says what it takes them for and why, and writes a config that runs."""

from __future__ import annotations

import re
import shlex
import sys

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from redi_ray.cli.marked import visible
from redi_ray.cli.recipes import copy, require_free
from redi_ray.config.yaml_text import read_yaml
from redi_ray.starter.columns import Column
from redi_ray.starter.fitting import FITTING, Fitting, chosen, fitting
from redi_ray.starter.head import StartError, read_head
from redi_ray.starter.reading import TOLD, Reading, read
from redi_ray.starter.shipped import shipped, shipped_recipe
from redi_ray.starter.student import DEFAULT, SCRATCH, Student, student_of
from redi_ray.starter.writing import write
from redi_ray.store import storage

MOST_COLUMNS = 30
WIDTH = 120
"""Columns of the output where it goes to no terminal."""


def start(
    data: str | None,
    *,
    recipe: str | None,
    out: str | None,
    model: str | None,
    columns: list[str],
    subset: str | None = None,
    split: str | None = None,
    force: bool = False,
) -> None:
    """Write a config for `data`, or copy a recipe that needs none. On a terminal what is left open is asked.

    Raises StartError, DataError, RecipeError, TakenError, ConfigError.
    """
    if data is None:
        if recipe is None or recipe in FITTING:
            raise StartError(
                "name DATA (a file, a folder, s3://..., or a set of the hub), or a recipe that comes with its own"
            )
        copy(shipped_recipe(recipe), out or f"{recipe}.yaml", force=force)
        return
    if recipe in shipped():
        raise StartError(
            f"--recipe {recipe} is a config of its own and takes no DATA: redi-ray recipes {recipe} --copy FILE, and change it. "
            f"For your data there are {', '.join(FITTING)}"
        )
    target = out or f"{name_of(data)}.yaml"
    require_free(target, force)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    reading = read(read_head(data, subset, split), _given(columns))
    tell(reading, data, console)
    way = chosen(reading, recipe or _asked_way(reading))
    student = student_of(model or _asked_model(), [*reading.answers])
    if way.vllm and student.path == SCRATCH:
        raise StartError(
            f"--model scratch: random weights have nothing to sample, which recipe {way.name} does; name a model"
        )
    text = write(reading, name_of(target), way.does, way.write(reading, student), data, _others(reading, way))
    check(text, target)
    storage.write_bytes(target, text.encode())
    tell_next(way, student, target, console)


def check(text: str, target: str) -> None:
    """Whatever is written has to be right. Raises ConfigError."""
    from redi_ray.config.load import parse_config  # takes a second, in which the data are already told
    from redi_ray.pipeline.standard import graph_of

    graph_of(parse_config(read_yaml(text), where=target))


def _given(columns: list[str]) -> dict[str, str]:
    found = dict[str, str]()
    for item in columns:
        role, equals, column = item.partition("=")
        if not equals or not role or not column:
            raise StartError(f"--column {item}: write ROLE=COLUMN, such as problem=question")
        found[role] = column
    return found


def _others(reading: Reading, way: Fitting) -> dict[str, str]:
    return {one.name: one.does for one in fitting(reading) if one is not way}


def _asked_way(reading: Reading) -> str | None:
    ways = [one.name for one in fitting(reading)]
    if len(ways) < 2 or not _is_asked():
        return None
    return str(typer.prompt(f"recipe ({', '.join(ways)})", default=ways[0]))


def _is_asked() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def _asked_model() -> str | None:
    if not _is_asked():
        return None
    return str(typer.prompt("model (a folder, a hub name, or scratch)", default=DEFAULT))


def name_of(data: str) -> str:
    """What a run on these data, or a config in this file, is called."""
    last = data.rstrip("/").rpartition("/")[2].partition(":")[0]
    stem = re.sub(r"(\.(jsonl?|ndjson|csv|tsv|parquet|arrow|ya?ml|gz|zst|bz2|xz|lz4))+$", "", last, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("_.") or "first"


def tell(reading: Reading, data: str, console: Console) -> None:
    """The columns with what they hold, what each is taken for and why, and how much of the set can be used."""
    roles = {path: (role, guess.why) for role, guess in reading.guesses.items() for path in guess.columns}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("column", "holds", "there, %", "longest", "taken for", "why", "such as"):
        right = name in ("there, %", "longest")
        table.add_column(name, overflow="fold", justify="right" if right else "left", no_wrap=right or name == "column")
    shown = [(path, column) for path, column in reading.columns.items() if column.kind != "object" or path in roles]
    for path, column in shown[:MOST_COLUMNS]:
        role, why = roles.get(path, ("", ""))
        table.add_row(
            *map(Text, _cells(path, column)), Text(role, "bold green"), Text(why), Text(visible(column.sample), "dim")
        )
    console.print(Text(f"{data}: {reading.head.told}", "bold"), soft_wrap=True)
    console.print(table)
    if len(shown) > MOST_COLUMNS:
        console.print(f"and {len(shown) - MOST_COLUMNS} more columns")
    console.print(Text(f"\nread as {TOLD[reading.what]}", "bold"), soft_wrap=True)
    used = f"{reading.usable:,} of {len(reading.head.rows):,} rows can be used"
    console.print(Text(used), soft_wrap=True)
    unreadable = reading.head.unreadable
    lost = [
        (count, f"not: {reason}; the first: {reading.first[reason][:300]}")
        for reason, count in reading.left_out.most_common()
    ]
    lost += (
        [(len(unreadable), f"cannot be read; the first: {unreadable[0].where} {unreadable[0].error}")]
        if unreadable
        else []
    )
    for count, told in lost:
        console.print(Text(visible(f"  {count:,} {told}"), "yellow"), soft_wrap=True)


def _cells(path: str, column: Column) -> tuple[str, str, str, str]:
    return visible(path), column.told, f"{100 * column.filled:.0f}", f"{max(column.lengths, default=0):,}"


def tell_next(way: Fitting, student: Student, target: str, console: Console) -> None:
    """What was written, and what to run."""
    console.print(
        Text(f"\nwritten: {target}", "bold").append(f" (recipe {way.name}: {way.does})", "not bold"), soft_wrap=True
    )
    if student.path == DEFAULT:
        told = f"model: {DEFAULT}, from the hub; --model FOLDER_OR_NAME for another, --model scratch for random weights"
        console.print(Text(told), soft_wrap=True)
    for command, why in (
        ("graph", "the steps, and what is there of them"),
        ("plan", "what it will cost"),
        ("run", "all of it" + ("; it samples by vLLM" if way.vllm else "")),
    ):
        console.print(
            Text(f"  redi-ray {command:<5} {shlex.quote(target)}", "bold").append(f"   {why}", "not bold"),
            soft_wrap=True,
        )
