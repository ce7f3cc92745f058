"""The page that lists every objective with what it reads and its formula, made from `redi_ray.objectives`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, get_args

from config_reference import home_of, prose

from redi_ray.config import objectives as settings_module
from redi_ray.objectives import OBJECTIVES, ObjectiveSpec

PAGE = "reference/objectives.md"
SIDES = {"chosen": "chosen sides", "pairs": "pairs", "any": "any samples"}


def pages() -> dict[str, str]:
    """Path below `docs/` -> Markdown."""
    lines = [
        "# Every objective",
        "",
        "Made from the code; [the method](../method/objectives.md) has them by family.",
        "",
    ]
    lines += ["| name | learns from | reads besides | one pass | units |", "|---|---|---|---|---|"]
    lines += [_row(name, spec) for name, spec in OBJECTIVES.items()]
    lines += [
        "",
        "By default settings, which decide some of it. *One pass*: the gradient's coefficients are known before the forward",
        "pass, so no pass that scores comes first. *Units*: whether each span of a sample may have a score of its own",
        "(`train.units: spans`).",
        "",
    ]
    for name, spec in OBJECTIVES.items():
        lines += [f"## {name} {{ #{name} }}", "", f"Settings: [{_class(name)}]({_link(name)}).", ""]
        lines += _text(_function(spec))
    return {PAGE: "\n".join(lines) + "\n"}


def _row(name: str, spec: ObjectiveSpec) -> str:
    settings = _settings()[name]()
    reads = ["reference"] if spec.needs_reference else []
    reads += ["rewards"] if spec.needs_rewards else []
    reads += [f"`{column}`" for column in (*spec.columns(settings), *spec.sums(settings))]
    reads += ["mismatched pairs"] if spec.needs_mismatched(settings) else []
    reads += ["a scalar head"] if spec.reads == "values" else []
    linear = "yes" if spec.linear(settings) else "no"
    units = "any" if spec.several_units else "samples"
    return f"| [`{name}`](#{name}) | {SIDES[spec.sides]} | {', '.join(reads)} | {linear} | {units} |"


def _settings() -> dict[str, type[Any]]:
    """Objective -> its settings class."""
    union = settings_module.Objective
    members = get_args(get_args(union)[0]) or get_args(union)
    return {member.__dataclass_fields__["name"].default: member for member in members}


def _class(name: str) -> str:
    return _settings()[name].__name__


def _link(name: str) -> str:
    return "config/" + home_of(_class(name)).rpartition("/")[2]


def _function(spec: ObjectiveSpec) -> Callable[..., Any]:
    return spec.pointwise or spec.psi


def _text(function: Callable[..., Any]) -> list[str]:
    """A docstring as Markdown: tables in columns stay as they stand, the rest is prose."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", inspect.getdoc(function) or ""):
        aligned = block.startswith("    ") or all(
            re.match(r"\S+(?: \S+)*\s{2,}\S", line) for line in block.splitlines()
        )
        lines += ["```text", inspect.cleandoc(block), "```", ""] if aligned else [prose(block), ""]
    return lines
