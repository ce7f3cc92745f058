"""Models held by another process, for a server that must stay small and never hang: one question at a time, each with a limit."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from redi_ray.talk.models import TalkError
from redi_ray.text.templates import Message

QUESTION_SECONDS = 300.0
"""For a question, loading the models included; then the process is ended."""
IDLE_SECONDS = 600.0
"""Without a question the process ends after this, and frees what it held."""
MOST_MODELS = 4
MOST_CHARS = 100_000
"""Of a question with all that was said before it."""
MOST_TOKENS = 4096
"""Of an answer."""
PIECE = 65_536


class Busy(TalkError):
    """Another question is being answered."""


class TalkProcess:
    """Answers questions in a process of its own, started when the first one comes."""

    def __init__(self, question_seconds: float = QUESTION_SECONDS, idle_seconds: float = IDLE_SECONDS) -> None:
        self.question_seconds, self.idle_seconds = question_seconds, idle_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()
        self._idle: threading.Timer | None = None

    def ask(
        self,
        run: str,
        models: Sequence[str],
        question: str,
        *,
        problem: str | None = None,
        histories: Mapping[str, Sequence[Message]] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What `redi_ray.talk.worker` answers. Raises Busy, or TalkError for what cannot be asked or takes too long."""
        asked = {
            "run": run,
            "models": list(models),
            "question": question,
            "problem": problem,
            "histories": dict(histories or {}),
            "settings": bounded(settings or {}),
        }
        line = json.dumps(asked).encode() + b"\n"
        if not 1 <= len(models) <= MOST_MODELS:
            raise TalkError(f"ask 1 to {MOST_MODELS} models at a time, not {len(models)}")
        if len(line) > MOST_CHARS:
            raise TalkError(f"the chat is longer than {MOST_CHARS:,} characters; begin a new one")
        if not self._turn.acquire(blocking=False):
            raise Busy("another question is being answered; ask again in a moment")
        try:
            self._stop_waiting()
            told = self._exchange(line)
        finally:
            self._wait_idle()
            self._turn.release()
        if "error" in told:
            raise TalkError(told["error"])
        return told

    def close(self) -> None:
        """End the process."""
        self._stop_waiting()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _exchange(self, line: bytes) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "redi_ray.talk.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            return json.loads(self._line(process.stdout.fileno()))
        except TimeoutError:
            self.close()
            raise TalkError(f"no answer within {self.question_seconds:g} s; allow it fewer tokens") from None
        except (OSError, EOFError):
            self.close()
            raise TalkError("the process that held the models has ended; they may not fit into memory") from None

    def _line(self, source: int) -> bytes:
        """A line, or TimeoutError, or EOFError."""
        read, deadline = bytearray(), time.monotonic() + self.question_seconds
        with selectors.DefaultSelector() as ready:
            ready.register(source, selectors.EVENT_READ)
            while not read.endswith(b"\n"):
                if not ready.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                piece = os.read(source, PIECE)
                if not piece:
                    raise EOFError
                read += piece
        return bytes(read)

    def _wait_idle(self) -> None:
        self._idle = threading.Timer(self.idle_seconds, self._end_idle)
        self._idle.daemon = True
        self._idle.start()

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()

    def _end_idle(self) -> None:
        if self._turn.acquire(blocking=False):  # else a question has just come
            try:
                self.close()
            finally:
                self._turn.release()


def bounded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose answers end. Raises TalkError for one that is not there."""
    known = ("temperature", "top_p", "max_tokens", "seed")
    if unknown := [name for name in settings if name not in known]:
        raise TalkError(f"no setting {', '.join(unknown)}; there are {', '.join(known)}")
    return {**settings, "max_tokens": min(int(settings.get("max_tokens", MOST_TOKENS)), MOST_TOKENS)}
