"""A search on Ray Tune: what is shared is made first, then trials run side by side, and what has ended is never run again.

Nothing of Tune's own state is needed to go on after a kill: every trial that ended has its record, trainings that were cut
off have their checkpoints, and both are found by the hash of what they depend on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ray import tune

from redi_ray.cluster.runtime import log, quiet
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.search import NoScheduler
from redi_ray.data.sample import engine_pool
from redi_ray.modeling.limits import FLOAT32
from redi_ray.pipeline.runner import Pipeline
from redi_ray.pipeline.standard import graph_of
from redi_ray.search.bookkeeper import Bookkeeper
from redi_ray.search.capacity import DRIVER_CPUS, float32_copy, needs_of, plan_concurrency, require_dashboard
from redi_ray.search.evaluator import start_evaluator
from redi_ray.search.leader import TrialJob, lead_trial
from redi_ray.search.methods import make_scheduler, make_searcher, scheduler_record, tune_domain
from redi_ray.search.plan import DEV_PASS_AT_1, SearchPlan, TrialSpec
from redi_ray.search.records import TrialRecord, any_record, read_record, rename_record
from redi_ray.search.sections import trainer_of
from redi_ray.search.sharing import Sharing, places_of
from redi_ray.search.trial import Shared, prepare_trial
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.train.on_ray.room import rank_bytes

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run_search(plan: SearchPlan, *, local: bool) -> list[TrialRecord]:
    """Run every trial that has no record yet; the records of all that ended, in the order of the space.

    local: whether this Ray was started here, so that the machine's cores bound the number of trials. Ray must be connected.
    Raises CapacityError before anything starts, if the cluster could never hold a trial.
    """
    config, search = plan.config, plan.search
    engine = config.resources.engine if plan.metric == DEV_PASS_AT_1 else None
    trainer = trainer_of(graph_of(plan.configured(plan.points[0])), plan.arm, config.resources.trainer)
    wanted = 1 if plan.one_at_a_time else search.max_concurrent_trials
    copy = float32_copy(config)
    adapters = config.model.overrides.lora is not None
    held = rank_bytes(int(copy / FLOAT32), trainer.pool[0], trainer.on_gpu, adapters)
    needs = needs_of(trainer, engine, config.resources.verify_workers, copy, held)
    concurrency, told = plan_concurrency(needs, wanted, plan.num_trials, local=local)
    log.info("search: %s", told)
    if not isinstance(search.scheduler, NoScheduler):
        require_dashboard()
    run, rule = Run.of(config), scheduler_record(plan)
    specs = [] if plan.open_ended else plan.trials()
    shared, most_steps = make_shared(plan, specs)
    scheduler = make_scheduler(plan, most_steps)
    for spec in specs:
        rename_record(run.uri, spec.key, spec.values)
    pending = [n for n, spec in enumerate(specs) if read_record(run.uri, spec.key, rule) is None]
    if len(pending) < len(specs):
        which = "all" if not pending else f"{len(specs) - len(pending)} of"
        log.info("search: %s %d trials have been run", which, len(specs))
    # those that have ended come first, and again: a scheduler judges the others by what their records say
    ended = [n for n in range(len(specs)) if n not in pending] if scheduler is not None else []
    todo = [*ended, *pending] if pending else []
    if todo or plan.open_ended:
        engine_pool.end_idle()  # trials ask Ray for its whole room, from processes of their own
        evaluator = start_evaluator(engine, copy) if engine is not None else None
        job = TrialJob(plan, specs, run.uri, rule, shared, evaluator)
        watch = Bookkeeper(job, plan.num_trials)
        with tune_environment():
            make_tuner(job, todo, scheduler, concurrency, trainer.max_failures, watch).fit()
        specs = specs or list(watch.specs.values())
    ordered = sorted(specs, key=lambda spec: (spec.number, plan.seeds.index(spec.seed)))
    keys = dict.fromkeys(spec.key for spec in ordered)  # a searcher may suggest a point again
    found = [any_record(run.uri, key) for key in keys]
    return [record for record in found if record is not None]


def make_shared(plan: SearchPlan, specs: Sequence[TrialSpec]) -> tuple[Shared | None, int | None]:
    """Make once what several trials read, and the data of all known trainings -> what every trial reads, if their goals differ
    in nothing else (None: each finds or makes its own), and the most steps that one may take."""
    configs = [spec.config for spec in specs]
    sharing = Sharing(plan.arm, [places_of(config, plan.arm) for config in configs]) if specs else plan.sharing
    keys = sharing.keys if specs else {sharing.trials[0][name].key for name in sharing.common}
    configs = configs or [plan.configured(plan.points[0])]
    first = make_keyed(plan, configs, keys)
    if sharing.apart:
        return None, None
    shared, steps, seen = Shared.of(first, plan.goal), [], []
    for spec in specs or [plan.trial(plan.points[0], plan.seeds[0])]:
        if (read := places_of(spec.config, plan.arm)[plan.arm].inputs) not in seen:
            seen.append(read)
            prepare_trial(spec, plan.goal, shared)
        with quiet():
            training = prepare_trial(spec, plan.goal, shared).training
        steps.append(training.total_steps if training is not None else 0)
    return shared, max(steps)


def make_keyed(plan: SearchPlan, configs: Sequence[ExperimentConfig], keys: set[str]) -> Pipeline:
    """Make the outputs of these keys, in force where the search's own config has them -> the pipeline that has the last of
    them, and with one kind of trials all that they share."""
    made, found = set[str](), Pipeline(plan.config)
    for config in (plan.config, *configs):
        places = places_of(config, plan.arm)
        todo = [name for name, place in places.items() if name != plan.arm and place.key in keys - made]
        if todo and config is not plan.config:
            found = Pipeline(config, in_force=False)
        for name in todo:
            found.until(name)
        made |= {places[name].key for name in todo}
    return found


@contextmanager
def tune_environment() -> Iterator[None]:
    """What Ray Tune reads from the environment: no files of its own for every trial, no complaint about a report without the
    metric. What the user has set stays."""
    added = {name: value for name, value in TUNE_ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def make_tuner(
    job: TrialJob, todo: Sequence[int], scheduler: Any, concurrency: int, max_failures: int, watch: Bookkeeper
) -> tune.Tuner:
    """Tune over the numbers of known trials, or over what a searcher suggests."""
    search = job.plan.search
    budget = None if search.time_budget_minutes is None else search.time_budget_minutes * 60
    trainable = tune.with_resources(tune.with_parameters(lead_trial, job=job), {"CPU": DRIVER_CPUS})
    searcher = make_searcher(job) if job.plan.open_ended else None
    space: dict[str, Any] = {"trial": tune.grid_search(list(todo))}
    if searcher is not None:
        space = {path: tune_domain(domain) for path, domain in search.space.items()}
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=job.plan.num_trials if searcher is not None else 1,
            max_concurrent_trials=concurrency,
            time_budget_s=budget,
        ),
        run_config=tune.RunConfig(
            name=f"tune-{os.getpid()}-{int(time.time())}",  # never an old one: our records are what we go on from
            storage_path=storage.join(job.run_uri, "search", "ray_tune"),
            callbacks=[watch],
            failure_config=tune.FailureConfig(max_failures=max_failures),
            verbose=0,
        ),
    )
