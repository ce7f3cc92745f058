"""`redi-ray tune`: search, then train and evaluate the winner, once."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from redi_ray.cli.checked import checked_config
from redi_ray.cli.entry import check_room, remembered, writing
from redi_ray.cli.preflight import preflight
from redi_ray.cluster.devices import with_devices
from redi_ray.cluster.exits import clear_errors
from redi_ray.cluster.notify import told_to_others
from redi_ray.cluster.runtime import log, ray_connection, setup_logging

if TYPE_CHECKING:
    from redi_ray.search.outcome import Outcome


def tune_experiment(config_uri: str, overrides: list[str]) -> None:
    """Load and check a config with its search, connect to Ray, search, run the winner, print where everything is."""
    setup_logging()
    with clear_errors():
        from redi_ray.search.plan import SearchPlan

        config = checked_config(config_uri, overrides, SearchPlan, preflight)
        local = not (config.resources.ray.address or os.environ.get("RAY_ADDRESS"))
        ray = ray_connection(config.resources.ray, dashboard=True)
        with writing(config.run_uri), remembered(config.run_uri), told_to_others(config), ray:
            config = with_devices(config)
            plan = SearchPlan(config)  # its metric may depend on the device
            from redi_ray.search.outcome import print_outcome, publish
            from redi_ray.search.tuner import run_search

            check_room(config)
            started = time.monotonic()
            outcome = publish(plan, run_search(plan, local=local), started)
            print_outcome(outcome)
            print(run_winner(outcome, plan.arm))


def run_winner(outcome: Outcome, arm: str) -> str:
    """Put the winner's model in force, score it on the benchmarks, which nothing has looked at before, and report."""
    from redi_ray.pipeline.runner import Pipeline
    from redi_ray.pipeline.standard import SCORES
    from redi_ray.report.page import build_report
    from redi_ray.report.summary import print_summary
    from redi_ray.store.storage import read_json

    if outcome.winner is None:
        log.warning("search: no trial was trained to its end without collapsing, so there is no winner")
        return f"report: {build_report(outcome.run_uri).html}"
    pipeline = Pipeline(outcome.winner)
    scores = SCORES + arm
    pipeline.until(scores if scores in pipeline.graph.steps else arm)
    paths = build_report(outcome.run_uri)
    print_summary(read_json(paths.json))
    return f"winner: {outcome.winner_uri}\nreport: {paths.html}"
