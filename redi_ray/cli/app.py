"""The `redi-ray` command: one subcommand per stage, and `run` for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from redi_ray.cli.entry import run_stages, writing
from redi_ray.cluster.exits import clear_errors
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import config_schema, dump_config, load_config
from redi_ray.errors import EXIT_CODES

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Graph
    from redi_ray.pipeline.runner import Pipeline

app = typer.Typer(
    help="Distil reasoning with negative signals: problems -> traces -> pairs -> SFT -> REDI -> evaluation, on Ray.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Config = Annotated[str, typer.Argument(help="The experiment's YAML, local or s3://; see configs/.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to it, such as redi.train.learning_rate=1e-6", metavar="[KEY=VALUE]..."),
]
Arms = Annotated[list[str] | None, typer.Option("--arm", help="base, sft or an arm of stage 2; again for several.")]


Address = Annotated[str | None, typer.Option(help="The dashboard's, http://HOST:8265; else RAY_ADDRESS.")]
JobCommand = Annotated[
    Literal["run", "tune", "generate", "curate", "train", "evaluate"], typer.Option(help="What the job runs.")
]
Until = Annotated[str | None, typer.Option(help="Make this step and what it needs, and no more.")]
Follow = Annotated[bool, typer.Option("--follow", help="Print its output, and exit with its exit code.")]


@app.command()
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


def _has(step: str) -> Callable[[ExperimentConfig, Graph], object]:
    """A check that raises GraphError where the config has no such step."""
    from redi_ray.pipeline.standard import step_named

    return lambda _, graph: step_named(graph, step)


@app.command()
def graph(
    config: Config,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="A list of steps: name, kind, inputs, state.")] = False,
    picture: Annotated[str | None, typer.Option(help="Draw it to this file: .svg, .png or .html.")] = None,
) -> None:
    """The steps of a config: what each comes from, whether it is finished, and why one is stale. Nothing is started."""
    from redi_ray.cli.graph import show_graph

    with clear_errors():
        show_graph(load_config(config, overrides), as_json=as_json, picture=picture)


@app.command()
def generate(config: Config, overrides: Overrides = None) -> None:
    """Traces for every problem: sampled with vLLM in rounds, or imported."""
    run_stages(config, overrides or [], lambda pipeline: f"traces: {pipeline.traces().uri}", _has("traces"))


@app.command()
def verify(
    config: Annotated[
        str | None, typer.Argument(help="The experiment's YAML; none with --traces.", metavar="CONFIG")
    ] = None,
    overrides: Overrides = None,
    traces: Annotated[
        list[str] | None,
        typer.Option(
            help="JSON, Parquet or Arrow (JSON packed too), a file or a folder, local or s3://; again for several."
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(help="A folder of its own for verdicts, rejects and manifest.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=COLUMN, NAME being problem_id, answer, completion, trace_id, finish_reason, label, judge, "
            "math_verify or votes.VERIFIER; dots reach into nested columns."
        ),
    ] = None,
    extract: Annotated[
        list[str] | None,
        typer.Option(
            help="final_answer, tagged, boxed, stated, after:MARKER, regex:PATTERN, conclusion, last_number or whole, in order."
        ),
    ] = None,
    gold_extract: Annotated[list[str] | None, typer.Option(help="The same for the reference answer.")] = None,
    vote: Annotated[
        list[str] | None, typer.Option(help="Who votes: math_verify, or whose column is named; again for several.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="all, any, drop_disagreement, math_verify_only, both_false or paper.")
    ] = None,
    reuse_votes: Annotated[bool | None, typer.Option(help="Math-Verify votes in the file stand.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds for one comparison, 5 by default.")] = None,
    memory_mb: Annotated[int | None, typer.Option(help="Memory of one comparing process, 2048 by default.")] = None,
    workers: Annotated[int | None, typer.Option(help="Actors, one core each; all cores by default.", min=1)] = None,
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
        given = {"traces": traces, "out": out, "column": column, "workers": workers, **options}
        if clash := [name.replace("_", "-") for name, value in given.items() if value or value == 0]:
            raise typer.BadParameter(
                f"--{', --'.join(clash)}: only with --traces and no CONFIG; a config says the same in `problems.source`, "
                "`verify` and `resources.verify_workers`"
            )
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


@app.command()
def curate(config: Config, overrides: Overrides = None) -> None:
    """Positives and (chosen, rejected) pairs."""
    run_stages(config, overrides or [], lambda pipeline: f"curated: {pipeline.curated().uri}", _has("curated"))


@app.command()
def train(config: Config, overrides: Overrides = None, arm: Arms = None) -> None:
    """SFT and every arm of stage 2, or the named ones."""
    from redi_ray.pipeline.standard import models_named

    run_stages(
        config, overrides or [], lambda pipeline: _exports(pipeline.train(arm)), partial(models_named, names=arm or [])
    )


@app.command()
def evaluate(config: Config, overrides: Overrides = None, arm: Arms = None) -> None:
    """Score every model on the benchmarks, or the named ones."""
    from redi_ray.pipeline.standard import scored_models

    run_stages(
        config,
        overrides or [],
        lambda pipeline: _scores(pipeline.evaluate(arm)),
        partial(scored_models, names=arm or []),
    )


@app.command()
def tune(config: Config, overrides: Overrides = None) -> None:
    """Search hyper-parameters (section `search`) on development problems, then run the best on the benchmarks, once."""
    from redi_ray.cli.tune import tune_experiment

    tune_experiment(config, overrides or [])


@app.command()
def plan(
    config: Config,
    overrides: Overrides = None,
    gpu: Annotated[str, typer.Option(help="The GPUs' name, such as A100-80GB, H100, H200, L40S.")] = "A100-80GB",
    assume: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER in place of an assumption; again for several.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="PATH:hidden_size=...,... of a model that is not at hand; again for several."),
    ] = None,
    sample: Annotated[int, typer.Option(help="Rows of local data whose tokens are counted.", min=1)] = 500,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, every figure and assumption.")] = False,
) -> None:
    """What a run will cost: tokens, GPU memory, GPU-hours, storage, and what that rests on. Nothing is started."""
    from redi_ray.cli.plan import plan_run

    with clear_errors():
        loaded = load_config(config, overrides)
        plan_run(loaded, gpu=gpu, assume=assume or [], shapes=shape or [], sample_rows=sample, as_json=as_json)


@app.command()
def report(config: Config, overrides: Overrides = None) -> None:
    """The HTML report of what has been run so far."""
    from redi_ray.report.page import build_report
    from redi_ray.stages.run import Run

    with clear_errors():
        uri = Run.of(load_config(config, overrides)).uri
        with writing(uri):
            print(f"report: {build_report(uri).html}")


@app.command("inspect")
def inspect_traces(
    target: Annotated[
        str, typer.Argument(help="A run's folder or config, a stage's folder, or any Parquet.", metavar="RUN")
    ],
    step: Annotated[str | None, typer.Option(help="The rows of this step, see `redi-ray graph`.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Show what this step says of the traces, such as located steps; again for several."),
    ] = None,
    verdict: Annotated[list[str] | None, typer.Option(help="Only these; again for several.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only these sources.")] = None,
    problem: Annotated[list[str] | None, typer.Option(help="Only traces of these problem ids.")] = None,
    text: Annotated[str | None, typer.Option(help="Must occur in problem, completion or extracted answer.")] = None,
    min_length: Annotated[int | None, typer.Option(help="Characters of the completion, at least.")] = None,
    max_length: Annotated[int | None, typer.Option(help="At most.")] = None,
    limit: Annotated[int, typer.Option(help="Show so many.", min=1)] = 10,
    whole: Annotated[bool, typer.Option(help="All of each completion, not only its end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line, every column.")] = False,
) -> None:
    """Look at traces, or any step's rows: problem, completion, answers, votes; of a training the tokens that it has learnt from,
    coloured by weight. Paged on a terminal, plain text in a pipe."""
    from redi_ray.cli.inspect import inspect_traces as show
    from redi_ray.report.browse import TraceFilter

    with clear_errors():
        wanted = TraceFilter(verdict or [], source or [], problem or [], min_length, max_length, text)
        count = show(target, wanted, step=step, columns=column or [], limit=limit, whole=whole, as_json=as_json)
        if count in (0, limit):
            told = "no trace matches" if not count else f"stopped at --limit {limit}; there may be more"
            typer.echo(told, err=True)


def submitting(again: bool) -> Callable[..., None]:
    """The command that submits a job, or another attempt of it."""

    def command_of(
        config: Config,
        overrides: Overrides = None,
        address: Address = None,
        follow: Follow = False,
        command: JobCommand = "run",
        until: Until = None,
    ) -> None:
        from redi_ray.cli.submit import submit_job

        submit_job(config, overrides or [], address, command=command, until=until, follow=follow, again=again)

    return command_of


app.command(
    "submit", help="Run it as a job on a Ray cluster, with the code that lies here. Submitted twice, it runs once."
)(submitting(again=False))
app.command("resubmit", help="Another attempt of a job that has ended: it goes on where that was.")(
    submitting(again=True)
)


@app.command()
def status(config: Config, overrides: Overrides = None, address: Address = None) -> None:
    """The jobs of this run on a cluster, with their exit codes."""
    from redi_ray.cli.submit import show_status

    show_status(config, overrides or [], address)


@app.command()
def stop(config: Config, overrides: Overrides = None, address: Address = None) -> None:
    """Stop this run's job; training saves first."""
    from redi_ray.cli.submit import stop_job

    stop_job(config, overrides or [], address)


@app.command("config")
def show_config(
    config: Annotated[str | None, typer.Argument(help="The experiment's YAML.")] = None,
    overrides: Overrides = None,
    schema: Annotated[bool, typer.Option(help="Print the JSON schema for editors instead.")] = False,
) -> None:
    """Print the resolved config: every field with its value. With --schema, the JSON schema."""
    if schema:
        print(json.dumps(config_schema(), indent=1))
        return
    if config is None:
        raise typer.BadParameter("name a CONFIG, or use --schema")
    with clear_errors():
        print(dump_config(load_config(config, overrides)), end="")


def everything(pipeline: Pipeline) -> str:
    """Run all stages and report on them; print the arms' table -> the line that says where the report is."""
    from redi_ray.report.page import build_report
    from redi_ray.report.summary import print_summary
    from redi_ray.store.storage import read_json

    pipeline.run_all()
    paths = build_report(pipeline.run.uri)
    print_summary(read_json(paths.json))
    return f"report: {paths.html}"


def _exports(manifests: dict) -> str:
    return "\n".join(f"{name}: {manifest.facts['export']}" for name, manifest in manifests.items())


def _scores(manifests: dict) -> str:
    lines = []
    for name, manifest in manifests.items():
        for benchmark, found in manifest.facts["scores"].items():
            sem = "" if found["sem"] is None else f" +- {100 * found['sem']:.1f}"
            lines.append(f"{name} {benchmark}: pass@1 {100 * found['pass@1']:.1f}{sem}")
    return "\n".join(lines)


def main() -> None:
    """Run the command that the process was given."""
    app()
