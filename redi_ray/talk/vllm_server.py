"""`vllm serve` as a child process: started, waited for, told where it is, ended cleanly."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from redi_ray.data.sample.engines import environment
from redi_ray.talk.models import TalkError
from redi_ray.talk.serving import API_KEY, Served, ServeOptions, key_of, require_port, require_vllm

MODULE = "vllm.entrypoints.openai.api_server"
"""Run by its name: the CPU build's own command does not find its version."""
STOP_SECONDS = 30.0
"""How long the server may take to end before it is killed."""
TAIL_CHARS = 4000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class ServerError(TalkError):
    """vLLM did not start on the model, or has ended by itself; the message holds the end of its log."""


@contextmanager
def vllm_server(
    served: Served, options: ServeOptions, *, waiting: Callable[[float], None] = lambda seconds: None
) -> Iterator[Running]:
    """A server that answers, for the block. waiting: called now and then with the seconds since the start.

    Raises TalkError without vLLM or where the port is taken, ServerError where the server does not start.
    """
    require_vllm()
    require_port(options)
    key = key_of(options)
    with tempfile.TemporaryDirectory(prefix="redi_ray-serve-") as folder:
        template = Path(folder) / "chat_template.jinja"
        template.write_text(served.template)
        log = Path(folder) / "vllm.log"
        command = [sys.executable, "-m", MODULE, *arguments(served, options, template)]
        variables = {**os.environ, **variables_of(served), **({API_KEY: key} if key else {})}
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # ctrl-C is ours to pass on
                preexec_fn=_ends_with_parent,  # noqa: PLW1509  # it takes no lock
            )
        running = Running(process, log, key)
        try:
            running.wait_until_ready(options, waiting)
            yield running
        finally:
            running.stop()


class Running:
    """A server that has been started."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, key: str | None) -> None:
        self.process, self.log, self.key = process, log, key
        """key: that clients must send; null: none."""

    def wait_until_ready(self, options: ServeOptions, waiting: Callable[[float], None]) -> None:
        """Return once it answers. Raises ServerError if it ends before."""
        started = time.monotonic()
        while True:
            self.require_alive("did not start")
            try:
                if httpx.get(f"{options.url}/health", timeout=5).is_success:
                    return
            except httpx.TransportError:
                pass
            waiting(time.monotonic() - started)
            time.sleep(0.5)

    def wait(self) -> None:
        """Return never. Raises ServerError once the server has ended."""
        while True:
            self.require_alive("has ended")
            time.sleep(1.0)

    def require_alive(self, what: str) -> None:
        if (code := self.process.poll()) is not None:
            tail = self.log.read_text(errors="replace")[-TAIL_CHARS:].strip()
            raise ServerError(f"vLLM {what} (exit code {code}). The end of its log:\n{tail}")

    def stop(self) -> None:
        """End it, its workers too."""
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            if self.process.poll() is None:
                os.killpg(self.process.pid, number)
                try:
                    self.process.wait(seconds)
                except subprocess.TimeoutExpired:
                    continue
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what the server has left behind


def arguments(served: Served, options: ServeOptions, template: Path) -> list[str]:
    """Of the server's command line. What the user adds comes last, and wins."""
    told: dict[str, Any] = {
        "model": served.model.local(),
        "served_model_name": served.name,
        "host": options.host,
        "port": options.port,
        "chat_template": str(template),
        "chat_template_content_format": "string",  # as the template reads it
        "override_generation_config": served.sampling,
        **served.arguments,
    }
    return [*as_flags(told), *options.extra]


def as_flags(told: Mapping[str, Any]) -> list[str]:
    """Python's arguments as the command line has them: `enforce_eager: True` -> `--enforce-eager`."""
    flags: list[str] = []
    for name, value in told.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            flags += [f"--{flag}", json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return flags


def variables_of(served: Served) -> dict[str, str]:
    """Of the server's environment; what the user has set stays."""
    wanted = environment(served.engine) | {"VLLM_NO_USAGE_STATS": "1"}
    del wanted["VLLM_LOGGING_LEVEL"]  # its log is a file
    return {name: value for name, value in wanted.items() if name not in os.environ}


def _ends_with_parent() -> None:
    """In the child: the kernel ends it when we are killed, or it would hold its GPU for ever."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
