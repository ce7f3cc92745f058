"""The commands that only look: the graph, what it will cost, traces, the report, the config itself.

What a command works with is imported when it runs: `--help`, and all other commands, must not wait for it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from redi_ray.cli.options import Config, Overrides
from redi_ray.cluster.exits import clear_errors


def graph(
    config: Config,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="A list of steps: name, kind, inputs, state.")] = False,
    picture: Annotated[str | None, typer.Option(help="Draw it to this file: .svg, .png or .html.")] = None,
) -> None:
    """The steps of a config: what each comes from, whether it is finished, and why one is stale. Nothing is started."""
    from redi_ray.cli.checked import checked_config
    from redi_ray.cli.graph import show_graph

    with clear_errors():
        show_graph(checked_config(config, overrides or []), as_json=as_json, picture=picture)


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
    from redi_ray.cli.checked import checked_config
    from redi_ray.cli.plan import plan_run

    with clear_errors():
        loaded = checked_config(config, overrides or [])
        plan_run(loaded, gpu=gpu, assume=assume or [], shapes=shape or [], sample_rows=sample, as_json=as_json)


def report(config: Config, overrides: Overrides = None) -> None:
    """The HTML report of what has been run so far."""
    from redi_ray.cli.entry import writing
    from redi_ray.config.load import load_config
    from redi_ray.pipeline.cards import finished, update_cards
    from redi_ray.pipeline.standard import graph_of
    from redi_ray.report.page import build_report
    from redi_ray.stages.run import Run

    with clear_errors():
        run = Run.of(load_config(config, overrides))
        graph = graph_of(run.config)
        with writing(run.uri):
            update_cards(run, graph, graph.giving("model"), finished(run, graph))
            print(f"report: {build_report(run.uri).html}")


def ui(
    roots: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders of runs, runs, or configs, local or s3://; by default ./runs.", metavar="[ROOT]..."
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8400,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that others reach asks for a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(help="Whoever has it may look; without one another --host makes its own.")
    ] = None,
) -> None:
    """Local web pages over any number of runs: state, graph, live curves, scores, comparisons. Nothing is written."""
    from redi_ray.cli.ui import serve_pages

    with clear_errors():
        serve_pages(roots or ["runs"], host, port, token)


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


def similar(
    target: Annotated[str, typer.Argument(help="A run's folder or config.", metavar="RUN")],
    step: Annotated[str, typer.Option(help="A step that makes pairs.")] = "curated",
    limit: Annotated[int, typer.Option(help="Pairs on either side of the threshold.", min=1)] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """The problems that `curate.duplicates.semantic` took for one, and those that it just did not: next to its threshold."""
    from redi_ray.cli.similar import show_similar

    with clear_errors():
        if not show_similar(target, step=step, limit=limit, as_json=as_json):
            typer.echo("no two problems are near the threshold", err=True)


def init(
    data: Annotated[
        str | None,
        typer.Argument(help="A file, a folder, s3://..., or a set of the hub (OWNER/NAME, OWNER/NAME:SPLIT)."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="What to do with it; by default what fits best.")] = None,
    out: Annotated[str | None, typer.Option(help="The YAML to write; by default named after the data.")] = None,
    model: Annotated[str | None, typer.Option(help="The student: a folder, a hub name, or `scratch`.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=COLUMN where the guess is wrong, such as problem=question; again for several."),
    ] = None,
    subset: Annotated[str | None, typer.Option(help="Of a set of the hub.")] = None,
    split: Annotated[str | None, typer.Option(help="Of a set of the hub; `train` by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the YAML if it is there.")] = False,
) -> None:
    """A first config for your data: looks at the columns, says what it takes them for and why, and writes a YAML that runs."""
    from redi_ray.cli.init import start

    with clear_errors():
        start(data, recipe=recipe, out=out, model=model, columns=column or [], subset=subset, split=split, force=force)


def recipes(
    name: Annotated[str | None, typer.Argument(help="Explain this one; without, all are listed.")] = None,
    copy_to: Annotated[str | None, typer.Option("--copy", help="Write its YAML to this file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """The recipes: configs of papers' methods, each with a page of what it takes from the paper and what came out."""
    from redi_ray.cli.recipes import copy, explain, list_recipes
    from redi_ray.starter.shipped import shipped_recipe

    with clear_errors():
        if name is None:
            list_recipes()
        elif copy_to is None:
            explain(shipped_recipe(name))
        else:
            copy(shipped_recipe(name), copy_to, force=force)


def show_config(
    config: Annotated[str | None, typer.Argument(help="The experiment's YAML.")] = None,
    overrides: Overrides = None,
    schema: Annotated[bool, typer.Option(help="Print the JSON schema for editors instead.")] = False,
) -> None:
    """Print the resolved config: every field with its value. With --schema, the JSON schema."""
    from redi_ray.config.load import dump_config, load_config

    if schema:
        from redi_ray.config.described import described_schema

        print(json.dumps(described_schema(), indent=1))
        return
    if config is None:
        raise typer.BadParameter("name a CONFIG, or use --schema")
    with clear_errors():
        print(dump_config(load_config(config, overrides)), end="")
