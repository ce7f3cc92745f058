"""The `redi-ray` command: its subcommands, in the order in which help names them."""

from __future__ import annotations

from collections.abc import Callable

import typer

from redi_ray.cli import job_commands, look_commands, stage_commands, talk_commands
from redi_ray.errors import EXIT_CODES

COMMANDS: dict[str, Callable[..., None]] = {
    "init": look_commands.init,
    "recipes": look_commands.recipes,
    "run": stage_commands.run,
    "graph": look_commands.graph,
    "generate": stage_commands.generate,
    "verify": stage_commands.verify,
    "curate": stage_commands.curate,
    "train": stage_commands.train,
    "evaluate": stage_commands.evaluate,
    "tune": stage_commands.tune,
    "plan": look_commands.plan,
    "report": look_commands.report,
    "inspect": look_commands.inspect_traces,
    "similar": look_commands.similar,
    "chat": talk_commands.chat,
    "serve": talk_commands.serve,
    "push": talk_commands.push,
    "ui": look_commands.ui,
    "submit": job_commands.submit,
    "resubmit": job_commands.resubmit,
    "status": job_commands.status,
    "stop": job_commands.stop,
    "config": look_commands.show_config,
}

app = typer.Typer(
    help="Distil reasoning with negative signals: problems -> traces -> pairs -> SFT -> REDI -> evaluation, on Ray.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for name, command in COMMANDS.items():
    app.command(name)(command)


def main() -> None:
    """Run the command that the process was given."""
    app()
