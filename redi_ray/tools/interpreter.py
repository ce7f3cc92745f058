"""The process that serves calls: `python -m redi_ray.tools.interpreter SETTINGS FOLDER`, the settings being JSON.

It leaves the machine (`redi_ray.tools.namespaces`), says `{"ready": true}`, and then reads `{"tool", "text"}` a line and answers
`{"text", "failure"}` a line. A call is a fork of it, with what is imported already, and all that comes of the call is killed
before the next one is read. It ends when nobody is there to read its answers.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redi_ray.tools import namespaces, syscalls
from redi_ray.tools.execute import execute

COMMON = (
    "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools", "json", "math",
    "operator", "random", "re", "statistics", "string", "textwrap", "time", "typing", "numbers", "bisect", "dataclasses",
)  # fmt: skip
"""What code in answers imports mostly."""
CPU_TIME, WALL_TIME, OUTPUT, DIED, RAISED = "cpu_time", "wall_time", "output", "died", "raised"
"""Why a call failed."""
CHUNK = 65_536


@dataclass(frozen=True)
class Serving:
    """What every call is run with."""

    settings: dict[str, Any]
    inside: bool
    """Whether this process has left the machine; else it has only limits."""
    folder: str
    """Where scratch folders are made, outside."""
    user: int | None
    """Who a call runs as, where that is another user."""
    may_read: bool
    """Whether that user has to be let read the interpreter's files."""


def main() -> None:
    serve(*enter())


def enter() -> tuple[Serving, int, int]:
    """Take this process out of the machine, as its arguments say; where its requests come from, and where replies go."""
    settings, folder = json.loads(sys.argv[1]), sys.argv[2]
    requests, replies = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDWR)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    for name in (*COMMON, *settings["preload"]):
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what handles it could be interrupted by a call of the same user
    inside, root = settings["isolation"] == "namespaces", os.getuid() == 0
    user = (namespaces.OTHER_USER if inside else namespaces.FIRST_UID + os.getpid()) if root else None
    if inside:
        if not syscalls.has_filter():
            raise OSError("this kernel cannot refuse system calls (seccomp)")
        namespaces.leave()
        if (serving := os.fork()) != 0:
            for end in (requests, replies):
                os.close(end)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(serving, 0)[1]) & 0xFF)
        namespaces.build(folder, {sys.base_prefix, sys.prefix, *filter(os.path.isdir, settings["libraries"])})
    else:
        namespaces.adopt_orphans()
    namespaces.keep_secret()
    if syscalls.has_filter():
        syscalls.filter_of(os.uname().machine)
    gc.freeze()
    may_read = not inside and not _others_may_read(json.__file__)
    return Serving(settings, inside, folder, user, may_read), requests, replies


def _others_may_read(path: str) -> bool:
    return all(os.stat(folder).st_mode & 0o001 for folder in Path(os.path.realpath(path)).parents)


def serve(serving: Serving, requests: int, replies: int) -> None:
    """Answer until the requests end."""
    reply(replies, {"ready": True})
    waiting = b""
    while chunk := os.read(requests, CHUNK):
        waiting += chunk
        *lines, waiting = waiting.split(b"\n")
        for line in lines:
            asked = json.loads(line)
            with scratch_folder(serving) as scratch:
                answer = run_call(serving, asked["tool"], asked["text"], scratch, requests)
            reply(replies, answer)


def reply(replies: int, answer: dict[str, Any]) -> None:
    """Write an answer as a line."""
    left = json.dumps(answer).encode() + b"\n"
    while left:
        left = left[os.write(replies, left) :]


@contextmanager
def scratch_folder(serving: Serving) -> Iterator[str]:
    """An empty folder of a call's own."""
    if serving.inside:
        namespaces.fresh_scratch(4 * serving.settings["file_mb"], serving.user or 0)
        yield namespaces.SCRATCH
        return
    folder = tempfile.mkdtemp(dir=serving.folder)
    if serving.user is not None:
        os.chown(folder, serving.user, serving.user)
    try:
        yield folder
    finally:
        remove(folder)


def remove(folder: str) -> None:
    """Delete a folder that hostile code has filled; one that is thousands deep is too much for Python's own recursion."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        subprocess.run(["rm", "-rf", "--", folder], check=False, stderr=subprocess.DEVNULL)


def run_call(serving: Serving, tool: str, text: str, scratch: str, caller: int) -> dict[str, Any]:
    """One call, from its process to the last one that it leaves. caller: ends where nobody waits for the answer any more."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        _become_call(serving, tool, text, scratch, into)
    os.close(into)
    ended, limit = os.pidfd_open(child), int(serving.settings["output_bytes"])
    watch = select.poll()
    watch.register(out, select.POLLIN)
    watch.register(ended, select.POLLIN)
    watch.register(caller, 0)  # tells of its end alone
    said, failure, deadline = b"", None, time.monotonic() + float(serving.settings["wall_seconds"])
    running = True
    while running and failure is None:
        events = dict(watch.poll(max(0.0, deadline - time.monotonic()) * 1000))
        if caller in events:
            end_all(serving, child)
            os._exit(0)
        if out in events:
            if chunk := os.read(out, CHUNK):
                said += chunk
            else:
                watch.unregister(out)
        running = ended not in events
        failure = OUTPUT if len(said) > limit else WALL_TIME if not events else None
    status = end_all(serving, child)
    os.set_blocking(out, False)
    with suppress(BlockingIOError):
        while len(said) <= limit and (chunk := os.read(out, CHUNK)):
            said += chunk
    os.close(out)
    os.close(ended)
    if failure is None:
        failure = OUTPUT if len(said) > limit else _failure_of(status)
    return {"text": said[:limit].decode("utf-8", "replace"), "failure": failure}


def _failure_of(status: int) -> str | None:
    if os.WIFSIGNALED(status):
        return CPU_TIME if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGPROF) else DIED
    return RAISED if os.WEXITSTATUS(status) else None


def _become_call(serving: Serving, tool: str, text: str, scratch: str, into: int) -> None:
    """In the process of a call: give up rights, set limits, run, end."""
    status = 1
    try:
        os.dup2(into, 1)
        os.dup2(into, 2)
        os.closerange(3, 4096)
        confine(serving, scratch)
        status = execute(tool, text)
        sys.stdout.flush()
    finally:
        os._exit(status)


def confine(serving: Serving, scratch: str, seed: int = 0, buffering: int = 1) -> None:
    """In a process that is to run a model's code: give up rights, set limits, open streams on the files 0, 1 and 2. For good.

    seed: of `random`. buffering: of what is printed; 1 writes line by line.
    """
    os.setsid()
    os.chdir(scratch)
    if not serving.inside:
        namespaces.end_with_parent()
    namespaces.give_up_rights(serving.user, may_read=serving.may_read)
    _limit(serving.settings)
    if serving.inside or syscalls.has_filter():
        syscalls.refuse()
    os.environ.clear()
    os.environ.update(HOME=scratch, TMPDIR=scratch, PATH="/usr/bin:/bin", LANG="C.UTF-8", OMP_NUM_THREADS="1")
    tempfile.tempdir = scratch
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 - it ends with the process
    for name, number, size in (("stdout", 1, buffering), ("stderr", 2, 1)):
        stream = open(number, "w", buffering=size, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    random.seed(seed)  # the same output whenever it is asked


def _limit(settings: dict[str, Any]) -> None:
    seconds, processes = int(settings["cpu_seconds"]), int(settings["max_processes"])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    for kind, most in (
        (resource.RLIMIT_AS, int(settings["memory_mb"]) << 20),
        (resource.RLIMIT_FSIZE, int(settings["file_mb"]) << 20),
        (resource.RLIMIT_NPROC, processes + 2),  # those that serve may count, too
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def end_all(serving: Serving, child: int) -> int:
    """Kill a call's process and all that comes of it; its wait status."""
    return end_each(serving, [child])[child]


def end_each(serving: Serving, begun: list[int]) -> dict[int, int]:
    """Kill some processes and all that comes of them; the wait status of each of them.

    A signal to all of a process namespace, or of a user, reaches every process at one moment, so that nothing forks away. Where
    neither is there, the groups go first, and what has left them is found as a child of ours once it has lost its parents.
    """
    statuses = dict.fromkeys(begun, 0)
    while True:
        if serving.inside:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        elif serving.user is not None:
            _kill_all_of(serving.user)
        else:
            for pid in [*(-one for one in begun), *_children()]:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        try:
            while True:
                pid, found = os.waitpid(-1, 0 if serving.inside else os.WNOHANG)
                if pid == 0:
                    time.sleep(0.001)
                    break
                if pid in statuses:
                    statuses[pid] = found
        except ChildProcessError:
            return statuses


def _kill_all_of(user: int) -> None:
    killer = os.fork()
    if killer == 0:
        try:
            os.setresuid(user, user, user)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(killer, 0)


def _children() -> list[int]:
    pid = os.getpid()
    return [int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


if __name__ == "__main__":
    main()
