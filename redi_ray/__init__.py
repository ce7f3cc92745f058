"""Offline distillation of reasoning with negative signals, on Ray. `open_run` reads a run in notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redi_ray.report.reader import open_run

__all__ = ["open_run"]


def __getattr__(name: str) -> Any:
    """What is exported is loaded when it is first asked for, so that every command starts at once."""
    if name == "open_run":
        from redi_ray.report.reader import open_run

        return open_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
