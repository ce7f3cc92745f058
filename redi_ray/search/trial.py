"""One trial: the stages of its config, its training, its score on development problems.

`run_trial` needs no search around it: whatever compares trained models on development problems can call it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from redi_ray.config.evaluation import BenchmarkSettings, EvaluateSettings
from redi_ray.config.search import DevEvaluation
from redi_ray.config.training import TrainSettings
from redi_ray.data.sample.generate import read_problems
from redi_ray.data.sample.samples import Sampler
from redi_ray.eval.evaluate import evaluate_model
from redi_ray.pipeline.runner import Pipeline
from redi_ray.search.plan import DEV_ACCURACY, DEV_PASS_AT_1, Goal, TrialSpec
from redi_ray.search.records import COLLAPSED, CURVES, Status, TrialRecord, ranks_of, read_steps, seconds_of, thin
from redi_ray.search.sections import counts_by_best
from redi_ray.stages.evaluation import benchmark_verification
from redi_ray.stages.run import Run
from redi_ray.stages.training import Training, arm_recipe, prepare, sft_recipe, train
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest
from redi_ray.train.progress import NonfiniteError

Score = Mapping[str, Any]
"""`value` and `sem` of pass@1 on the development problems; `engine`: how the engine came to the weights, if it is kept."""
Scorer = Callable[[Run, Manifest, Manifest, DevEvaluation], Score]
"""(run, checkpoint, development problems, settings) -> score."""


@dataclass(frozen=True)
class Shared:
    """What all trials read, where the space leaves the stages before the arm's training alone."""

    curated: Manifest
    base: Manifest
    sft: Manifest | None
    """None where sft itself is searched."""
    dev: Manifest | None
    """The development problems, where they are needed."""

    @classmethod
    def of(cls, pipeline: Pipeline, goal: Goal) -> Shared:
        """Run those stages, or find them done."""
        needs_dev = bool(pipeline.config.probes) or goal.metric in (DEV_ACCURACY, DEV_PASS_AT_1)
        dev = pipeline.dev() if needs_dev else None
        curated, base = pipeline.curated(), pipeline.base()
        return cls(curated, base, None if goal.arm == "sft" else pipeline.checkpoint("sft"), dev)


def prepare_trial(spec: TrialSpec, goal: Goal, shared: Shared) -> tuple[Run, Training]:
    """The trial's training with its data made, not begun."""
    run = Run.of(spec.config, in_force=False)
    inputs = {"groups": shared.curated, "base": shared.base, "start": shared.sft or shared.base}
    inputs |= {"dev": shared.dev} if shared.dev is not None else {}
    recipe = sft_recipe(spec.config) if shared.sft is None else arm_recipe(spec.config, goal.arm)
    return run, prepare(run, goal.arm, recipe, inputs)


def run_trial(
    spec: TrialSpec,
    goal: Goal,
    *,
    shared: Shared | None = None,
    callbacks_for: Callable[[Training, Shared], Sequence[Any]] = lambda training, shared: (),
    scorer: Scorer | None = None,
) -> TrialRecord:
    """Run what the trial's config needs, train its arm (or go on with it, or find it done), and score it.

    Ray must be connected. What the run already has is reused, and what is made here can be reused by `redi-ray run` with
    the trial's config; it does not take the place of the run's own.

    Args:
        shared: null runs the stages before the training, or finds them done.
        callbacks_for: called before the training starts; see `redi_ray.train.on_ray.launch.launch_training` for what it returns.
        scorer: measures `dev_pass@1`; null starts an engine for it.

    Raises UserError, or TrainError if the training failed.
    """
    shared = shared or Shared.of(Pipeline(spec.config, in_force=False), goal)
    run, training = prepare_trial(spec, goal, shared)
    try:
        checkpoint = train(run, training, callbacks_for(training, shared))
    except NonfiniteError as error:
        return record_of(spec, goal, training, shared, "nonfinite", str(error))
    facts = checkpoint.facts
    record = record_of(spec, goal, training, shared, facts["status"], facts.get("reason", ""))
    if goal.metric != DEV_PASS_AT_1 or record.collapsed:  # a collapsed model talks until it is cut off
        return record
    assert shared.dev is not None
    found = (scorer or dev_pass_at_1)(run, checkpoint, shared.dev, goal.dev)
    return replace(record, value=found["value"], sem=found["sem"], engine=found.get("engine"))


def record_of(
    spec: TrialSpec, goal: Goal, training: Training, shared: Shared, status: Status, reason: str = "", **more: Any
) -> TrialRecord:
    """What the training has written so far. `value` is that of the exported weights, if it is known while training."""
    steps = read_steps(training.stage.uri)
    value, sem = counted_value(steps, goal.metric, training.settings, collapsed=status in COLLAPSED), None
    if goal.metric == DEV_ACCURACY and value is not None:
        assert training.settings.probe is not None
        assert shared.dev is not None
        sem = math.sqrt(value * (1 - value) / min(training.settings.probe.problems, shared.dev.counts["out"]))
    return TrialRecord(
        key=spec.key,
        values=dict(spec.values),
        seed=spec.seed,
        status=status,
        reason=reason,
        collapsed=status in COLLAPSED or any(step.get("collapse") for step in steps),
        value=value,
        sem=sem,
        steps=steps[-1]["step"] + 1 if steps else 0,
        total_steps=training.total_steps,
        tokens=sum(step.get("total_tokens") or 0.0 for step in steps),
        train_seconds=seconds_of(steps),
        workers=ranks_of(steps, training.trainer.pool[0]),
        uses_gpu=training.trainer.use_gpu,
        uri=training.stage.uri,
        curves=thin(steps, [goal.metric, *CURVES]),
        **more,
    )


def counted_value(
    steps: Sequence[Mapping[str, Any]], metric: str, settings: TrainSettings, collapsed: bool
) -> float | None:
    """The metric's last value, or where the best checkpoint is exported the best one at a checkpoint (of which the last step
    is one). What has collapsed is shown as it ended."""
    measured = [(step["step"] + 1, step[metric]) for step in steps if step.get(metric) is not None]
    if not collapsed and counts_by_best(settings, metric):
        last = steps[-1]["step"] + 1 if steps else 0
        return max((value for at, value in measured if at % settings.checkpoint_every == 0 or at == last), default=None)
    return measured[-1][1] if measured else None


def dev_pass_at_1(
    run: Run, checkpoint: Manifest, dev: Manifest, settings: DevEvaluation, sampler: Sampler | None = None
) -> Score:
    """pass@1 on the development problems, sampled and judged as benchmarks are.

    sampler: null starts an engine. Raises EvaluationError if some samples could not be drawn.
    """
    evaluate, verify = dev_settings(run.config.evaluate, settings), benchmark_verification(run.config.verify)
    told: dict[str, Any] = {"evaluate": evaluate, "engine": run.config.resources.engine, "verify": verify}
    told |= {"prompt": run.config.model.prompt, "dev": settings.max_problems}
    stage = run.stage("search/dev", told, {"checkpoint": checkpoint, "dev": dev})
    if found := run.reuse(stage):
        return found.facts["score"]
    started = time.monotonic()
    result = evaluate_model(
        checkpoint.facts["export"],
        {"dev": some_problems(read_problems(dev.files("dev")), settings.max_problems)},
        evaluate,
        engine=run.config.resources.engine,
        prompt=run.config.model.prompt,
        recorded=checkpoint.facts["prompt"],
        verify=verify,
        verify_workers=run.config.resources.verify_workers,
        verify_labels=run.config.resources.cpu_label_selector,
        out_uri=stage.uri,
        on_progress=lambda added: None,
        sampler=sampler,
    )
    scored = result["benchmarks"][0]
    score = {"value": scored["pass_at_1"], "sem": scored["sem"]}
    run.publish(stage, started, facts={"score": score})
    return score


def dev_settings(evaluate: EvaluateSettings, settings: DevEvaluation) -> EvaluateSettings:
    """The evaluation's settings with development problems in place of benchmarks."""
    dev = BenchmarkSettings(name="dev", path="dev")
    return replace(evaluate, benchmarks=[dev], num_samples=settings.num_samples, ks=[1])


def some_problems(problems: pa.Table, count: int | None) -> pa.Table:
    """`count` of the problems, the same ones whatever their order; all if null."""
    if count is None or count >= problems.num_rows:
        return problems
    ids = problems["problem_id"].to_pylist()
    chosen = sorted(range(len(ids)), key=lambda index: storage.content_hash(ids[index]))[:count]
    return problems.take(pa.array(sorted(chosen)))
