"""`redi-ray plan`: what a run will cost, before anything is spent."""

from __future__ import annotations

import json
import sys

from rich.console import Console

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.plan.assumptions import read_assumptions
from redi_ray.plan.estimate import estimate
from redi_ray.plan.inputs import make_assumptions, make_inputs
from redi_ray.plan.sensitivity import swings
from redi_ray.plan.shapes import parse_shape
from redi_ray.plan.show import as_values, show_plan

WIDTH = 120
"""Columns where the output goes to no terminal."""


def plan_run(
    config: ExperimentConfig,
    *,
    gpu: str,
    assume: list[str],
    shapes: list[str],
    sample_rows: int,
    as_json: bool,
) -> None:
    """Print the plan of a config. Raises PlanError for what is unknown, DataError for files that cannot be read."""
    given = read_assumptions(assume)
    # the tokenizer takes longer to load than all the rest
    print(f"{config.name}: counting tokens of up to {sample_rows:,} rows of each set", file=sys.stderr, flush=True)
    inputs = make_inputs(config, gpu, [parse_shape(text) for text in shapes], sample_rows)
    assumptions = make_assumptions(config, inputs.sample, given)
    plan = estimate(inputs, assumptions)
    found = swings(inputs, assumptions, plan)
    if as_json:
        print(json.dumps(as_values(inputs, assumptions, plan, found), indent=1, allow_nan=False))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    show_plan(inputs, assumptions, plan, found, console)
