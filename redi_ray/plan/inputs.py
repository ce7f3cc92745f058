"""What a plan is made from: read off the config, the data at hand, and the models' configs."""

from __future__ import annotations

from collections.abc import Mapping

from redi_ray.config.data import VllmTraces
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.locators import StepJudge
from redi_ray.pipeline.graph import Graph
from redi_ray.pipeline.standard import graph_of
from redi_ray.plan.assumptions import DEFAULTS, Assumption, Assumptions
from redi_ray.plan.costs import Inputs, shape_in
from redi_ray.plan.errors import PlanError
from redi_ray.plan.estimate import benchmark_size
from redi_ray.plan.hardware import find_gpu
from redi_ray.plan.sample import DataSample, sample_data
from redi_ray.plan.shapes import ModelShape, init_shape, shape_of, student_shape


def make_inputs(config: ExperimentConfig, gpu: str, shapes: list[ModelShape], sample_rows: int) -> Inputs:
    """Everything but the assumptions: GPU, data, model sizes, benchmark sizes."""
    known, graph = {shape.name: shape for shape in shapes}, graph_of(config)
    student = student_shape(config, known)
    others = {
        step.name: init_shape(config, f"steps.{step.name}.init", step.settings.init, known)
        for step in graph
        if step.kind == "model"
    }
    return Inputs(
        config=config,
        sample=sample_data(config, sample_rows),
        gpu=find_gpu(gpu),
        graph=graph,
        student=student,
        engines=engine_shapes(config, graph, student, known, others),
        benchmark_problems={
            benchmark.name: benchmark_size(benchmark, config.problems.source)
            for benchmark in config.evaluate.benchmarks
        },
        others=others,
    )


def engine_shapes(
    config: ExperimentConfig,
    graph: Graph,
    student: ModelShape,
    known: Mapping[str, ModelShape],
    others: Mapping[str, ModelShape],
) -> dict[str, ModelShape]:
    """Of the model that vLLM runs here for a step, by step. others: of the steps `model`. Raises PlanError."""
    found = {}
    for step in graph:
        here = config.model_copy(update=dict(step.sections))
        generate, judge, shared = here.generate, here.verify.judge, config.resources.engine
        where = f"steps.{step.name}" if step.own else ""
        locator = step.settings.locator if step.kind == "locate" else None
        if step.kind == "paraphrase":
            for name, field, model in (
                (step.name, "by", step.settings.by),
                (f"{step.name}: judge", "judge", step.settings.judged_by),
            ):
                if model.model is not None:
                    trusted = (model.engine or shared).trusts_code
                    found[name] = shape_of(f"{where}.{field}.model", model.model, known, trusted)
        elif "model" in step.inputs and (step.gives == "traces" or step.kind == "locate"):
            found[step.name] = shape_in(graph, step.inputs["model"], others, student)
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
