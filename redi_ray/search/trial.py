"""One trial: the steps of its config, its goal, its score on development problems.

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
from redi_ray.pipeline.graph import Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.runner import Pipeline, run_of
from redi_ray.pipeline.standard import graph_of
from redi_ray.search.plan import DEV_ACCURACY, DEV_PASS_AT_1, Goal, TrialSpec
from redi_ray.search.records import COLLAPSED, CURVES, Status, TrialRecord, ranks_of, read_steps, seconds_of, thin
from redi_ray.search.sections import counts_by_best
from redi_ray.stages.evaluation import benchmark_verification
from redi_ray.stages.run import Run
from redi_ray.stages.training import Training, prepare, train
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.train.progress import NonfiniteError

Score = Mapping[str, Any]
"""`value` and `sem` of pass@1 on the development problems; `engine`: how the engine came to the weights, if it is kept."""
Scorer = Callable[[Run, Manifest, Manifest, DevEvaluation], Score]
"""(run, checkpoint, development problems, settings) -> score."""


@dataclass(frozen=True)
class Shared:
    """What all trials read, where their steps before the goal have equal keys."""

    inputs: Mapping[str, Manifest]
    """Of the goal: what its kind calls it -> the output."""
    dev: Manifest | None
    """The development problems, where the metric is measured on them."""

    @classmethod
    def of(cls, pipeline: Pipeline, goal: Goal) -> Shared:
        """Run the steps that the goal comes from, or find them done."""
        # first, since a lack of development problems must not show after traces have been paid for
        dev = pipeline.dev() if goal.metric in (DEV_ACCURACY, DEV_PASS_AT_1) else None
        return cls({role: pipeline.until(of) for role, of in pipeline.graph[goal.arm].inputs.items()}, dev)


@dataclass(frozen=True)
class Prepared:
    """The goal of a trial with all that it needs made, not begun."""

    run: Run
    """As the step sees it."""
    step: Step
    inputs: Mapping[str, Manifest]
    stage: Stage
    """Where the model will lie."""
    training: Training | None
    """None of a merge."""

    def make(self, callbacks: Sequence[Any] = ()) -> Manifest:
        """Train or merge, or find it done. callbacks: of a training, see `redi_ray.stages.training.train`."""
        if self.training is not None:
            return train(self.run, self.training, callbacks)
        return KINDS[self.step.kind].make(self.run, self.step, self.inputs)


def prepare_trial(spec: TrialSpec, goal: Goal, shared: Shared) -> Prepared:
    """The trial's goal, its training's data made."""
    step = graph_of(spec.config)[goal.arm]
    run, inputs = run_of(Run.of(spec.config, in_force=False), step), shared.inputs
    if step.kind == "train":
        training = prepare(run, step.name, step.settings, inputs)
        return Prepared(run, step, inputs, training.stage, training)
    stage = KINDS[step.kind].place(run, step, inputs)
    assert stage is not None, step
    return Prepared(run, step, inputs, stage, None)


def run_trial(
    spec: TrialSpec,
    goal: Goal,
    *,
    shared: Shared | None = None,
    callbacks_for: Callable[[Training], Sequence[Any]] = lambda training: (),
    scorer: Scorer | None = None,
) -> TrialRecord:
    """Run what the trial's config needs, make its goal (or go on with it, or find it done), and score it.

    Ray must be connected. What the run already has is reused, and what is made here can be reused by `redi-ray run` with
    the trial's config; it does not take the place of the run's own.

    Args:
        shared: null runs the steps before the goal, or finds them done.
        callbacks_for: called before the training starts; see `redi_ray.train.on_ray.launch.launch_training` for what it returns.
        scorer: measures `dev_pass@1`; null starts an engine for it.

    Raises UserError, or TrainError if the training failed.
    """
    shared = shared or Shared.of(Pipeline(spec.config, in_force=False), goal)
    prepared = prepare_trial(spec, goal, shared)
    try:
        checkpoint = prepared.make(callbacks_for(prepared.training) if prepared.training is not None else ())
    except NonfiniteError as error:
        return record_of(spec, goal, prepared, shared, "nonfinite", str(error))
    facts = checkpoint.facts
    record = record_of(spec, goal, prepared, shared, facts.get("status", "done"), facts.get("reason", ""))
    if goal.metric != DEV_PASS_AT_1 or record.collapsed:  # a collapsed model talks until it is cut off
        return record
    assert shared.dev is not None
    found = (scorer or dev_pass_at_1)(prepared.run, checkpoint, shared.dev, goal.dev)
    return replace(record, value=found["value"], sem=found["sem"], engine=found.get("engine"))


def record_of(
    spec: TrialSpec, goal: Goal, prepared: Prepared, shared: Shared, status: Status, reason: str = "", **more: Any
) -> TrialRecord:
    """What the training has written so far. `value` is that of the exported weights, if it is known while training."""
    training = prepared.training
    if training is None:
        return TrialRecord(spec.key, dict(spec.values), spec.seed, status, reason, uri=prepared.stage.uri, **more)
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
        uses_gpu=training.trainer.on_gpu,
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
    few = settings.num_samples
    return replace(evaluate, benchmarks=[dev], num_samples=few, ks=[1], score=None, rank_by=None, guided=None)


def some_problems(problems: pa.Table, count: int | None) -> pa.Table:
    """`count` of the problems, the same ones whatever their order; all if null."""
    if count is None or count >= problems.num_rows:
        return problems
    ids = problems["problem_id"].to_pylist()
    chosen = sorted(range(len(ids)), key=lambda index: storage.content_hash(ids[index]))[:count]
    return problems.take(pa.array(sorted(chosen)))
