"""`redi-ray plan`: what a run will cost, before anything is spent."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from rich.console import Console

from redi_ray.config.data import VllmTraces
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.locators import StepJudge
from redi_ray.pipeline.graph import Graph
from redi_ray.pipeline.standard import graph_of
from redi_ray.plan.assumptions import DEFAULTS, Assumption, Assumptions, read_assumptions
from redi_ray.plan.costs import Inputs
from redi_ray.plan.errors import PlanError
from redi_ray.plan.estimate import benchmark_size, estimate
from redi_ray.plan.hardware import find_gpu
from redi_ray.plan.sample import DataSample, sample_data
from redi_ray.plan.sensitivity import swings
from redi_ray.plan.shapes import ModelShape, parse_shape, shape_of, student_shape
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


def make_inputs(config: ExperimentConfig, gpu: str, shapes: list[ModelShape], sample_rows: int) -> Inputs:
    """Everything but the assumptions: GPU, data, model sizes, benchmark sizes."""
    known, graph = {shape.name: shape for shape in shapes}, graph_of(config)
    student = student_shape(config, known)
    return Inputs(
        config=config,
        sample=sample_data(config, sample_rows),
        gpu=find_gpu(gpu),
        graph=graph,
        student=student,
        engines=engine_shapes(config, graph, student, known),
        benchmark_problems={
            benchmark.name: benchmark_size(benchmark, config.problems.source)
            for benchmark in config.evaluate.benchmarks
        },
    )


def engine_shapes(
    config: ExperimentConfig, graph: Graph, student: ModelShape, known: Mapping[str, ModelShape]
) -> dict[str, ModelShape]:
    """Of the model that vLLM runs here for a step, by step: a model of the graph has the student's. Raises PlanError."""
    found = {}
    for step in graph:
        here = config.model_copy(update=dict(step.sections))
        generate, judge, shared = here.generate, here.verify.judge, config.resources.engine
        where = f"steps.{step.name}" if step.own else ""
        locator = step.settings.locator if step.kind == "locate" else None
        if "model" in step.inputs and (step.gives == "traces" or step.kind == "locate"):
            found[step.name] = student
        elif isinstance(locator, StepJudge) and locator.model is not None:
            trusted = (locator.engine or shared).trusts_code
            found[step.name] = shape_of(f"{where}.locator.model", locator.model, known, trusted)
        elif step.kind == "sample" and isinstance(generate, VllmTraces):
            trusted = (generate.engine or shared).trusts_code
            found[step.name] = shape_of(f"{where or 'generate'}.model", generate.model, known, trusted)
        elif step.kind == "verify" and judge is not None and judge.model:
            trusted = (judge.engine or shared).trusts_code
            found[step.name] = shape_of(f"{where or 'verify'}.judge.model", judge.model, known, trusted)
    return found


def make_assumptions(config: ExperimentConfig, sample: DataSample, given: list[Assumption]) -> Assumptions:
    """Defaults, replaced by what the data say, replaced by what the user says."""
    limit = min(config.curate.max_response_tokens, getattr(config.generate, "max_tokens", config.sft.train.max_length))
    default = DEFAULTS["completion_tokens"]
    if default.value > limit:
        half = limit / 2
        default = Assumption(default.name, half, 0.5 * half, 1.5 * half, f"half the limit of {limit:,} tokens")
    found = Assumptions(DEFAULTS).having(default).having(*sample.told).having(*given)
    if "problems" not in found:
        raise PlanError(
            f"problems.source: {sample.note}, so their number is not known; say it: --assume problems=NUMBER"
        )
    return found
