"""The stage `problems`: where they come from, what decides them, and where their tests lie; of one source or mixed of several."""

from __future__ import annotations

import time
from dataclasses import replace

from redi_ray.cluster.runtime import user_error
from redi_ray.config.code import CodeSettings
from redi_ray.config.data import Columns, DataSet, FileSet, NoSource, OpenR1Source, ProblemsStep, Source
from redi_ray.config.mixture import MixSettings, MixSource
from redi_ray.config.problems import ProblemsConfig
from redi_ray.config.worlds import BuiltInSource, ExerciseSet, OrderSet
from redi_ray.data.sources.problems import collect_problems
from redi_ray.data.sources.readers import expand_paths
from redi_ray.data.sources.tests_table import TESTS_TABLE
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.contents import commit_of, content_of
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.tools.sandbox import check_sandbox


def problems_stage(run: Run, settings: ProblemsStep | None = None) -> Stage:
    """settings: of a named step; null is the run's own section, which may be a mixture of such steps."""
    if settings is None and isinstance(run.config.problems.source, MixSource):
        return mix_stage(run, run.config.problems.source)
    config, told = _section(run, settings), "problems.source.paths" if settings is None else f"steps.{run.step}.source"
    deciding = {"problems": config, "content": content_of_source(config.source, told)}
    if settings is not None:
        deciding["verified_by"] = settings.verified_by
    version = 2 if brings_traces(config.source) else 1  # what was sampled for problems alone stays
    return run.stage("problems", deciding, {}, version=version)


def mix_stage(run: Run, settings: MixSettings) -> Stage:
    """Where a mixture goes: its key comes of the settings and of the steps that it names."""
    steps = {name: run.config.steps[name] for name in settings.of}
    inputs = {
        name: problems_stage(replace(run, step=name), step)
        for name, step in steps.items()
        if isinstance(step, ProblemsStep)
    }
    deciding = {name: getattr(settings, name) for name in MixSettings.model_fields if name not in settings.HOW}
    return run.stage("problems", {"mix": deciding}, inputs, version=2)


def _section(run: Run, settings: ProblemsStep | None) -> ProblemsConfig:
    if settings is None:
        return run.config.problems
    return run.config.problems.model_copy(update={"source": settings.source, "max_problems": settings.max_problems})


def problems(run: Run, settings: ProblemsStep | None = None) -> Manifest:
    """Distinct problems of one source, and the traces that came with them."""
    config, stage = _section(run, settings), problems_stage(run, settings)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    told = "problems" if settings is None else f"steps.{run.step}"
    result = collect_problems(config, stage.uri, None if settings is None else settings.verified_by, told)
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
    if isinstance(source, BuiltInSource | NoSource | OrderSet | ExerciseSet | MixSource):
        return None
    return commit_of(source.dataset, "dataset", source.revision)


def tests_of(run: Run, problems: Manifest | None) -> str | None:
    """The table of problems' tests, where there is one and verification looks at it. problems: those of the traces, where they
    are not the run's own.

    Raises SandboxError where solutions cannot be run on a node of Ray's.
    """
    settings, own = run.config.verify.tests, problems is None or not problems.facts.get("tests")
    if settings is None or (own and not run.config.columns_with("tests")):
        return None
    _check_sandbox(settings)
    uri = problems_stage(replace(run, step="")).uri if own or problems is None else problems.uri
    return storage.join(storage.resolve(uri), TESTS_TABLE)


def _check_sandbox(settings: CodeSettings) -> None:
    import ray

    try:
        ray.get(ray.remote(num_cpus=0, max_retries=0)(check_sandbox).remote(settings.sandbox(1)))
    except ray.exceptions.RayTaskError as error:
        if (told := user_error(error)) is not None:
            raise told from None
        raise
