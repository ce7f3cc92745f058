"""What the driver does while trials run: it says how each ended, and writes the records of those that could not."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from redi_ray.cluster.runtime import log, quiet
from redi_ray.pipeline.runner import Pipeline
from redi_ray.search.leader import TrialJob
from redi_ray.search.plan import TrialSpec
from redi_ray.search.records import TrialRecord, any_record, write_record
from redi_ray.search.results import shown
from redi_ray.search.trial import Shared, prepare_trial, record_of


class Bookkeeper(tune.Callback):
    """Says how each trial ended, and writes the record of those that could not: they were stopped."""

    def __init__(self, job: TrialJob, num_trials: int) -> None:
        self.job, self.num_trials, self.ended = job, num_trials, 0
        self.specs: dict[str, TrialSpec] = {}
        minutes = job.plan.search.time_budget_minutes
        self.deadline = None if minutes is None else time.monotonic() + 60 * minutes

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._spec(trial)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        spec = self._spec(trial)
        record = any_record(self.job.run_uri, spec.key)
        if record is None:
            record = self._stopped(spec)
            write_record(self.job.run_uri, record)
        self._tell(spec, record)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """After the last retry."""
        spec = self._spec(trial)
        lines = ((trial.get_error() and str(trial.get_error())) or "").strip().splitlines()
        record = TrialRecord(spec.key, dict(spec.values), spec.seed, "failed", lines[-1] if lines else "unknown error")
        write_record(self.job.run_uri, record)
        self._tell(spec, record)

    def _spec(self, trial: Trial) -> TrialSpec:
        if trial.trial_id not in self.specs:
            spec = self.job.spec_of(trial.config)
            if self.job.plan.open_ended:
                spec = replace(spec, number=len(self.specs) // len(self.job.plan.seeds))
            self.specs[trial.trial_id] = spec
        return self.specs[trial.trial_id]

    def _stopped(self, spec: TrialSpec) -> TrialRecord:
        """The record of a trial that was ended from outside: by the scheduler, or when time was up."""
        late = self.deadline is not None and time.monotonic() >= self.deadline
        goal, rule = self.job.plan.goal, self.job.scheduler
        with quiet():
            shared = self.job.shared or Shared.of(Pipeline(spec.config, in_force=False), goal)
            prepared = prepare_trial(spec, goal, shared)
        if late or rule is None:
            return record_of(spec, goal, prepared, shared, "out_of_time", "the time budget was used up")
        return record_of(
            spec,
            goal,
            prepared,
            shared,
            "stopped_by_scheduler",
            f"not among the best ({rule['kind']})",
            scheduler=dict(rule),
        )

    def _tell(self, spec: TrialSpec, record: TrialRecord) -> None:
        self.ended += 1
        metric = self.job.plan.metric
        value = "" if record.value is None else f"{metric} {shown(record.value, metric)}, "
        how = "collapsed, " if record.collapsed else ""
        log.info(
            "trial %d of %d  %s: %s%s%s at step %d", self.ended, self.num_trials, spec.name, value, how,
            record.status.replace("_", " ") if record.status != "failed" else f"failed: {record.reason}", record.steps,
        )  # fmt: skip
