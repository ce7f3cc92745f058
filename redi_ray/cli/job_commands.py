"""The commands that run it as a job on a Ray cluster."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from redi_ray.cli.options import Config, Overrides, Until

Address = Annotated[str | None, typer.Option(help="The dashboard's, http://HOST:8265; else RAY_ADDRESS.")]
JobCommand = Annotated[
    Literal["run", "tune", "generate", "curate", "train", "evaluate"], typer.Option(help="What the job runs.")
]
Follow = Annotated[bool, typer.Option("--follow", help="Print its output, and exit with its exit code.")]


def submit(
    config: Config,
    overrides: Overrides = None,
    address: Address = None,
    follow: Follow = False,
    command: JobCommand = "run",
    until: Until = None,
) -> None:
    """Run it as a job on a Ray cluster, with the code that lies here. Submitted twice, it runs once."""
    from redi_ray.cli.submit import submit_job

    submit_job(config, overrides or [], address, command=command, until=until, follow=follow, again=False)


def resubmit(
    config: Config,
    overrides: Overrides = None,
    address: Address = None,
    follow: Follow = False,
    command: JobCommand = "run",
    until: Until = None,
) -> None:
    """Another attempt of a job that has ended: it goes on where that was."""
    from redi_ray.cli.submit import submit_job

    submit_job(config, overrides or [], address, command=command, until=until, follow=follow, again=True)


def status(config: Config, overrides: Overrides = None, address: Address = None) -> None:
    """The jobs of this run on a cluster, with their exit codes."""
    from redi_ray.cli.submit import show_status

    show_status(config, overrides or [], address)


def stop(config: Config, overrides: Overrides = None, address: Address = None) -> None:
    """Stop this run's job; training saves first."""
    from redi_ray.cli.submit import stop_job

    stop_job(config, overrides or [], address)
