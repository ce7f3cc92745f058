"""Settings of verification by tests, standard library only like the rest of the core's settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from redi_ray.config.strict import STRICT, require
from redi_ray.config.tools import SandboxSettings

FRONT = """\
from typing import *
import bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, statistics, string, sys"""


@dataclass(frozen=True, kw_only=True)
class RunSettings(SandboxSettings):
    """A sandbox in which solutions run, once for each test."""

    idle_seconds: float = 5.0
    """A run that takes no processor time for so long by the clock is ended."""


@dataclass(frozen=True, kw_only=True)
class CodeSettings:
    """How solutions are run against tests. What a test may use are limits of the solution's own, past which it has failed; the
    clock's are the machine's, past which nothing is said: the verdict is `timeout`, and never wrong."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    languages: list[str] = field(default_factory=lambda: ["python", "python3", "py", "py3"])
    """What a fenced block of code is marked as. The last of them behind the thinking is the solution; where none is marked so,
    the last one without a mark."""
    cpu_seconds: int = 5
    """Processor time of a test: all processes and threads of the solution. How busy the machine is makes no difference."""
    memory_mb: int = 1024
    """Address space of each of its processes."""
    output_bytes: int = 4 << 20
    """Of a test. Tests that expect more are not read."""
    max_processes: int = 16
    """Processes and threads at a time."""
    file_mb: int = 16
    """The largest file; the scratch folder, which is new for each test, holds four of that size."""
    idle_seconds: float = 5.0
    """A run that waits, and takes no processor time for so long by the clock, is ended: `timeout`."""
    wall_seconds: float = 60.0
    """Of a test by the clock; long beside `cpu_seconds`, so that a busy machine changes no verdict."""
    total_seconds: float = 300.0
    """Of all tests of a solution by the clock."""
    run_all: bool = False
    """Run all tests, so that the share that is passed is known (scorer `passed`). Else the first that fails ends it."""
    repeats: int = 1
    """How often all of it is done, each time with another seed of `random`; a solution that does not come to the same verdict
    each time is `error`. `PYTHONHASHSEED` is always 0."""
    compare: Literal["tokens", "lines"] = "tokens"
    """What is printed is compared word by word, however they are spaced, or line by line, but for white space at their ends."""
    tolerance: float | None = 1e-6
    """Where a number with a point or an exponent is expected, this much may be between it and what came, absolutely or
    relatively. Null: it must be the same text, of a value the same number. Assertions compare as they say."""
    front: str = FRONT
    """Stands in front of code that is called (not of programs), and of assertions."""
    preload: list[str] = field(default_factory=list)
    """Modules that are imported once, such as `numpy`: what takes long to import."""
    isolation: Literal["namespaces", "process"] = "namespaces"
    """As for tools (`SandboxSettings`). `process` lets code read files, those with the tests among them."""

    def __post_init__(self) -> None:
        require(bool(self.languages), "languages is empty: name at least one, such as python")
        for name in ("idle_seconds", "total_seconds", "repeats"):
            require(getattr(self, name) > 0, f"{name} must be > 0, got {getattr(self, name)}")
        require(self.tolerance is None or 0 <= self.tolerance < 1, f"tolerance must be in [0, 1), got {self.tolerance}")
        try:
            compile(self.front, "<front>", "exec")
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"front is no Python: {error}") from error
        self.sandbox(1)

    def sandbox(self, processes: int) -> RunSettings:
        """Where solutions run, as many at a time."""
        names = ("cpu_seconds", "memory_mb", "output_bytes", "max_processes", "file_mb", "idle_seconds", "wall_seconds")
        limits = {name: getattr(self, name) for name in (*names, "preload", "isolation")}
        return RunSettings(processes=processes, **limits)
