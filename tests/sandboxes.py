"""A sandbox that works where the tests run: in namespaces if the machine allows them, else by limits alone."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from redi_ray.config.tools import SandboxSettings
from redi_ray.tools.sandbox import SandboxError, check_sandbox


@cache
def isolation() -> Literal["namespaces", "process"]:
    try:
        check_sandbox(SandboxSettings(processes=1))
    except SandboxError:
        return "process"
    return "namespaces"


def sandbox_settings(**settings: Any) -> SandboxSettings:
    """One interpreter, with these settings."""
    return SandboxSettings(processes=1, isolation=isolation(), **settings)
