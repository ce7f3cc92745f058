"""What Ray Tune runs for each trial: a process that leads the training's workers and passes on what they report.

All reports go through one queue, Tune's own for trainings: mixed with direct calls of `tune.report` they can block each
other for ever. A report has `value`, what schedulers and searchers look at, and `steps`; the last has no `steps`, since a
trial that has ended is not to be judged by a scheduler.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.tune.integration.ray_train import TuneReportCallback

from redi_ray.cluster.runtime import quiet_libraries
from redi_ray.errors import UserError
from redi_ray.pipeline.runner import Pipeline
from redi_ray.search.evaluator import scorer_of
from redi_ray.search.plan import DEV_ACCURACY, DEV_PASS_AT_1, Goal, SearchPlan, TrialSpec
from redi_ray.search.records import TrialRecord, delete_record, read_record, read_steps, write_record
from redi_ray.search.running_value import RunningValue
from redi_ray.search.sections import settings_of
from redi_ray.search.trial import Shared, prepare_trial, run_trial
from redi_ray.stages.training import Training
from redi_ray.train.on_ray.launch import TrainError

VALUE, STEPS = "value", "steps"
SETTLE_SECONDS = 1.0
"""Between the last report's being taken from the queue and the end of the function: the time to hand it on."""


@dataclass(frozen=True)
class TrialJob:
    """What every trial is told."""

    plan: SearchPlan
    specs: Sequence[TrialSpec]
    """Known trials; empty where points follow from results."""
    run_uri: str
    scheduler: Mapping[str, Any] | None
    shared: Shared | None
    evaluator: Any
    """Handle of the actor that scores, None if the metric needs none."""

    @property
    def is_ready(self) -> bool:
        """Whether all that trainings read was made before the trials started."""
        return self.shared is not None and bool(self.specs) and self.plan.trains

    def spec_of(self, assigned: Mapping[str, Any]) -> TrialSpec:
        """The trial that Tune's config stands for: the number of a known one, or the searcher's values as JSON."""
        from ray.tune.search.repeater import TRIAL_INDEX

        if "trial" in assigned:
            return self.specs[assigned["trial"]]
        values = {path: decode(assigned[path]) for path in self.plan.search.space}
        return self.plan.trial(values, self.plan.seeds[assigned.get(TRIAL_INDEX, 0)])


def encode(value: Any) -> Any:
    """A value of a choice as a category that any searcher takes; numbers between bounds stay numbers."""
    return json.dumps(value, sort_keys=True)


def decode(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class Reports(TuneReportCallback):
    """Passes on to Tune the metric that is compared while a training goes on, from rank 0."""

    def __init__(self, running: RunningValue, facts: Mapping[str, Any]) -> None:
        """facts: join every report."""
        super().__init__()
        self.running, self.facts = running, dict(facts)

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        self.send(metrics[0].get("step", 0), metrics[0])

    def send(self, steps: int, metrics: Mapping[str, float | None]) -> None:
        """Report what is known after `steps` steps, if anything is."""
        if (value := self.running.after(steps, metrics)) is not None:
            super().after_report(None, [{VALUE: value, STEPS: steps, **self.facts}], None)  # type: ignore[arg-type]

    def send_logged(self, uri: str) -> None:
        """Report what the training in this folder has logged already."""
        for step in read_steps(uri):
            self.send(step["step"] + 1, step)


def report_result(value: float | None) -> None:
    """Report a trial's result; returns once Tune has it."""
    tune = TuneReportCallback()
    tune.after_report(None, [{VALUE: math.nan if value is None else value}], None)  # type: ignore[arg-type]
    while not tune._training_actor_item_queue.empty():
        time.sleep(0.2)
    time.sleep(SETTLE_SECONDS)


def lead_trial(assigned: dict[str, Any], job: TrialJob) -> None:
    """Find the trial's record or make it. A searcher and a scheduler hear the same either way."""
    spec, goal = job.spec_of(assigned), job.plan.goal
    record = read_record(job.run_uri, spec.key, job.scheduler)
    if record is None:
        record = _run(spec, goal, job)
    elif (settings := settings_of(spec.config, goal.arm)) is not None:
        ends_at = record.steps if record.status == "done" else record.total_steps
        running = RunningValue(goal.early_metric, settings, ends_at)
        Reports(running, {}).send_logged(record.uri)
    if record.status != "failed":
        report_result(final_value(record, goal))


def final_value(record: TrialRecord, goal: Goal) -> float | None:
    """What a searcher learns from. A collapsed model that was not sampled counts as answering nothing right."""
    return 0.0 if record.value is None and goal.metric in (DEV_ACCURACY, DEV_PASS_AT_1) else record.value


def _run(spec: TrialSpec, goal: Goal, job: TrialJob) -> TrialRecord:
    quiet_libraries()
    delete_record(job.run_uri, spec.key)  # of an earlier try, which says nothing about this one
    let_ray_free_what_a_killed_trial_held()

    def callbacks_for(training: Training) -> list[Any]:
        running = RunningValue(goal.early_metric, training.settings, training.total_steps)
        reports = Reports(running, {"uri": training.stage.uri})
        reports.send_logged(training.stage.uri)  # by an attempt that was cut off
        return [reports]

    try:
        scorer = scorer_of(job.evaluator) if job.evaluator is not None else None
        shared = job.shared if job.is_ready else ready(spec, goal, job.shared)
        record = run_trial(spec, goal, shared=shared, callbacks_for=callbacks_for, scorer=scorer)
    except (UserError, TrainError) as error:  # another try would end the same way; Ray Train has had its own
        record = TrialRecord(spec.key, dict(spec.values), spec.seed, "failed", f"{type(error).__name__}: {error}")
    write_record(job.run_uri, record)
    return record


def ready(spec: TrialSpec, goal: Goal, shared: Shared | None) -> Shared:
    """Make what the trial needs before its training, all of it if nothing is shared, and a merge itself.

    In a process that is no part of the trial's: the small tasks of a step ask for a CPU, and below this one they would only
    have the share of it that Tune keeps for the trial.
    """
    task = ray.remote(num_cpus=0, max_retries=2, scheduling_strategy="DEFAULT")(make_ready)
    try:
        return ray.get(task.remote(spec, goal, shared))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def make_ready(spec: TrialSpec, goal: Goal, shared: Shared | None) -> Shared:
    """See `ready`."""
    quiet_libraries()
    shared = shared or Shared.of(Pipeline(spec.config, in_force=False), goal)
    prepared = prepare_trial(spec, goal, shared)
    if prepared.training is None:
        prepared.make()
    return shared


def let_ray_free_what_a_killed_trial_held() -> None:
    """Tell the processes below this one which Ray they are of.

    When a trial is stopped, its workers' placement group is removed by an actor of Ray Train that asks the dashboard whether
    the trial still lives. It looks for that dashboard by RAY_ADDRESS, or by searching this machine; where the latter finds
    several Rays, or none, the group and the actor would stay for ever.
    """
    from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE

    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")
