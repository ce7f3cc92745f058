"""Processes that compare answers and can be killed: no signal, thread or event loop of the caller is involved.

Math-Verify's own time-out is a signal, which works on a main thread only and cannot interrupt a big-integer power. Here
the limits are the operating system's, and count the processor time that a comparison takes: on a busy machine, or one that
was suspended, the same comparison takes longer and gets the same verdict. By the clock the caller only notices a process
that gets no processor at all; it kills that and tries once more in a fresh one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO

from redi_ray.config.answers import AnswerSettings
from redi_ray.schemas import Verdict

START_SECONDS = 180.0
"""Limit for starting a process: importing sympy takes 1-2 s, more on a loaded machine or a network disk."""
PATIENCE, PATIENCE_SECONDS = 10, 10.0
"""A process has stalled when a reply takes so many times the limit on processor time, and so many seconds, by the clock."""
SENT_AHEAD = 16
PIPE_BYTES = 32_768
"""Requests in a pipe at most, in number and size; a pipe holds 64 KiB, and a write to a full one would block."""
ENDED = (Verdict.TIMEOUT.value, "died", "exhausted", "stalled")
"""Replies after which a process is of no more use."""
MAX_SERVED = 20_000
"""A process is replaced after this many comparisons, since sympy's caches grow."""


class ComparingProcess:
    """One worker process and the requests sent to it, oldest first. It starts at the first request.

    Several requests are sent ahead, so that the process need not wait for its caller to be scheduled between them.
    """

    def __init__(self, settings: AnswerSettings, timeout_seconds: float, memory_mb: int) -> None:
        self.patience = PATIENCE * timeout_seconds + PATIENCE_SECONDS
        self.options = {"settings": asdict(settings), "timeout_seconds": timeout_seconds, "memory_mb": memory_mb}
        self.process: subprocess.Popen[bytes] | None = None
        self.errors: IO[bytes] | None = None
        self.pending: deque[tuple[int, int]] = deque()
        """Index and size of each request without a reply."""
        self.ready = False
        self.served = 0
        self.deadline = 0.0
        """When the process has stalled over the oldest request."""
        self.started_at = 0.0
        self.start_seconds = 0.0
        """Time its starts have taken so far."""

    def _start(self) -> None:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        options = {**self.options, "warm": self.start_seconds == 0}  # after a kill, being back soon counts more
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "redi_ray.text.worker", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C in a terminal is for the caller to handle
        )
        self.ready, self.served, self.started_at = False, 0, time.monotonic()
        self.deadline = self.started_at + START_SECONDS

    def accepts(self, size: int) -> bool:
        """Whether a request of `size` bytes can be written without waiting for the process to read."""
        if not self.pending:
            return True
        full = sum(waiting for _, waiting in self.pending) + size > PIPE_BYTES
        return not full and len(self.pending) < SENT_AHEAD and self.served + len(self.pending) < MAX_SERVED

    def submit(self, index: int, request: bytes) -> None:
        if not self.pending and self.served >= MAX_SERVED:
            self.kill()
        if self.process is None:
            self._start()
        elif not self.pending:
            self.deadline = time.monotonic() + self.patience
        self.pending.append((index, len(request)))
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(request)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died; `receive` finds out

    def fileno(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def receive(self) -> list[tuple[int, str]]:
        """Replies that have come, each with its request's index: a `Verdict` value (`timeout` if its processor time ran out,
        which ends the process), or `died` if the process ended otherwise.

        Raises RuntimeError when a process cannot even start.
        """
        reply = os.read(self.fileno(), 4096)
        if not reply and not self.ready:
            raise RuntimeError(f"a comparing process did not start (memory_mb too small?): {self._last_words()}")
        if not reply:
            late = self.process is not None and self.process.wait() == -signal.SIGPROF
            return [(self.pending.popleft()[0], Verdict.TIMEOUT.value if late else "died")]
        replies = []
        for line in reply.decode().split():
            now = time.monotonic()
            self.deadline = now + self.patience
            if line == "ready":
                self.ready, self.start_seconds = True, self.start_seconds + now - self.started_at
            else:
                self.served += 1
                replies.append((self.pending.popleft()[0], line))
        return replies

    def _last_words(self) -> str:
        assert self.errors is not None
        self.errors.seek(0)
        return self.errors.read()[-2000:].decode(errors="replace").strip()

    def kill(self) -> list[int]:
        """End the process; the indices of the requests it still owed."""
        owed = [index for index, _ in self.pending]
        self.pending.clear()
        if self.process is None:
            return owed
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            try:
                if stream is not None:
                    stream.close()
            except BrokenPipeError:
                pass  # unsent bytes for the process that was killed
        self.process, self.errors = None, None
        return owed


class ComparingPool:
    """`processes` worker processes for the comparisons that the fast path leaves open."""

    def __init__(
        self, settings: AnswerSettings, *, timeout_seconds: float = 5.0, memory_mb: int = 2048, processes: int = 1
    ) -> None:
        self.workers = [ComparingProcess(settings, timeout_seconds, memory_mb) for _ in range(processes)]

    def compare_many(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """One verdict for each (gold, answer), in order: `timeout` past the limit, `error` on a crash or no memory.

        A request whose process stalled, or failed after serving others, is tried once more in a fresh one, so that a verdict
        does not depend on what was compared before it, or on what else the machine had to do.
        """
        verdicts = [Verdict.ERROR] * len(pairs)
        waiting = deque(range(len(pairs)))
        failed: set[int] = set()
        try:
            while waiting or any(worker.pending for worker in self.workers):
                self._submit(pairs, waiting)
                busy = [worker for worker in self.workers if worker.pending]
                left = min(worker.deadline for worker in busy) - time.monotonic()
                readable, _, _ = select.select(busy, [], [], max(0.0, left))
                for worker in busy:
                    for index, reply in self._replies(worker, worker in readable):
                        if reply not in ("died", "exhausted", "stalled"):
                            verdicts[index] = Verdict(reply)
                        elif reply == "stalled" and index in failed:
                            verdicts[index] = Verdict.TIMEOUT
                        elif index not in failed and (reply == "stalled" or worker.served > (reply == "exhausted")):
                            failed.add(index)
                            waiting.appendleft(index)
                        if reply in ENDED:
                            waiting.extend(worker.kill())
        finally:
            for worker in self.workers:
                if worker.pending:  # an exception is on its way: the replies would be taken for later requests'
                    worker.kill()
        return verdicts

    def _submit(self, pairs: Sequence[tuple[str, str]], waiting: deque[int]) -> None:
        """Hand out requests in turn until all are out or no process accepts one."""
        accepted = True
        while waiting and accepted:
            accepted = False
            for worker in sorted(self.workers, key=lambda worker: len(worker.pending)):
                request = json.dumps(pairs[waiting[0]]).encode() + b"\n"
                if worker.accepts(len(request)):
                    worker.submit(waiting.popleft(), request)
                    accepted = True
                    break

    def _replies(self, worker: ComparingProcess, readable: bool) -> list[tuple[int, str]]:
        if readable:
            return worker.receive()
        if time.monotonic() < worker.deadline:
            return []
        return [(worker.pending.popleft()[0], "stalled")]

    @property
    def start_seconds(self) -> float:
        """Time that starting processes has taken so far, summed over them."""
        return sum(worker.start_seconds for worker in self.workers)

    def close(self) -> None:
        """End the processes; the pool may be used again."""
        for worker in self.workers:
            worker.kill()
