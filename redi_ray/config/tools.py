"""Settings of tools that a model calls while it is sampled, standard library only like the rest of the core's settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from redi_ray.config.strict import STRICT, require

Tool = Literal["python", "calculator"]
MARKS: dict[str, tuple[str, str]] = {
    "python": ("```python\n", "\n```"),
    "calculator": ("<calculator>", "</calculator>"),
}
"""Tool -> what a call of it begins and ends with, where nobody says."""


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """Where a tool's code runs, and what it may use. All limits are those of one call."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    HOW: ClassVar[frozenset[str]] = frozenset({"processes"})
    """See `redi_ray.config.identity`."""

    isolation: Literal["namespaces", "process"] = "namespaces"
    """`namespaces`: no network, no environment, no files but a scratch folder in memory and, to read, the interpreter with its
    libraries; refused where the machine does not allow it. `process` accepts less: files that the user may read can be read, and
    the network be reached; unless root runs it, which gives code another user, files can be written and processes ended, too.
    Limits, scratch folder and empty environment are the same."""
    cpu_seconds: int = 5
    """Processor time of each process."""
    wall_seconds: float = 20.0
    """By the clock, for what waits and does not compute; long beside `cpu_seconds`, so that a busy machine changes no output."""
    memory_mb: int = 512
    """Address space of each process."""
    output_bytes: int = 8192
    """A call that writes more is ended, and what came before is kept."""
    file_mb: int = 16
    """The largest file; the scratch folder holds four of that size."""
    max_processes: int = 8
    """Processes and threads at a time."""
    preload: list[str] = field(default_factory=list)
    """Modules that are imported once and are there in every call, such as `sympy`: what takes long to import."""
    processes: int = 2
    """Interpreters that are kept waiting beside each engine; as many calls run at a time."""

    def __post_init__(self) -> None:
        for name in (
            "cpu_seconds",
            "wall_seconds",
            "memory_mb",
            "output_bytes",
            "file_mb",
            "max_processes",
            "processes",
        ):
            require(getattr(self, name) > 0, f"{name} must be > 0, got {getattr(self, name)}")
        require(self.memory_mb >= 64, f"memory_mb must be >= 64, which the interpreter takes, got {self.memory_mb}")


@dataclass(frozen=True, kw_only=True)
class ToolSettings:
    """Sampling in turns: a turn of the model's ends with a call, the tool's output comes back as a turn, and so on."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    names: list[Tool] = field(default_factory=lambda: ["python"])
    """Tools there are. The prompt has to say so: write it into `prompt.system` or `prompt.template`."""
    marks: dict[Tool, tuple[str, str]] = field(default_factory=dict)
    """Tool -> what a call begins and ends with, in place of the usual: a block fenced by ```python, and the tags
    <calculator> and </calculator>."""
    max_turns: int = 6
    """The model's own turns of a trace at the most. A trace whose last one still calls is cut off there."""
    max_turn_tokens: int | None = 1024
    """Tokens of each; `max_tokens` is the limit of all of them together."""
    output: str = "```output\n{output}\n```"
    """How a tool's output is written; `{output}` is replaced by it. Whose turn it is, a tool's or a user's, `prompt.tool_role`
    says."""
    final: str | None = "\\boxed"
    """A turn that holds this is the last one, even if it has a call. Null: only a turn without a call is."""
    native: bool = False
    """On endpoints: offer the tools in the request, and read calls from `tool_calls`. A trace has them in its text all the same,
    between the marks."""
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    """Where the code runs."""

    def __post_init__(self) -> None:
        require(bool(self.names), "names is empty: leave `tools` out to sample without any")
        require(len(set(self.names)) == len(self.names), f"names holds one tool twice: {self.names}")
        other = sorted(set(self.marks) - set(self.names))
        require(not other, f"marks are given for {', '.join(other)}, which is not in names ({', '.join(self.names)})")
        found = [mark for pair in self.marks.values() for mark in pair]
        require(all(mark.strip() for mark in found), "a mark must not be empty, or white space alone")
        opening = [begin for begin, _ in self.calls.values()]
        require(len(set(opening)) == len(opening), f"two tools' calls begin alike: {opening}")
        require(self.max_turns >= 2, f"max_turns must be >= 2, a call and an answer, got {self.max_turns}")
        limit = self.max_turn_tokens
        require(limit is None or limit >= 1, f"max_turn_tokens must be >= 1, got {limit}")
        require("{output}" in self.output, "output must contain {output}")

    @property
    def calls(self) -> dict[str, tuple[str, str]]:
        """Tool -> what a call of it begins and ends with."""
        found = {name: self.marks.get(name, MARKS[name]) for name in self.names}
        return {name: (opening, closing) for name, (opening, closing) in found.items()}
