"""The commands that use what a run has made: chat with a model, serve it, push it or tables to others."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from redi_ray.cluster.exits import clear_errors

Run = Annotated[str, typer.Argument(help="A run's folder, local or s3://, or its config.", metavar="RUN")]
Model = Annotated[str, typer.Option("--model", help="The model's name in the run, such as redi.")]
Models = Annotated[
    list[str], typer.Option("--model", help="A model's name in the run; again for several, side by side.")
]


def chat(
    run: Run,
    model: Models,
    ask: Annotated[str | None, typer.Option(help="Ask this and end.")] = None,
    problem: Annotated[
        str | None, typer.Option(help="Ask the run's problem of this id; then go on, on a terminal.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="The config's evaluate.temperature by default; 0 is greedy.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="The config's evaluate.top_p by default.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The config's evaluate.max_tokens by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="The config's evaluate.seed by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per answer.")] = False,
) -> None:
    """Talk with models of a run on this machine: answers side by side, judged where the question is one of the run's problems."""
    from dataclasses import replace

    from redi_ray.cli.chat import chat as talk
    from redi_ray.cluster.runtime import quiet_transformers
    from redi_ray.talk.answer import AskSettings
    from redi_ray.talk.models import find_speakers

    if ask is not None and problem is not None:
        raise typer.BadParameter("give --ask or --problem, not both")
    given = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed}
    quiet_transformers()
    with clear_errors():
        models = find_speakers(run, model)
        settings = AskSettings.of(models[0].config.evaluate)
        settings = replace(settings, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        talk(models, settings, ask=ask, problem=problem, as_json=as_json)


def serve(
    run: Run,
    model: Model,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    name: Annotated[str | None, typer.Option(help="The model's name for clients, by default that in the run.")] = None,
    by: Annotated[
        Literal["auto", "vllm", "ray"],
        typer.Option("--with", help="`vllm serve` here, or Ray Serve on the Ray that the config or RAY_ADDRESS names."),
    ] = "auto",
    replicas: Annotated[int, typer.Option(help="Of Ray Serve.", min=1)] = 1,
    device: Annotated[Literal["auto", "cpu", "gpu"], typer.Option(help="`auto` is what is here.")] = "auto",
    dtype: Annotated[str | None, typer.Option(help="Of weights and activations; the config's by default.")] = None,
    max_model_len: Annotated[int | None, typer.Option(help="Longest prompt and answer together.", min=1)] = None,
    extra: Annotated[
        list[str] | None, typer.Argument(help="Behind --: further arguments for `vllm serve`.", metavar="[-- ...]")
    ] = None,
) -> None:
    """Serve a model of a run over HTTP, OpenAI-compatible, asked as it was trained. Ends with ctrl-C."""
    from redi_ray.cli.serve import serve as work
    from redi_ray.talk.serving import ServeOptions

    options = ServeOptions(host, port, name, device, dtype, max_model_len, tuple(extra or ()))
    with clear_errors():
        work(run, model, options, by=by, replicas=replicas)


def push(
    run: Run,
    target: Annotated[
        str,
        typer.Argument(
            help="On the hub: NAME or OWNER/NAME. For tables also s3://BUCKET/FOLDER, or a folder that begins with /, ./ or ~.",
            metavar="TARGET",
        ),
    ],
    model: Annotated[str | None, typer.Option("--model", help="A model's name in the run, such as redi.")] = None,
    step: Annotated[
        str | None,
        typer.Option("--step", help="A finished step with rows, such as curated: its tables, with a data card."),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="With --step: this table alone, such as pairs or dropped; again for several."),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="For all to see; a new repository is private otherwise.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent, of tables with their card, and send nothing.")
    ] = False,
) -> None:
    """Upload a model of a run, or the tables of a step, with its card to the Hugging Face hub; tables also to S3 or a folder."""
    from redi_ray.cli.push import push as push_model
    from redi_ray.cli.push import push_step

    if (model is None) == (step is None):
        raise typer.BadParameter("give --model, to push a model, or --step, to push its tables")
    if table and step is None:
        raise typer.BadParameter("--table goes with --step")
    with clear_errors():
        if model is not None:
            push_model(run, model, target, public=public, dry_run=dry_run)
        elif step is not None:
            push_step(run, step, target, table or [], public=public, dry_run=dry_run)
