"""Work that loads or holds much, in a process of its own: keys, for which data are hashed, and plans, for which tokenizers are
loaded. So the pages' process stays small, and answers meanwhile.

The process is begun with the pages, since loading takes seconds, and ends with them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import connection
from typing import Any, TypeVar

from redi_ray.config.load import parse_config
from redi_ray.errors import UserError
from redi_ray.pipeline.states import State, states
from redi_ray.plan.costs import Plan
from redi_ray.report.lineage import graph_of_record
from redi_ray.report.runs import RunRecord
from redi_ray.report.spent import Spent, spent
from redi_ray.stages.run import Run

T = TypeVar("T")
TASKS_OF_A_PROCESS = 1000
"""After which a new one takes its place."""
GPU = "A100-80GB"
"""Whose hours are planned, as `redi-ray plan` does by default."""
SAMPLE_ROWS = 200
"""Of local data whose tokens are counted."""


class Outside:
    """One process, which is begun again when it has ended."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def begin(self) -> None:
        """Start it and load what its work needs, without waiting."""
        self._submit(_load)

    def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """What `work`, a function of a module, returns there; once more where the process has ended meanwhile."""
        try:
            return self._submit(work, *arguments).result()
        except BrokenProcessPool:
            self.end()
            return self._submit(work, *arguments).result()

    def end(self) -> None:
        """Leave no process behind."""
        with self._turn:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        with self._turn:
            if self._pool is None:
                spawned = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, spawned, initializer=_obey, max_tasks_per_child=TASKS_OF_A_PROCESS)
            return self._pool.submit(work, *arguments)


def _obey() -> None:
    """Ctrl-C is for the pages' process; this one ends when that does, however it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(0)

    threading.Thread(target=follow, name="follow", daemon=True).start()


def _load() -> None:
    import redi_ray.plan.inputs  # noqa: F401  what takes long


def standings_outside(outside: Outside, run: RunRecord) -> list[State] | None:
    """As `redi_ray.report.notes.standings`."""
    if not run.understood:
        return None
    found = outside.call(_standings, run.uri, run.config)
    if isinstance(found, str):
        run.notes.append(f"The state of the steps cannot be told ({found}).")
        return None
    return [replace(state, step=run.graph[name]) for name, state in found.items()]


def _standings(uri: str, config: Mapping[str, Any]) -> dict[str, State] | str:
    """By step; or why they cannot be told. Steps themselves, with all their settings, need not come back."""
    try:
        graph, _ = graph_of_record(config)
        found = states(graph, Run(parse_config(dict(config)), uri))
    except Exception as error:  # as in reading: a page is wanted most when something went wrong
        return f"{type(error).__name__}: {error}"
    return {state.step.name: replace(state, step=_PLAIN, inputs=dict(state.inputs)) for state in found}


_PLAIN: Any = None


def plan_outside(outside: Outside, config: Mapping[str, Any]) -> Plan | str:
    """The plan of a stored config, or why it cannot be made."""
    return outside.call(_plan, dict(config))


def _plan(config: dict[str, Any]) -> Plan | str:
    from redi_ray.plan.estimate import estimate
    from redi_ray.plan.inputs import make_assumptions, make_inputs

    try:
        parsed = parse_config(config)
        inputs = make_inputs(parsed, GPU, [], SAMPLE_ROWS)
        return estimate(inputs, make_assumptions(parsed, inputs.sample, []))
    except UserError as error:
        return str(error)
    except Exception as error:  # a plan reads models' configs, which may hold anything
        return f"{type(error).__name__}: {error}"


def spent_outside(outside: Outside, uri: str, config: Mapping[str, Any]) -> list[Spent] | str:
    """As `redi_ray.report.spent.spent`, or why it cannot be told."""
    return outside.call(_spent, uri, dict(config))


def _spent(uri: str, config: dict[str, Any]) -> list[Spent] | str:
    try:
        return spent(Run(parse_config(config), uri), graph_of_record(config)[0])
    except Exception as error:  # as in reading
        return f"{type(error).__name__}: {error}"
