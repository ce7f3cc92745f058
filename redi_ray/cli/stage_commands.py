"""The commands that make a run: all of it, up to a stage, or verdicts for files of traces alone."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from redi_ray.cli.options import Config, Overrides, Until
from redi_ray.cluster.exits import clear_errors

if TYPE_CHECKING:
    from redi_ray.config.experiment import ExperimentConfig
    from redi_ray.pipeline.graph import Graph
    from redi_ray.pipeline.runner import Pipeline

Arms = Annotated[list[str] | None, typer.Option("--arm", help="base, sft or an arm of stage 2; again for several.")]
VerifyConfig = Annotated[
    str | None, typer.Argument(help="The experiment's YAML; none with --traces.", metavar="CONFIG")
]
Traces = Annotated[
    list[str] | None,
    typer.Option(
        help="JSON, Parquet or Arrow (JSON packed too), a file or a folder, local or s3://; again for several."
    ),
]
Out = Annotated[str | None, typer.Option(help="A folder of its own for verdicts, rejects and manifest.")]
Column = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=COLUMN, NAME being problem_id, answer, completion, trace_id, finish_reason, label, judge, "
        "math_verify, votes.VERIFIER, tests, entry_point or test_setup; dots reach into nested columns."
    ),
]
Extract = Annotated[
    list[str] | None,
    typer.Option(
        help="final_answer, tagged, boxed, stated, after:MARKER, regex:PATTERN, conclusion, last_number or whole, in order."
    ),
]
GoldExtract = Annotated[list[str] | None, typer.Option(help="The same for the reference answer.")]
Vote = Annotated[
    list[str] | None,
    typer.Option(help="Who votes: math_verify (tests in its place), or whose column is named; again for several."),
]
Policy = Annotated[str | None, typer.Option(help="all, any, drop_disagreement, math_verify_only, both_false or paper.")]
ReuseVotes = Annotated[bool | None, typer.Option(help="Math-Verify votes in the file stand.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds for one comparison, 5 by default.")]
Memory = Annotated[int | None, typer.Option(help="Memory of one comparing process, 2048 by default.")]
Check: TypeAlias = "Callable[[ExperimentConfig, Graph], object]"
"""What a command asks of a config and its graph before anything starts."""
Workers = Annotated[int | None, typer.Option(help="Actors, one core each; all cores by default.", min=1)]


def run_stages(config: str, overrides: list[str], call: Callable[[Pipeline], str], check: Check | None = None) -> None:
    """See `redi_ray.cli.entry`, which is imported when a command runs: `--help` must not wait for it."""
    from redi_ray.cli.entry import run_stages as begin

    begin(config, overrides, call, check)


def run(
    config: Config,
    overrides: Overrides = None,
    until: Until = None,
) -> None:
    """The whole experiment, from problems to report. Finished parts are reused, interrupted ones resumed."""
    if until is None:
        run_stages(config, overrides or [], everything)
    else:
        run_stages(config, overrides or [], lambda pipeline: f"{until}: {pipeline.until(until).uri}", _has(until))


def _has(step: str) -> Check:
    """A check that raises GraphError where the config has no such step."""
    from redi_ray.pipeline.standard import step_named

    return lambda _, graph: step_named(graph, step)


def generate(config: Config, overrides: Overrides = None) -> None:
    """Traces for every problem: sampled with vLLM in rounds, or imported."""
    run_stages(config, overrides or [], lambda pipeline: f"traces: {pipeline.traces().uri}", _has("traces"))


def verify(
    config: VerifyConfig = None,
    overrides: Overrides = None,
    traces: Traces = None,
    out: Out = None,
    column: Column = None,
    extract: Extract = None,
    gold_extract: GoldExtract = None,
    vote: Vote = None,
    policy: Policy = None,
    reuse_votes: ReuseVotes = None,
    timeout: Timeout = None,
    memory_mb: Memory = None,
    workers: Workers = None,
) -> None:
    """A verdict for every trace: of a run (CONFIG), or of any files (--traces FILE --out FOLDER, no config needed)."""
    options = {
        "extract": extract,
        "gold_extract": gold_extract,
        "votes": vote,
        "policy": policy,
        "reuse_votes": reuse_votes,
        "timeout_seconds": timeout,
        "memory_mb": memory_mb,
    }
    if config is not None:
        _require_none(options | {"traces": traces, "out": out, "column": column, "workers": workers})
        made = _has("verified")
        run_stages(config, overrides or [], lambda pipeline: f"verified traces: {pipeline.verified().uri}", made)
        return
    if not traces or out is None:
        raise typer.BadParameter("name a CONFIG, or both --traces and --out")
    from redi_ray.cli.verify import print_verdicts, read_columns, read_settings, verify_trace_files

    with clear_errors():
        columns = read_columns(column or [])
        settings = read_settings(options, columns)
        print_verdicts(verify_trace_files(traces, out, columns, settings, workers))


def _require_none(given: Mapping[str, object]) -> None:
    """Raise BadParameter for options that a run's config has in its own words."""
    said = {"votes": "vote", "timeout_seconds": "timeout"}
    if clash := [said.get(name, name).replace("_", "-") for name, value in given.items() if value or value == 0]:
        raise typer.BadParameter(
            f"--{', --'.join(clash)}: only with --traces and no CONFIG; a config says the same in `problems.source`, "
            "`verify` and `resources.verify_workers`"
        )


def curate(config: Config, overrides: Overrides = None) -> None:
    """Positives and (chosen, rejected) pairs."""
    run_stages(config, overrides or [], lambda pipeline: f"curated: {pipeline.curated().uri}", _has("curated"))


def train(config: Config, overrides: Overrides = None, arm: Arms = None) -> None:
    """SFT and every arm of stage 2, or the named ones."""
    from redi_ray.pipeline.standard import models_named

    run_stages(
        config, overrides or [], lambda pipeline: _exports(pipeline, arm), partial(models_named, names=arm or [])
    )


def evaluate(config: Config, overrides: Overrides = None, arm: Arms = None) -> None:
    """Score every model on the benchmarks, or the named ones."""
    from redi_ray.pipeline.standard import scored_models

    run_stages(
        config,
        overrides or [],
        lambda pipeline: _scores(pipeline.evaluate(arm)),
        partial(scored_models, names=arm or []),
    )


def tune(config: Config, overrides: Overrides = None) -> None:
    """Search hyper-parameters (section `search`) on development problems, then run the best on the benchmarks, once."""
    from redi_ray.cli.tune import tune_experiment

    tune_experiment(config, overrides or [])


def everything(pipeline: Pipeline) -> str:
    """Run all stages and report on them; print the arms' table and what it took -> the lines that say where the report is, and
    how to try the model."""
    from redi_ray.report.page import build_report
    from redi_ray.report.spent import print_spent, spent
    from redi_ray.report.summary import print_summary
    from redi_ray.store.storage import read_json

    pipeline.run_all()
    paths = build_report(pipeline.run.uri)
    print_summary(read_json(paths.json))
    print_spent(spent(pipeline.run, pipeline.graph))
    return "\n".join([f"report: {paths.html}", *ways_to_try(pipeline, pipeline.models)])


def ways_to_try(pipeline: Pipeline, names: Sequence[str]) -> list[str]:
    """The commands that talk with, and serve, the best of these models, or the last one; none where none of them writes text."""
    from redi_ray.pipeline.asked import is_reward
    from redi_ray.report.lineage import starts_from

    speakers = [name for name in names if not is_reward(pipeline.graph[name])]
    if not speakers:
        return []
    scores = {name: sum(found.values()) for name, found in pipeline.scores().items() if name in speakers}
    best = max(reversed(scores), key=lambda name: scores[name]) if scores else speakers[-1]  # of equals the last
    before = starts_from(pipeline.graph[best])
    beside = f" --model {before}" if before is not None else ""
    where = shlex.quote(pipeline.config.run_uri)
    return [f"talk: redi-ray chat {where} --model {best}{beside}", f"serve: redi-ray serve {where} --model {best}"]


def _exports(pipeline: Pipeline, names: list[str] | None) -> str:
    manifests = pipeline.train(names)
    exports = [f"{name}: {manifest.facts['export']}" for name, manifest in manifests.items()]
    return "\n".join([*exports, *ways_to_try(pipeline, list(manifests))])


def _scores(manifests: dict) -> str:
    lines = []
    for name, manifest in manifests.items():
        for benchmark, found in manifest.facts["scores"].items():
            sem = "" if found["sem"] is None else f" +- {100 * found['sem']:.1f}"
            lines.append(f"{name} {benchmark}: pass@1 {100 * found['pass@1']:.1f}{sem}")
    return "\n".join(lines)
