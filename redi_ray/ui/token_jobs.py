"""Numbers of tokens that somebody asked for on a page: worked out by a process of their own, one row at a time, and kept.

That process (`redi_ray.report.token_series`) holds a tokenizer and, while it scores, a model; it ends when nothing was asked of
it for a while, is ended where a row takes too long, and nothing of it is in this one. What came out is kept in a folder that
goes with the server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Full, Queue
from typing import Any

import psutil

from redi_ray.errors import UserError
from redi_ray.modeling.limits import FLOAT32, count_parameters
from redi_ray.report.token_series import READY
from redi_ray.store.storage import content_hash

SECONDS = 180
"""That one row may take, the start of the process and of a model in it."""
WAITING, KEPT = 8, 1000
"""Rows that may wait, and series that are kept."""
RETRY_SECONDS = 60
"""What failed is tried again when it is asked for so much later."""
ROOM = 1.5
"""Memory that a model takes, over that of its weights."""


class TooLarge(UserError):
    """A model that does not fit into this machine's memory."""


class IdleEnd(OSError):
    """The process ends when it has had nothing to do for a while, which may be just now."""


@dataclass(frozen=True)
class Wanted:
    """A series of a row."""

    how: Any
    """What its worker is told: a model's folder, or a column's values."""
    key: str
    """What decides it beside the row: the key of a model's or a column's output."""


@dataclass
class Answer:
    """What is known of the series that were asked for."""

    series: dict[str, Any] = field(default_factory=dict)
    """By name, those that are there; `{"error": why}` for one that cannot be."""
    since: float | None = None
    """Seconds that the others have been worked on, or waited for; None where all are there."""


def require_room(model: str, export: str, parameters: int | None, instead: str) -> None:
    """Raise TooLarge, saying what to do `instead`, unless the model fits into the memory that is free."""
    size = (parameters or count_parameters(export) or 0) * FLOAT32
    free = psutil.virtual_memory().available
    if size * ROOM > free:
        raise TooLarge(
            f"{model} takes about {size * ROOM / 2**30:.1f} GiB in float32, and this machine has {free / 2**30:.1f} GiB free: "
            f"{instead}"
        )


class TokenJobs:
    """The work that was asked for, in order."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._folder = tempfile.TemporaryDirectory(prefix="redi_ray_ui_")
        self._words = Path(self._folder.name) / "said"
        self._queue: Queue[dict[str, Any]] = Queue(WAITING)
        self._begun: dict[str, float] = {}
        """Series that are worked on or wait: file -> since when."""
        self._failed: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def ask(self, run: str, row: Mapping[str, Any], table: str, wanted: Mapping[str, Wanted]) -> Answer:
        """The series of a row, those that are not there being begun. Raises UserError where too much is waiting already."""
        place = content_hash([run, table, json.loads(json.dumps(row, default=str))])
        files = {name: content_hash([place, name, one.key]) for name, one in wanted.items()}
        answer, lacking = Answer(), dict[str, Wanted]()
        with self._lock:
            for name, file in files.items():
                found = self._found(file)
                if found is not None:
                    answer.series[name] = found
                else:
                    lacking[name] = wanted[name]
            new = {name: one for name, one in lacking.items() if files[name] not in self._begun}
            if new:
                told = {name: one.how for name, one in new.items()}
                self._add({"run": run, "row": dict(row), "table": table, "series": told}, files)
        if lacking:
            begun = [self._begun[files[name]] for name in lacking if files[name] in self._begun]
            answer.since = time.monotonic() - min(begun, default=time.monotonic())
        return answer

    def close(self) -> None:
        """End the process, if there is one, and drop what was kept."""
        self._end()
        self._folder.cleanup()

    def _found(self, file: str) -> Any:
        if file in self._failed and time.monotonic() - self._failed[file][0] < RETRY_SECONDS:
            return {"error": self._failed[file][1]}
        path = Path(self._folder.name) / f"{file}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def _add(self, job: dict[str, Any], files: Mapping[str, str]) -> None:
        mine = {name: files[name] for name in job["series"]}
        try:
            self._queue.put_nowait({"job": job, "files": mine})
        except Full:
            raise UserError(f"{WAITING} rows are being looked at already; ask again when they are done") from None
        self._begun |= dict.fromkeys(mine.values(), time.monotonic())
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="token jobs", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            one = self._queue.get()
            answer = self._answer(one["job"])
            with self._lock:
                for name, file in one["files"].items():
                    self._keep(file, answer.get(name, {"error": "no answer came"}))
                    self._begun.pop(file, None)

    def _keep(self, file: str, found: Any) -> None:
        if isinstance(found, dict) and "error" in found:
            self._failed[file] = (time.monotonic(), found["error"])
            return
        self._failed.pop(file, None)
        folder = Path(self._folder.name)
        if folder.exists():
            (folder / f"{file}.json").write_text(json.dumps(found))
            for old in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
                old.unlink()

    def _answer(self, job: dict[str, Any]) -> dict[str, Any]:
        """What the process says; where it fails, that of every series."""
        line = json.dumps(job, default=str)
        try:
            try:
                return self._exchange(line)
            except IdleEnd:
                return self._exchange(line)
        except Exception as error:  # whatever it is, a page that waits is told
            self._end()
            return {name: {"error": str(error) or type(error).__name__} for name in job["series"]}

    def _exchange(self, line: str) -> dict[str, Any]:
        """Raises UserError where no answer comes in time, IdleEnd where the process has just ended by itself."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(self.seconds, process.kill)
        timer.start()
        told = ""
        try:
            with suppress(BrokenPipeError):  # it has ended; why is told below
                process.stdin.write(line + "\n")
                process.stdin.flush()
                told = process.stdout.readline()
        finally:
            in_time = timer.is_alive()
            timer.cancel()
        if told:
            return json.loads(told)[READY]
        if not in_time:
            raise UserError(
                f"this took longer than {self.seconds:.0f} s; have a column computed for all rows instead, by a step `logps`"
            )
        if process.wait() == 0:
            raise IdleEnd
        raise UserError(f"the process that looks at tokens has ended ({process.returncode}): {self._last_words()}")

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with open(self._words, "wb") as words:
            return subprocess.Popen(
                [sys.executable, "-m", "redi_ray.report.token_series"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                text=True,
                env=environment,
            )

    def _last_words(self) -> str:
        """What the process has said last; one that is killed says nothing."""
        said = self._words.read_bytes()[-2000:].decode("utf-8", "replace").split("\n") if self._words.exists() else []
        return next(
            (line.strip() for line in reversed(said) if line.strip()), "it said nothing; was there memory for it?"
        )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what it has not read
                    if pipe is not None:
                        pipe.close()
