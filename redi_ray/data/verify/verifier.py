"""Verdicts for many completions in one process: fast path, cache, and killable workers for the rest; or by tests. No Ray here."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from redi_ray.config.answers import VerifySettings
from redi_ray.data.verify.tested import CodeVerifier, Tested
from redi_ray.schemas import Verdict
from redi_ray.text.answers import AnswerVerdict, Reading, extract_answer, quick_verdict, read_row
from redi_ray.text.code_tests import CodeTests
from redi_ray.text.isolation import ComparingPool

UNSURE = (Verdict.TIMEOUT, Verdict.ERROR)
"""Verdicts that may be the machine's doing, not the answer's."""
BELIEVED_AFTER = 3
"""Comparisons of one pair that must end so before it is no longer compared: one bad moment must not decide for a whole
corpus, nor may an answer that always hangs cost its limit every time it occurs."""


@dataclass
class PathCounts:
    """How comparisons were decided."""

    quick: int = 0
    """By the fast path."""
    cached: int = 0
    """Seen before, by this verifier."""
    compared: int = 0
    """By Math-Verify."""
    tested: int = 0
    """Solutions that were run against tests."""
    start_seconds: float = 0.0
    """Spent starting worker processes."""
    verify_seconds: float = 0.0
    """Spent on verdicts, starts excluded."""


class AnswerVerifier:
    """Judges (gold, completion) rows. Owns worker processes: use as a context manager, or call `close`."""

    def __init__(self, settings: VerifySettings) -> None:
        self.settings = settings
        self.counts = PathCounts()
        self._cache: OrderedDict[tuple[str, str], Verdict] = OrderedDict()
        self._unsure: OrderedDict[tuple[str, str], int] = OrderedDict()
        """How often a pair has ended in one of `UNSURE`."""
        self._code: CodeVerifier | None = None
        self._pool = ComparingPool(
            settings.answers,
            timeout_seconds=settings.timeout_seconds,
            memory_mb=settings.memory_mb,
            processes=settings.processes,
        )

    def verify_many(
        self, rows: Sequence[tuple[object, object]], finished: Sequence[bool] | None = None
    ) -> list[AnswerVerdict]:
        """One verdict per (gold, completion), in order. Values of any type are fine: what is no text is an `error`.

        `finished[i]` is False where completion i was cut off at its token limit (see `extract_answer`).
        """
        begun, flags = time.perf_counter(), finished if finished is not None else [True] * len(rows)
        readings = [
            read_row(gold, completion, self.settings.answers, finished=flag)
            for (gold, completion), flag in zip(rows, flags, strict=True)
        ]
        verdicts = [self._known(reading) for reading in readings]
        waiting: dict[tuple[str, str], list[int]] = {}
        for index, (reading, verdict) in enumerate(zip(readings, verdicts, strict=True)):
            if verdict is None and reading.answer is not None:
                waiting.setdefault((reading.gold, reading.answer), []).append(index)
        for pair, verdict in zip(waiting, self._pool.compare_many(list(waiting)), strict=True):
            self._remember(pair, verdict)
            for index in waiting[pair]:
                verdicts[index] = verdict
        self.counts.compared += len(waiting)
        self._clock(begun)
        self.counts.cached += sum(len(indices) - 1 for indices in waiting.values())
        return [reading.conclude(v or Verdict.ERROR) for reading, v in zip(readings, verdicts, strict=True)]

    def test_many(self, rows: Sequence[tuple[str, CodeTests, bool]]) -> list[Tested]:
        """What tests say of each (completion, tests, whether it is finished), in order; see `redi_ray.data.verify.tested`."""
        begun = time.perf_counter()
        if self._code is None:
            assert self.settings.tests is not None
            self._code = CodeVerifier(self.settings.tests, self.settings.processes, self.settings.cache_size)
        found = self._code.verify_many(rows)
        self._clock(begun)
        self.counts.tested = self._code.tested
        return found

    def _clock(self, begun: float) -> None:
        code = 0.0 if self._code is None else self._code.start_seconds
        started = self._pool.start_seconds + code - self.counts.start_seconds
        self.counts.start_seconds += started
        self.counts.verify_seconds += time.perf_counter() - begun - started

    def extract_many(self, completions: Sequence[object], finished: Sequence[bool]) -> list[str | None]:
        """The extracted answers alone, for rows whose votes come from elsewhere."""
        settings = self.settings.answers
        return [
            extract_answer(text, settings, finished=flag) if isinstance(text, str) else None
            for text, flag in zip(completions, finished, strict=True)
        ]

    def _known(self, reading: Reading) -> Verdict | None:
        """The verdict where no comparison is needed."""
        if reading.verdict is not None or reading.answer is None:
            return reading.verdict
        pair = (reading.gold, reading.answer)
        verdict = self._cache.get(pair)
        if verdict is not None:
            self._cache.move_to_end(pair)
            self.counts.cached += 1
            return verdict
        verdict = quick_verdict(*pair)
        if verdict is not None:
            self.counts.quick += 1
            self._remember(pair, verdict)
        return verdict

    def _remember(self, pair: tuple[str, str], verdict: Verdict) -> None:
        seen = self._unsure.pop(pair, 0) + 1
        if verdict in UNSURE and seen < BELIEVED_AFTER:
            self._unsure[pair] = seen
            if len(self._unsure) > self.settings.cache_size:
                self._unsure.popitem(last=False)
            return
        self._cache[pair] = verdict
        if len(self._cache) > self.settings.cache_size:
            self._cache.popitem(last=False)

    def close(self) -> None:
        """End the worker processes. The verifier may be used again; they then start anew."""
        self._pool.close()
        if self._code is not None:
            self._code.close()

    def __enter__(self) -> AnswerVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
