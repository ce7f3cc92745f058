"""Tools for a sampler: calls in, outputs out, by interpreters that wait in a sandbox.

    with Sandbox(settings) as sandbox:
        sandbox.submit("python", "print(1 + 1)").result().text == "2"

What a call does is its own affair: whatever it is, its output comes within the limits, as text for the model, and names what went
wrong. Only a sandbox that cannot be made is an error of the caller's.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import redi_ray
from redi_ray.config.tools import SandboxSettings
from redi_ray.errors import UserError
from redi_ray.tools.interpreter import CPU_TIME, DIED, OUTPUT, RAISED, WALL_TIME, remove

FOLDER = "redi_ray-tools-"
START_SECONDS = 180.0
"""Limit for starting an interpreter, which imports what is to be preloaded."""
PATIENCE_SECONDS = 30.0
"""So long beyond the limit by the clock an interpreter may take, before it is taken for dead."""


class SandboxError(UserError):
    """The sandbox cannot be made; the message says why, and what to do."""


@dataclass(frozen=True)
class ToolOutput:
    """What a call gave back."""

    text: str
    """For the model to read, its error included."""
    failure: str | None
    """Null, or why it failed: `raised`, `cpu_time`, `wall_time`, `output` or `died`."""


class Sandbox:
    """Interpreters that wait for calls. Starts with the block, or with `start`; calls may come from any thread."""

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self._idle: queue.SimpleQueue[Interpreter] = queue.SimpleQueue()
        self._all: list[Interpreter] = []
        self._threads: ThreadPoolExecutor | None = None

    def start(self) -> Sandbox:
        """Start the interpreters, and see each do a call. Raises SandboxError."""
        try:
            for _ in range(self.settings.processes):
                interpreter = Interpreter(self.settings)
                self._all.append(interpreter)
                interpreter.start()
                self._idle.put(interpreter)
        except BaseException:
            self.close()
            raise
        self._threads = ThreadPoolExecutor(self.settings.processes, thread_name_prefix="tools")
        return self

    def submit(self, tool: str, text: str) -> Future[ToolOutput]:
        """Run a call as soon as an interpreter is free."""
        assert self._threads is not None, "start() comes first"
        return self._threads.submit(self._run, tool, text)

    def close(self) -> None:
        """End the interpreters, and all that runs in them."""
        for interpreter in self._all:
            interpreter.stop()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
        for interpreter in self._all:
            interpreter.close()
        self._all.clear()

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, tool: str, text: str) -> ToolOutput:
        interpreter = self._idle.get()
        try:
            answer = interpreter.call(tool, text)
        finally:
            self._idle.put(interpreter)
        return ToolOutput(told(answer["text"], answer["failure"], self.settings), answer["failure"])


def told(text: str, failure: str | None, settings: SandboxSettings) -> str:
    """An output for the model: without white space around it, and with what ended it."""
    why = {
        CPU_TIME: f"TimeoutError: more than {settings.cpu_seconds} s of processor time",
        WALL_TIME: f"TimeoutError: no end after {settings.wall_seconds:g} s",
        OUTPUT: f"OutputError: more than {settings.output_bytes} bytes of output",
        DIED: "ProcessError: the process was killed",
    }.get(failure or "")
    lines = [text.strip()] if text.strip() else []
    if failure == RAISED and not lines:
        why = "ProcessError: the process ended with an error"
    return "\n".join([*lines, why] if why else lines)


class Interpreter:
    """One serving process, started anew when it has died."""

    MODULE = "redi_ray.tools.interpreter"
    """What serves."""

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self.folder = own_folder()
        self.process: subprocess.Popen[bytes] | None = None
        self.errors: IO[bytes] | None = None
        self.ended = False

    def start(self) -> None:
        """Start it and see it work. Raises SandboxError."""
        self._launch()
        answer = self._answer(START_SECONDS)
        said = self._try_out() if answer is not None else ""
        if said is not None:
            self.kill()
            raise SandboxError(cannot(self.settings, f"{said} {self._last_words()}".strip()))

    def _try_out(self) -> str | None:
        """What a first call said that should have said something else; None if all is well."""
        answer = self._ask("python", "import secrets, uuid\nprint(1 + 1)")
        if answer is None or answer["failure"] is not None or answer["text"] != "2\n":
            return "" if answer is None else str(answer["text"])
        return None

    def call(self, tool: str, text: str) -> dict[str, Any]:
        """One call. An interpreter that dies over it is replaced, and asked once more: it may have died of something else."""
        for _ in range(2):
            if self.ended:
                break
            if self.process is None:
                try:
                    self.start()
                except SandboxError:
                    if not self.ended:
                        raise
                if self.ended:  # `stop` may have come before there was a process to end
                    break
            if (answer := self._ask(tool, text)) is not None:
                return answer
            self.kill()
        if self.ended:
            self.kill()
        return {"text": "", "failure": DIED}

    def _launch(self) -> None:
        told = {**asdict(self.settings), "libraries": site.getsitepackages()}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.MODULE, json.dumps(told), self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={
                "PYTHONPATH": str(Path(redi_ray.__path__[0]).parent),
                "PYTHONHASHSEED": "0",  # sets are printed in one order
                "PYTHONDONTWRITEBYTECODE": "1",
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "LANG": "C.UTF-8",
            },
            cwd="/",
            start_new_session=True,
        )
        self._read = bytearray()

    def _ask(self, tool: str, text: str) -> dict[str, Any] | None:
        """The answer; None if the process has died, or answers nothing."""
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"tool": tool, "text": text}).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return None
        return self._answer(self.settings.wall_seconds + PATIENCE_SECONDS)

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        deadline = time.monotonic() + seconds
        if not self._read_until(lambda read: b"\n" in read, deadline):
            return None
        line, _, self._read = self._read.partition(b"\n")
        return json.loads(line)

    def _read_until(self, enough: Callable[[bytearray], bool], deadline: float) -> bool:
        """Read on until there is enough; False where the process ends first, or takes too long."""
        assert self.process is not None
        assert self.process.stdout is not None
        while not enough(self._read):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                return False
            chunk = os.read(self.process.stdout.fileno(), 65_536)
            if not chunk:
                return False
            self._read += chunk
        return True

    def _last_words(self) -> str:
        if self.errors is None:
            return ""
        self.errors.seek(0)
        return self.errors.read()[-600:].decode(errors="replace").strip()

    def stop(self) -> None:
        """End the process for good, and all that runs in it; whoever waits for a call hears that it died."""
        self.ended = True
        if self.process is not None:
            _end(self.process)

    def kill(self) -> None:
        """End the process, so that the next call starts another."""
        process, self.process = self.process, None
        if process is not None:
            _end(process)
            assert process.stdout is not None
            process.stdout.close()

    def close(self) -> None:
        """What is left, after `stop`, when nobody waits any more."""
        self.kill()
        if self.errors is not None:
            self.errors.close()
        remove(self.folder)


def own_folder() -> str:
    """An empty folder for this process, whose name has its number; those of processes that are gone are deleted."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}*-*"):
        owner = left.name.removeprefix(FOLDER).partition("-")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            remove(str(left))
    return tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-")


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    with suppress(subprocess.TimeoutExpired):  # it ends what a call has started before it goes
        process.wait(2)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def cannot(settings: SandboxSettings, said: str) -> str:
    """What to tell of a sandbox that does not start."""
    if settings.isolation == "process":
        return f"tools.sandbox: an interpreter with limits cannot be started: {said}"
    return (
        f"tools.sandbox: this machine does not let a process make namespaces of its own, which is what keeps a model's code from "
        f"its files and the network ({said}). Allow it (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone; in "
        "containers a seccomp profile that lets unshare and mount pass), or set tools.sandbox.isolation to process, which "
        "accepts that code can read files and reach the network and, unless root runs it, write files and end processes"
    )


def check_sandbox(settings: SandboxSettings) -> None:
    """Raise SandboxError unless a sandbox works on this machine."""
    from dataclasses import replace

    with Sandbox(replace(settings, processes=1)):
        pass
