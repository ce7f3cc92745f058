"""The stage `problems`: where they come from, what decides them, and where their tests lie."""

from __future__ import annotations

import time
from dataclasses import replace

from redi_ray.cluster.runtime import user_error
from redi_ray.config.code import CodeSettings
from redi_ray.config.data import Columns, DataSet, FileSet, NoSource, OpenR1Source, Source
from redi_ray.config.worlds import BuiltInSource, OrderSet
from redi_ray.data.sources.problems import collect_problems
from redi_ray.data.sources.readers import expand_paths
from redi_ray.data.sources.tests_table import TESTS_TABLE
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.contents import commit_of, content_of
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.tools.sandbox import check_sandbox


def problems_stage(run: Run) -> Stage:
    config = run.config.problems
    deciding = {"problems": config, "content": content_of_source(config.source)}
    version = 2 if brings_traces(config.source) else 1  # what was sampled for problems alone stays
    return run.stage("problems", deciding, {}, version=version)


def problems(run: Run) -> Manifest:
    """Distinct problems, and the traces that came with them."""
    config, stage = run.config.problems, problems_stage(run)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    result = collect_problems(config, stage.uri)
    return run.publish(
        stage,
        started,
        counts=result.counts,
        dropped=result.dropped,
        rejected=result.rejected,
        facts={"traces": result.traces, "dev": result.dev, **({"tests": result.tests} if result.tests else {})},
    )


def brings_traces(source: Source) -> bool:
    """Whether its rows hold traces."""
    columns: Columns | None = getattr(source, "columns", None)
    return isinstance(source, OpenR1Source) or (columns is not None and columns.completion is not None)


def content_of_source(source: Source | DataSet, told: str = "problems.source.paths") -> str | None:
    """What the place of the rows holds now; the built-in world is all in its settings. told: what the config calls the paths."""
    if isinstance(source, FileSet) or (isinstance(source, OpenR1Source) and source.paths):
        return storage.content_hash([content_of(path) for path in expand_paths(source.paths, told)])
    if isinstance(source, BuiltInSource | NoSource | OrderSet):
        return None
    return commit_of(source.dataset, "dataset", source.revision)


def tests_of(run: Run) -> str | None:
    """The table of problems' tests, where there is one and verification looks at it.

    Raises SandboxError where solutions cannot be run on a node of Ray's.
    """
    columns: Columns | None = getattr(run.config.problems.source, "columns", None)
    settings = run.config.verify.tests
    if columns is None or columns.tests is None or settings is None:
        return None
    _check_sandbox(settings)
    return storage.join(storage.resolve(problems_stage(replace(run, step="")).uri), TESTS_TABLE)


def _check_sandbox(settings: CodeSettings) -> None:
    import ray

    try:
        ray.get(ray.remote(num_cpus=0, max_retries=0)(check_sandbox).remote(settings.sandbox(1)))
    except ray.exceptions.RayTaskError as error:
        if (told := user_error(error)) is not None:
            raise told from None
        raise
