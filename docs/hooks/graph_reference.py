"""The page that lists every kind of step, made from the kinds themselves."""

from __future__ import annotations

from typing import Any, get_args

from config_reference import home_of, prose

from redi_ray.config.steps import AnyStep
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.kinds.kind import MANY, Kind

PAGE = "reference/kinds.md"
TYPES = {
    "problems": "problems with their reference answers",
    "dev": "development problems, which nothing is learnt from",
    "starts": "beginnings of samples, behind which a model goes on",
    "traces": "samples of a model, with the problems that they answer",
    "verified": "the same with a verdict for each",
    "column": "something said of each sample: a number a row, labelled spans, or a number a token",
    "groups": "what is trained on: examples, pairs, or n samples of a problem",
    "model": "weights",
    "scores": "an evaluation's result",
    "comparison": "how well one column finds what another one knows",
    "critical": "how small a column's numbers are where samples are lost",
    "reflection": "how often samples look back, by verdict and within problems",
    "robustness": "accuracy on variants of problems against the problems themselves",
    "checked_tokens": "two columns of tokens, held against each other",
}
"""What flows along an edge of the graph."""


def pages() -> dict[str, str]:
    """Path below `docs/` -> Markdown."""
    lines = ["# Every kind of step", "", "Made from the code. What flows between steps:", ""]
    lines += ["| type | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in TYPES.items()]
    lines += ["", "`redi-ray inspect RUN --step NAME` shows the rows of every step that has a table.", ""]
    lines += ["| kind | takes | gives | rows to look at | its folder in a run |", "|---|---|---|---|---|"]
    lines += [_row(kind) for kind in KINDS.values()]
    lines += ["", "## What each does", ""]
    for name, settings in _settings().items():
        lines += [f"[`{name}`]({_link(name)})", f":   {prose(settings.__doc__ or '')}", ""]
    own = [name for name in KINDS if name not in _settings()]
    lines += [f"Made by a config's sections alone, not by name: {', '.join(f'`{name}`' for name in own)}."]
    return {PAGE: "\n".join(lines) + "\n"}


def _settings() -> dict[str, type[Any]]:
    """`do` -> the settings of a named step."""
    union, _ = get_args(AnyStep)  # which is annotated with its discriminator
    return {get_args(step.model_fields["do"].annotation)[0]: step for step in get_args(union)}


def _link(name: str) -> str:
    return "config/" + home_of(_settings()[name].__name__).rpartition("/")[2]


def _row(kind: Kind) -> str:
    takes = "<br>".join(
        f"{'any names' if role == MANY else f'`{role}`'}: {' or '.join(f'`{one}`' for one in types)}"
        for role, types in kind.takes.items()
    )
    name = f"[`{kind.name}`]({_link(kind.name)})" if kind.name in _settings() else f"`{kind.name}`"
    tables = ", ".join(f"`{table}`" for table in kind.tables)
    return f"| {name} | {takes or 'nothing'} | `{kind.gives}` | {tables} | `{kind.stage}` |"
