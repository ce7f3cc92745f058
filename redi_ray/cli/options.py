"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Config = Annotated[str, typer.Argument(help="The experiment's YAML, local or s3://; see configs/.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to it, such as redi.train.learning_rate=1e-6", metavar="[KEY=VALUE]..."),
]
Until = Annotated[str | None, typer.Option(help="Make this step and what it needs, and no more.")]
