"""Runs of solutions in a sandbox, seen from outside: code and what it is given in, what it wrote and how it ended out.

    with Runners(settings) as runners, runners.one() as runner:
        runner.run(Task("print(int(input()) + 1)", "1")).output == b"2\\n"

What is expected is never given to it, but as assertions, which run beside the solution and not in it (`redi_ray.tools.programs`).
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redi_ray.config.code import RunSettings
from redi_ray.tools import values
from redi_ray.tools.programs import ASSERT, CALL, HEADER, STDIN
from redi_ray.tools.sandbox import PATIENCE_SECONDS, Interpreter

DEAD = "dead"
"""How a run ended whose sandbox died over it, twice."""


@dataclass(frozen=True)
class Call:
    """A function that is called: a name, arguments and arguments by name."""

    name: str
    args: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Assertions:
    """Assertions, which run apart from the solution. front, setup: code that runs before them; entry: what they are about."""

    code: str
    front: str = ""
    setup: str = ""
    entry: str = ""


@dataclass(frozen=True)
class Task:
    """One run of code."""

    code: str
    given: str | Call | Assertions
    """Standard input, a call of a function, or assertions."""
    front: str = ""
    """Stands in front of code that is called."""
    seed: int = 0

    def request(self) -> bytes:
        """What the sandbox reads."""
        if isinstance(self.given, Call):
            mode, given = (
                CALL,
                values.encode((self.given.name, list(self.given.args), dict(self.given.keywords))).encode(),
            )
        elif isinstance(self.given, Assertions):
            told = self.given
            mode, given = ASSERT, json.dumps([told.front, told.setup, told.code, told.entry]).encode()
        else:
            mode, given = STDIN, self.given.encode("utf-8", "replace")
        code, front = (text.encode("utf-8", "replace") for text in (self.code, self.front))
        return HEADER.pack(mode, len(code), len(front), len(given), self.seed) + code + front + given


@dataclass(frozen=True)
class Run:
    """What came of it."""

    ended: str
    """`exit` or `signal`, with its `code`; `wall_time` or `output`, where it was ended; `dead`."""
    code: int = 0
    output: bytes = b""
    errors: str = ""
    """The end of what was written to standard error."""
    seconds: float = 0.0
    """Processor time of all its processes."""
    solution: tuple[str, int] = ("exit", 0)
    """How the solution's own process ended, beside which assertions run."""


class Runner(Interpreter):
    """One serving process."""

    MODULE = "redi_ray.tools.programs"

    def run(self, task: Task) -> Run:
        """One run. A sandbox that dies over it is replaced, and asked once more: it may have died of something else."""
        request = task.request()
        for _ in range(2):
            if self.ended:
                break
            if self.process is None:
                self.start()
            if (found := self._run(request)) is not None:
                return found
            self.kill()
        return Run(DEAD)

    def _try_out(self) -> str | None:
        found = self._run(Task("import secrets, uuid\nprint(int(input()) + 1)", "1").request())
        return None if found is not None and found.output == b"2\n" else "" if found is None else found.errors

    def _run(self, request: bytes) -> Run | None:
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(request)
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return None
        limit = self.settings.wall_seconds + PATIENCE_SECONDS
        if (told := self._answer(limit)) is None:
            return None
        length, errors = int(told["output_bytes"]), int(told["error_bytes"])
        if not self._read_until(lambda read: len(read) >= length + errors, time.monotonic() + limit):
            return None
        output, said = bytes(self._read[:length]), bytes(self._read[length : length + errors])
        del self._read[: length + errors]
        solution = told["solution"]["ended"], int(told["solution"]["code"])
        return Run(
            told["ended"], int(told.get("code", 0)), output, said.decode("utf-8", "replace"), told["seconds"], solution
        )


class Runners:
    """Serving processes that wait for runs. Starts with the block, or with `start`; they may be taken from any thread."""

    def __init__(self, settings: RunSettings) -> None:
        self.settings = settings
        self._idle: queue.SimpleQueue[Runner] = queue.SimpleQueue()
        self._all: list[Runner] = []

    def start(self) -> Runners:
        """Start them, and see each do a run. Raises SandboxError."""
        try:
            for _ in range(self.settings.processes):
                runner = Runner(self.settings)
                self._all.append(runner)
                runner.start()
                self._idle.put(runner)
        except BaseException:
            self.close()
            raise
        return self

    @contextmanager
    def one(self) -> Iterator[Runner]:
        """One of them for the block, as soon as it is free."""
        runner = self._idle.get()
        try:
            yield runner
        finally:
            self._idle.put(runner)

    def close(self) -> None:
        """End them, and all that runs in them."""
        for runner in self._all:
            runner.stop()
        for runner in self._all:
            runner.close()
        self._all.clear()

    def __enter__(self) -> Runners:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()
