"""The process that runs solutions: `python -m redi_ray.tools.programs SETTINGS FOLDER`, the settings being JSON.

It leaves the machine as `redi_ray.tools.interpreter` does and says `{"ready": true}`. A request is a header (`HEADER`), then the
code, then what it is given. Both are read by the process that is forked for the code, and nothing that a run writes is kept here,
so that no solution is born with the memory of what was there before it. What is expected never comes here in the first place, but
for assertions, which have a process of their own (`redi_ray.tools.asserts`). The answer is a line of JSON, and bytes behind it.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import resource
import select
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from redi_ray.tools import asserts
from redi_ray.tools.interpreter import OUTPUT, WALL_TIME, Serving, confine, end_each, enter, reply, scratch_folder
from redi_ray.tools.namespaces import keep_secret
from redi_ray.tools.solution import call, load, run_program

STDIN, CALL, ASSERT = 0, 1, 2
"""What is done with code: it is run with an input, one of its functions is called, or what assertions ask is done."""
HEADER = struct.Struct("!BIIII")
"""One of these, bytes of the code, of what stands in front of it, of what it is given; a seed."""
EXIT, SIGNAL = "exit", "signal"
"""How a process ended by itself: `code` is its status, or the signal that ended it."""
ERROR_BYTES = 4096
"""Of what is written to standard error the end is kept."""
CHUNK = 65_536
_SCHEDULED = 2
"""Of a process's clock, which the kernel names by its number: what it has had of the processors, whoever it is."""
_LITTLE = 1e-3
"""Seconds of processor time that are none: who waits wakes up now and then."""


def main() -> None:
    serving, requests, replies = enter()
    sys.set_int_max_str_digits(0)
    reply(replies, {"ready": True})
    said = Said(int(serving.settings["output_bytes"]))
    while header := _exactly(requests, HEADER.size):
        with scratch_folder(serving) as scratch:
            told = _run(serving, HEADER.unpack(header), scratch, requests, said)
        with said.spoken() as (output, errors):
            reply(replies, {**told, "output_bytes": len(output), "error_bytes": len(errors)})
            _write(replies, output)
            _write(replies, errors)


def _write(replies: int, left: memoryview) -> None:
    while left:
        left = left[os.write(replies, left) :]


class Said:
    """What a run writes: its output up to a limit, the end of its errors. Wiped before the next one."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._output, self._errors = memoryview(bytearray(limit + 1)), memoryview(bytearray(2 * ERROR_BYTES))
        self._length = self._error_length = self._errors_seen = 0

    @property
    def is_full(self) -> bool:
        return self._length > self.limit or self._errors_seen > self.limit

    def take_output(self, out: int) -> bool:
        """Read on; False at the end."""
        if self._length > self.limit:
            return False
        count = os.readv(out, [self._output[self._length :]])
        self._length += count
        return count > 0

    def take_errors(self, err: int) -> bool:
        """The same of errors."""
        if self._error_length > ERROR_BYTES:
            kept = self._error_length - ERROR_BYTES
            self._errors[:ERROR_BYTES] = self._errors[kept : self._error_length]
            self._error_length = ERROR_BYTES
        count = os.readv(err, [self._errors[self._error_length :]])
        self._error_length += count
        self._errors_seen += count
        return count > 0

    @contextmanager
    def spoken(self) -> Iterator[tuple[memoryview, memoryview]]:
        """Output and errors for the block."""
        yield self._output[: min(self._length, self.limit)], self._errors[: self._error_length]
        self._output[: self._length] = bytes(self._length)
        self._errors[:] = bytes(2 * ERROR_BYTES)
        self._length = self._error_length = self._errors_seen = 0


def _exactly(source: int, size: int) -> bytes:
    """So many bytes; none at the end of the source."""
    found, length = bytearray(size), 0
    while length < size and (count := os.readv(source, [memoryview(found)[length:]])):
        length += count
    return bytes(found) if length == size else b""


def _run(serving: Serving, request: tuple[Any, ...], scratch: str, requests: int, said: Said) -> dict[str, Any]:
    """One run, from its processes to the last one that they leave."""
    mode, *sizes, seed = request
    used, read = _processor_seconds(), os.pipe()
    (out, into), (err, errors) = os.pipe(), os.pipe()
    ends = asserts.channel() if mode == ASSERT else None
    begun = [_fork(serving, requests, read[1], lambda: _Solution(mode, sizes, into, errors, ends, scratch, seed))]
    _wait_for(read[0])
    if ends is not None:
        begun.append(_fork(serving, requests, read[1], lambda: _Assertions(sizes, into, errors, ends, scratch, seed)))
        _wait_for(read[0])
        for end in ends:
            os.close(end)
    for end in (*read, into, errors):
        os.close(end)
    late = _follow(serving, begun, out, err, requests, said)
    statuses = end_each(serving, begun)
    _rest(out, err, said)
    os.close(out)
    os.close(err)
    late = late or (OUTPUT if said.is_full else None)
    told = {"seconds": round(_processor_seconds() - used, 4), "solution": _ending(statuses[begun[0]])}
    return {**told, "ended": late} if late is not None else {**told, **_ending(statuses[begun[-1]])}


def _processor_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _ending(status: int) -> dict[str, Any]:
    if os.WIFSIGNALED(status):
        return {"ended": SIGNAL, "code": os.WTERMSIG(status)}
    return {"ended": EXIT, "code": os.WEXITSTATUS(status)}


def _fork(serving: Serving, requests: int, read: int, job: Any) -> int:
    """The process of a job, which reads its part of the request, says so, and never comes back."""
    child = os.fork()
    if child == 0:
        try:
            one = job()
            one.prepare(requests)
            os.write(read, b".")
            one.run(serving)
        finally:
            os._exit(1)
    return child


def _wait_for(read: int) -> None:
    """Until a process has read its part. One that has not would leave it for the next: then all ends here, and begins anew."""
    if not select.select([read], [], [], 60)[0] or not os.read(read, 1):
        os._exit(1)


def _follow(serving: Serving, begun: list[int], out: int, err: int, caller: int, said: Said) -> str | None:
    """Read until the last of the processes has ended; why it is not waited for any longer, or None."""
    ended = os.pidfd_open(begun[-1])
    watch = select.poll()
    for end, events in ((out, select.POLLIN), (err, select.POLLIN), (ended, select.POLLIN), (caller, 0)):
        watch.register(end, events)
    deadline = time.monotonic() + float(serving.settings["wall_seconds"])
    idle = _Idle(begun, float(serving.settings["idle_seconds"]))
    try:
        while True:
            found = dict(watch.poll(max(0.0, min(deadline - time.monotonic(), idle.seconds)) * 1000))
            if caller in found and found[caller] & ~select.POLLIN:
                end_each(serving, begun)
                os._exit(0)
            for end, take in ((out, said.take_output), (err, said.take_errors)):
                if end in found and not take(end):
                    watch.unregister(end)
            if said.is_full:
                return OUTPUT
            if ended in found:
                return None
            if time.monotonic() >= deadline or idle.is_over():
                return WALL_TIME
    finally:
        os.close(ended)


class _Idle:
    """Whether processes take no processor time any more."""

    def __init__(self, begun: list[int], seconds: float) -> None:
        self.clocks, self.seconds = [(~pid << 3) | _SCHEDULED for pid in begun], seconds
        self.spent, self.since = 0.0, time.monotonic()

    def is_over(self) -> bool:
        """Whether they have taken none for so many seconds by the clock."""
        now = time.monotonic()
        if now - self.since < self.seconds:
            return False
        with suppress(OSError):  # one of them has ended
            spent = sum(map(time.clock_gettime, self.clocks))
            over, self.spent, self.since = spent - self.spent < _LITTLE, spent, now
            return over
        return False


def _rest(out: int, err: int, said: Said) -> None:
    """What stands in the pipes when all processes are gone."""
    for end, take in ((out, said.take_output), (err, said.take_errors)):
        os.set_blocking(end, False)
        with suppress(BlockingIOError):
            while not said.is_full and take(end):
                pass


def place(files: dict[int, int]) -> None:
    """Of this process's open files leave these alone, under these numbers, which are all that there are from 0 on."""
    high = {number: fcntl.fcntl(file, fcntl.F_DUPFD, 1000) for number, file in files.items()}
    for number, file in high.items():
        os.dup2(file, number)
    os.closerange(len(files), 4096)


def nothing() -> int:
    """A file that is empty, and takes everything."""
    return os.open(os.devnull, os.O_RDWR)


class _Solution:
    """In the process of a solution."""

    def __init__(
        self, mode: int, sizes: list[int], out: int, err: int, ends: tuple[int, int] | None, scratch: str, seed: int
    ) -> None:
        self.mode, self.sizes, self.out, self.err, self.ends = mode, sizes, out, err, ends
        self.scratch, self.seed = scratch, seed

    def prepare(self, requests: int) -> None:
        """Read code and input. What assertions say stays where it is."""
        code, front, given = self.sizes
        self.code, self.front = (_exactly(requests, size).decode("utf-8", "replace") for size in (code, front))
        self.given = b"" if self.mode == ASSERT else _exactly(requests, given)

    def run(self, serving: Serving) -> NoReturn:
        empty = nothing()
        if self.mode == STDIN:
            stdin = os.memfd_create("stdin")
            with open(stdin, "wb", closefd=False) as file:
                file.write(self.given)
            os.lseek(stdin, 0, os.SEEK_SET)
            place({0: stdin, 1: self.out, 2: self.err})
        else:
            place({0: empty, 1: empty, 2: self.err, 3: self.ends[0] if self.ends else self.out})
        confine(serving, self.scratch, self.seed, buffering=CHUNK)
        atexit._clear()
        os._exit(self._status())

    def _status(self) -> int:
        if self.mode == STDIN:
            return run_program(self.code)
        names = load(self.code, self.front)
        if self.mode == ASSERT:
            return asserts.answer(3, names)
        return 1 if names is None else call(names, self.given, 3)


class _Assertions:
    """In the process of assertions about a solution."""

    def __init__(self, sizes: list[int], out: int, err: int, ends: tuple[int, int], scratch: str, seed: int) -> None:
        self.sizes, self.out, self.err, self.ends, self.scratch, self.seed = sizes, out, err, ends, scratch, seed

    def prepare(self, requests: int) -> None:
        """Read what they say."""
        self.told = _exactly(requests, self.sizes[2])

    def run(self, serving: Serving) -> NoReturn:
        empty = nothing()
        place({0: empty, 1: empty, 2: empty, 3: self.out, 4: self.ends[1]})
        confine(serving, self.scratch, self.seed, buffering=CHUNK)
        keep_secret()
        os._exit(asserts.check(self.told, channel=4, report=3))


if __name__ == "__main__":
    main()
