"""The `redi-ray` command: one subcommand per stage, and `run` for all of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import dump_config, load_config
from redi_ray.entry import clear_errors, run_stages

if TYPE_CHECKING:
    from redi_ray.report import ReportPaths

app = typer.Typer(
    help="Distil reasoning with negative signals: problems -> traces -> pairs -> SFT -> REDI -> evaluation, on Ray.",
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


@app.command()
def run(config: Config, overrides: Overrides = None) -> None:
    """The whole experiment, from problems to report. Finished parts are reused, interrupted ones resumed."""
    run_stages(config, overrides or [], lambda pipeline: told(pipeline.run_all()))


@app.command()
def generate(config: Config, overrides: Overrides = None) -> None:
    """Traces for every problem: sampled with vLLM in rounds, or imported."""
    run_stages(config, overrides or [], lambda pipeline: f"traces: {pipeline.traces().uri}")


@app.command()
def verify(config: Config, overrides: Overrides = None) -> None:
    """A verdict for every trace."""
    run_stages(config, overrides or [], lambda pipeline: f"verified traces: {pipeline.verified().uri}")


@app.command()
def curate(config: Config, overrides: Overrides = None) -> None:
    """Positives and (chosen, rejected) pairs."""
    run_stages(config, overrides or [], lambda pipeline: f"curated: {pipeline.curated().uri}")


@app.command()
def train(config: Config, overrides: Overrides = None, arm: Arms = None) -> None:
    """SFT and every arm of stage 2, or the named ones."""
    run_stages(config, overrides or [], lambda pipeline: _exports(pipeline.train(arm)))


@app.command()
def evaluate(config: Config, overrides: Overrides = None, arm: Arms = None) -> None:
    """Score every model on the benchmarks, or the named ones."""
    run_stages(config, overrides or [], lambda pipeline: _scores(pipeline.evaluate(arm)))


@app.command()
def report(config: Config, overrides: Overrides = None) -> None:
    """The HTML report of what has been run so far."""
    from redi_ray.report import build_report
    from redi_ray.stages.run import Run

    with clear_errors():
        print(f"report: {build_report(Run.of(load_config(config, overrides)).uri).html}")


@app.command("config")
def show_config(
    config: Annotated[str | None, typer.Argument(help="The experiment's YAML.")] = None,
    overrides: Overrides = None,
    schema: Annotated[bool, typer.Option(help="Print the JSON schema for editors instead.")] = False,
) -> None:
    """Print the resolved config: every field with its value. With --schema, the JSON schema."""
    if schema:
        print(json.dumps(ExperimentConfig.model_json_schema(), indent=1))
        return
    if config is None:
        raise typer.BadParameter("name a CONFIG, or use --schema")
    with clear_errors():
        print(dump_config(load_config(config, overrides)), end="")


def told(paths: ReportPaths) -> str:
    """Print the arms' table; the line that says where the report is."""
    from redi_ray.report import print_summary
    from redi_ray.storage import read_json

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
    """Entry point of the `redi-ray` script."""
    app()


if __name__ == "__main__":
    main()
