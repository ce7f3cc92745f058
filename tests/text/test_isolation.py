"""Worker processes: whatever an answer does to the process that compares it, the caller gets a verdict and goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from redi_ray.config.answers import AnswerSettings
from redi_ray.schemas import Verdict
from redi_ray.text.isolation import ComparingPool

FINE = ("x+1", "1+x")
HANGS = ("5", "9^{9^{9^{9}}}")


@pytest.fixture(scope="module")
def pool() -> Iterator[ComparingPool]:
    pool = ComparingPool(AnswerSettings(), timeout_seconds=1.5, memory_mb=1024, processes=2)
    yield pool
    pool.close()


def test_starts_when_needed(pool):
    assert all(worker.process is None for worker in pool.workers), "sympy costs seconds; most shards may not need it"
    assert pool.compare_many([]) == []
    assert all(worker.process is None for worker in pool.workers)


def test_hangs_end_and_the_rest_is_unchanged(pool):
    pairs = [FINE, HANGS, ("x+1", "2+x"), HANGS, FINE]
    expected = [Verdict.CORRECT, Verdict.TIMEOUT, Verdict.WRONG, Verdict.TIMEOUT, Verdict.CORRECT]
    assert pool.compare_many(pairs) == expected
    assert pool.compare_many(pairs[:1]) == [Verdict.CORRECT], "killed processes are replaced"


def test_a_busy_machine_is_no_time_out(pool):
    """A process that gets no processor for longer than the limit has not used it up."""
    assert pool.compare_many([FINE]) == [Verdict.CORRECT]
    running = [worker.process.pid for worker in pool.workers if worker.process is not None]
    for pid in running:
        os.kill(pid, signal.SIGSTOP)
    again = threading.Timer(2.5, lambda: [os.kill(pid, signal.SIGCONT) for pid in running])
    again.start()
    assert pool.compare_many([FINE, HANGS, ("x+1", "2+x")]) == [Verdict.CORRECT, Verdict.TIMEOUT, Verdict.WRONG]
    again.join()


def test_a_stalled_process_is_replaced():
    """One that is never woken again costs its request nothing but time."""
    pool = ComparingPool(AnswerSettings(), timeout_seconds=1.0)
    assert pool.compare_many([FINE]) == [Verdict.CORRECT]
    (worker,) = pool.workers
    assert worker.process is not None
    stopped, worker.patience = worker.process, 2.0
    os.kill(stopped.pid, signal.SIGSTOP)
    later = threading.Timer(1.0, setattr, (worker, "patience", 100.0))  # the machine may be busy in earnest
    later.start()
    assert pool.compare_many([FINE]) == [Verdict.CORRECT]
    assert stopped.poll() == -signal.SIGKILL
    later.join()
    pool.close()


def test_out_of_memory_is_an_error():
    """Math-Verify's own handler would turn this into "not equal", that is, into a rejected trace."""
    small = ComparingPool(AnswerSettings(), timeout_seconds=60, memory_mb=512)
    assert small.compare_many([("5", "2^{2^{40}}"), FINE]) == [Verdict.ERROR, Verdict.CORRECT]
    small.close()


def test_a_killed_process_costs_nothing(pool):
    """The request of a process that someone kills is tried again."""
    assert pool.compare_many([FINE, FINE]) == [Verdict.CORRECT] * 2
    for worker in pool.workers:
        if worker.process is not None:
            os.kill(worker.process.pid, signal.SIGKILL)
    assert pool.compare_many([FINE, ("x", "y"), FINE]) == [Verdict.CORRECT, Verdict.WRONG, Verdict.CORRECT]


def test_off_the_main_thread():
    """Async UDFs and thread pools run elsewhere, where signals do not work."""
    verdicts: list[Verdict] = []

    def work() -> None:
        own = ComparingPool(AnswerSettings(), timeout_seconds=1.5)
        verdicts.extend(own.compare_many([HANGS, FINE]))
        own.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert verdicts == [Verdict.TIMEOUT, Verdict.CORRECT]


def test_a_process_that_cannot_start_is_an_error_of_ours():
    pool = ComparingPool(AnswerSettings(), memory_mb=40)
    with pytest.raises(RuntimeError, match="did not start"):
        pool.compare_many([FINE])
    pool.close()


def test_settings_reach_the_process():
    pool = ComparingPool(AnswerSettings(strict_variables=False, float_rounding=2))
    assert pool.compare_many([("f(x)", "f(y)"), ("1/3", "0.333")]) == [Verdict.CORRECT] * 2
    pool.close()
