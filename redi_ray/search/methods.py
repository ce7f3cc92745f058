"""Ray Tune's schedulers and searchers as the `search` section names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import tune

from redi_ray.config.load import ConfigError
from redi_ray.config.search import AshaScheduler, Cases, Domain, Listed, LogUniform, MedianScheduler, NoScheduler
from redi_ray.search.leader import STEPS, VALUE, TrialJob, encode
from redi_ray.search.plan import SearchPlan
from redi_ray.search.records import read_record
from redi_ray.store import storage

NO_YIELDING = 10**12
"""Steps before the median rule may pause a trial to run another: a pause would end its training."""


def scheduler_record(plan: SearchPlan) -> dict[str, Any] | None:
    """The rule that stops trials, as their records have it."""
    if isinstance(plan.search.scheduler, NoScheduler):
        return None
    return {**plan.search.scheduler.model_dump(mode="json"), "metric": plan.goal.early_metric, "mode": plan.search.mode}


def make_scheduler(plan: SearchPlan, most_steps: int | None) -> Any:
    """Tune's scheduler; None runs every trial to its end. Raises ConfigError if its grace is longer than a trial."""
    settings = plan.search.scheduler
    common: dict[str, Any] = {"time_attr": STEPS, "metric": VALUE, "mode": plan.search.mode}
    if isinstance(settings, NoScheduler):
        return None
    if most_steps is not None and settings.grace_steps >= most_steps:
        raise ConfigError(
            f"search.scheduler.grace_steps is {settings.grace_steps}, but a trial has {most_steps} steps: none would be stopped"
        )
    if isinstance(settings, AshaScheduler):
        from ray.tune.schedulers import ASHAScheduler

        longest = most_steps or settings.grace_steps * 10**4  # where trials differ, rungs that none reaches do no harm
        return ASHAScheduler(
            max_t=longest,
            grace_period=settings.grace_steps,
            reduction_factor=settings.reduction_factor,
            stop_last_trials=False,  # at its last step a trial has yet to export its model
            **common,
        )
    assert isinstance(settings, MedianScheduler)
    from ray.tune.schedulers import MedianStoppingRule

    return MedianStoppingRule(
        grace_period=settings.grace_steps,
        min_samples_required=settings.min_trials,
        min_time_slice=NO_YIELDING,
        **common,
    )


def tune_domain(domain: Domain) -> Any:
    if isinstance(domain, Listed):
        return tune.choice([encode(value) for value in domain.values])
    return tune.loguniform(*domain.loguniform) if isinstance(domain, LogUniform) else tune.uniform(*domain.uniform)


def make_searcher(job: TrialJob) -> Any:
    """Optuna, told first of the points that have been run: their trials end at once, with what their records say."""
    from ray.tune.search import Repeater
    from ray.tune.search.optuna import OptunaSearch

    search, seeds = job.plan.search, job.plan.seeds
    ran = [encode_point(values, search.space) for values in points_on_record(job)]
    # with the same seed its first own suggestions would be those that it made before
    seed = search.seed + len(ran)
    searcher = OptunaSearch(metric=VALUE, mode=search.mode, seed=seed, points_to_evaluate=ran or None)
    return searcher if len(seeds) == 1 else Repeater(searcher, repeat=len(seeds))


def encode_point(values: Mapping[str, Any], space: Mapping[str, Domain]) -> dict[str, Any]:
    return {p: encode(v) if isinstance(space[p], Listed) else v for p, v in values.items()}


def points_on_record(job: TrialJob) -> list[Mapping[str, Any]]:
    """Points of this space with a record that stands, each once."""
    found: dict[str, Mapping[str, Any]] = {}
    cases = {name: domain for name, domain in job.plan.search.space.items() if isinstance(domain, Cases)}
    for uri in storage.list_files(storage.join(job.run_uri, "search", "trials"), ".json"):
        told = storage.read_json(uri)
        if set(told["values"]) != set(job.plan.search.space) or told["seed"] not in job.plan.seeds:
            continue
        if any(told["values"][name] not in domain.values for name, domain in cases.items()):
            continue
        spec = job.plan.trial(told["values"], told["seed"])
        if spec.key == told["key"] and read_record(job.run_uri, spec.key, job.scheduler) is not None:
            found.setdefault(encode(told["values"]), told["values"])
    return list(found.values())
