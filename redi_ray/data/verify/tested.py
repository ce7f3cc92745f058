"""Verdicts by tests: a solution's code is run against its problem's tests in a sandbox, and compared outside of it. No Ray here.

| how a test ends | reason | verdict |
|---|---|---|
| the output, the value is not what is expected; an assertion does not hold | `wrong_output` | wrong |
| an error, or an exit with another status than 0 | `exception` | wrong |
| ended by a signal of its own doing, such as a stack that ran over | `crashed` | wrong |
| over its processor time, its memory, its output | `time`, `memory`, `output` | wrong |
| ended before it gave a value; gave one of no type that can be compared | `no_result`, `unreadable` | wrong |
| the code does not define the function | `no_function` | wrong |
| waited, or did not end by the clock; the time of all tests was over | `stalled`, `total_time` | timeout |
| killed from outside, as when the machine's memory runs out | `killed` | error |
| gave an object that assertions cannot compare; another verdict in a repetition | `unsure`, `flaky` | error |
| assertions that are no code that runs; more output is expected than is read | `bad_test` | gold_unparseable |

The verdict is `correct` if all tests pass, `wrong` if one fails so, else that of the first that does not pass. Without code in
the completion it is `no_answer`.
"""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from redi_ray.config.code import CodeSettings
from redi_ray.schemas import Verdict
from redi_ray.text.code import extract_code
from redi_ray.text.code_outputs import output_fault, same_value
from redi_ray.text.code_tests import AssertCase, CallCase, Case, CodeTests, StdinCase
from redi_ray.tools import asserts, values
from redi_ray.tools.interpreter import OUTPUT, WALL_TIME
from redi_ray.tools.programs import EXIT, SIGNAL
from redi_ray.tools.runner import DEAD, Assertions, Call, Run, Runner, Runners, Task
from redi_ray.tools.solution import NO_FUNCTION, NO_VALUE

PASSED = "passed"
VERDICTS: dict[str, Verdict] = {
    **dict.fromkeys(
        ("wrong_output", "exception", "crashed", "time", "memory", "output", "no_result", "unreadable", "no_function"),
        Verdict.WRONG,
    ),
    **dict.fromkeys(("stalled", "total_time"), Verdict.TIMEOUT),
    **dict.fromkeys(("killed", "unsure", "flaky"), Verdict.ERROR),
    "bad_test": Verdict.GOLD_UNPARSEABLE,
}
"""Reason why a test has not passed -> what it says of the solution."""
OWN_SIGNALS = (signal.SIGXCPU, signal.SIGPROF)
MOST_FAILURES = 20
"""Of a solution that are kept."""
DETAIL_CHARS = 300


@dataclass(frozen=True)
class Failure:
    """A test that has not passed."""

    test: int
    """Its number, from 0 on."""
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Tested:
    """What tests say of a completion."""

    verdict: Verdict
    code: str | None
    """None where it holds none."""
    total: int
    run: int = 0
    passed: int = 0
    seconds: float = 0.0
    """Processor time of all runs."""
    failures: list[Failure] = field(default_factory=list)
    """The first of them, and what ended the tests before the last."""

    def plain(self) -> dict[str, Any]:
        """As the table has it (`redi_ray.schemas.TESTED`)."""
        failures = [vars(failure) for failure in self.failures]
        return {name: getattr(self, name) for name in ("total", "run", "passed", "seconds")} | {"failures": failures}


class CodeVerifier:
    """Runs solutions against tests. Its sandbox starts with the first solution: use as a context manager, or call `close`."""

    def __init__(self, settings: CodeSettings, processes: int = 1, cache_size: int = 100_000) -> None:
        """processes: solutions that are run at a time. cache_size: solutions whose verdicts are remembered."""
        self.settings, self.processes, self.cache_size = settings, processes, cache_size
        self.start_seconds = 0.0
        self.tested = 0
        """Solutions that were run; the others were known, or hold no code."""
        self._cache: OrderedDict[bytes, Tested] = OrderedDict()
        self._runners: Runners | None = None

    def verify_many(self, rows: Sequence[tuple[str, CodeTests, bool]]) -> list[Tested]:
        """What the tests say of each (completion, tests, whether it is finished), in order.

        Raises SandboxError where there can be no sandbox.
        """
        languages = self.settings.languages
        codes = [extract_code(text, languages, finished=finished) for text, _, finished in rows]
        keys = [b"" if code is None else _key(code, tests) for code, (_, tests, _) in zip(codes, rows, strict=True)]
        new = {
            key: (code, tests)
            for key, code, (_, tests, _) in zip(keys, codes, rows, strict=True)
            if code is not None and key not in self._cache
        }
        found = dict(zip(new, self._run_all(list(new.values())), strict=True)) if new else {}
        self.tested += len(new)
        told = [
            Tested(Verdict.NO_ANSWER, None, len(tests.cases)) if code is None else found.get(key) or self._known(key)
            for key, code, (_, tests, _) in zip(keys, codes, rows, strict=True)
        ]
        for key, one in found.items():
            if one.verdict in (Verdict.CORRECT, Verdict.WRONG):  # what else there is may be the machine's doing
                self._cache[key] = one
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return told

    def _known(self, key: bytes) -> Tested:
        self._cache.move_to_end(key)
        return self._cache[key]

    def _run_all(self, solutions: list[tuple[str, CodeTests]]) -> Iterator[Tested]:
        runners = self._runners
        if runners is None:
            begun = time.perf_counter()
            runners = self._runners = Runners(self.settings.sandbox(self.processes)).start()
            self.start_seconds += time.perf_counter() - begun

        def one(solution: tuple[str, CodeTests]) -> Tested:
            with runners.one() as runner:
                return judge(runner, *solution, self.settings)

        with ThreadPoolExecutor(self.processes, thread_name_prefix="tests") as threads:
            yield from list(threads.map(one, solutions))

    def close(self) -> None:
        """End the sandbox. The verifier may be used again; it then starts anew."""
        if self._runners is not None:
            self._runners.close()
            self._runners = None

    def __enter__(self) -> CodeVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _key(code: str, tests: CodeTests) -> bytes:
    return hashlib.blake2b(json.dumps([code, tests.stored()]).encode(), digest_size=16).digest()


def judge(runner: Runner, code: str, tests: CodeTests, settings: CodeSettings) -> Tested:
    """Run code against tests, as often as the settings say."""
    deadline = time.monotonic() + settings.total_seconds
    first = _judged(runner, code, tests, settings, deadline, 0)
    for seed in range(1, settings.repeats):
        if first.verdict not in (Verdict.CORRECT, Verdict.WRONG):
            break
        again = _judged(runner, code, tests, settings, deadline, seed)
        if again.verdict != first.verdict:
            both = first.failures + again.failures
            told = f"{first.verdict}, with another seed {again.verdict}"
            failure = Failure(both[0].test if both else 0, "flaky", told)
            return Tested(
                Verdict.ERROR,
                code,
                first.total,
                again.run,
                again.passed,
                again.seconds,
                [failure, *both][:MOST_FAILURES],
            )
    return first


def _judged(runner: Runner, code: str, tests: CodeTests, settings: CodeSettings, deadline: float, seed: int) -> Tested:
    failures: list[Failure] = []
    run, spent = 0, 0.0
    for number, case in enumerate(tests.cases):
        if time.monotonic() > deadline:
            failures.append(Failure(number, "total_time", f"not run: {settings.total_seconds:g} s were over"))
            break
        reason, detail, seconds = run_case(runner, code, tests, case, settings, seed)
        run, spent = run + 1, spent + seconds
        if reason != PASSED:
            failures.append(Failure(number, reason, detail[:DETAIL_CHARS]))
            if not settings.run_all:
                break
    verdicts = [VERDICTS[failure.reason] for failure in failures]
    verdict = Verdict.WRONG if Verdict.WRONG in verdicts else next(iter(verdicts), Verdict.CORRECT)
    passed = run - sum(failure.reason != "total_time" for failure in failures)
    return Tested(verdict, code, len(tests.cases), run, passed, round(spent, 4), failures[:MOST_FAILURES])


def run_case(
    runner: Runner, code: str, tests: CodeTests, case: Case, settings: CodeSettings, seed: int = 0
) -> tuple[str, str, float]:
    """How a test ends: `passed` or a reason, the detail, and the processor time that it took (s)."""
    if isinstance(case, StdinCase):
        if len(case.stdout.encode("utf-8", "replace")) > settings.output_bytes:
            return "bad_test", f"more output is expected than output_bytes ({settings.output_bytes})", 0.0
        run = runner.run(Task(code, case.stdin, seed=seed))
    elif isinstance(case, CallCase):
        called = Call(tests.name, tuple(case.args), tuple(case.keywords.items()))
        run = runner.run(Task(code, called, settings.front, seed))
    else:
        told = Assertions(case.code, settings.front, tests.setup, tests.name)
        run = runner.run(Task(code, told, settings.front, seed))
    reason, detail = _ended(run, case, settings)
    return reason, detail, run.seconds


def _ended(run: Run, case: Case, settings: CodeSettings) -> tuple[str, str]:
    """How a test ends: beyond a limit, or with what its output is worth."""
    if run.ended == DEAD:
        return "killed", "the sandbox died over it, twice"
    if run.ended == OUTPUT:
        return "output", f"more than {settings.output_bytes} bytes"
    if run.ended == WALL_TIME and run.seconds >= settings.cpu_seconds:
        return "time", f"{run.seconds:.1f} s of processor time"
    if run.ended == WALL_TIME:
        return "stalled", f"no end by the clock, after {run.seconds:.2f} s of processor time"
    of_kind = {StdinCase: _of_program, CallCase: _of_call, AssertCase: _of_assertions}[type(case)]
    return of_kind(run, case, settings)


def _of_program(run: Run, case: Any, settings: CodeSettings) -> tuple[str, str]:
    if (fault := _death(run, (run.ended, run.code), settings)) is not None:
        return fault
    differs = output_fault(run.output.decode("utf-8", "replace"), case.stdout, settings)
    return (PASSED, "") if differs is None else ("wrong_output", differs)


def _death(run: Run, ending: tuple[str, int], settings: CodeSettings) -> tuple[str, str] | None:
    """Why a process did not end well; None where it did."""
    ended, code = ending
    if ended == SIGNAL:
        name = signal.Signals(code).name if code in set(signal.Signals) else f"signal {code}"
        if code in OWN_SIGNALS or (code == signal.SIGKILL and run.seconds >= settings.cpu_seconds):
            return "time", f"more than {settings.cpu_seconds} s of processor time"
        return ("killed" if code == signal.SIGKILL else "crashed"), name
    if code == 0:
        return None
    said = [line for line in run.errors.split("\n") if line.strip()]
    last = said[-1].strip() if said else f"exit status {code}"
    at = next((line.strip().rpartition(", line ")[2] for line in reversed(said) if ", line " in line), "")
    told = f"{last} (line {at.partition(',')[0]})" if at else last
    return ("memory" if last.startswith(("MemoryError", "numpy")) and "MemoryError" in last else "exception"), told


def _of_call(run: Run, case: Any, settings: CodeSettings) -> tuple[str, str]:
    ending = run.ended, run.code
    if ending in ((EXIT, NO_FUNCTION), (EXIT, NO_VALUE)):
        return ("no_function" if run.code == NO_FUNCTION else "unreadable"), run.errors.strip()
    if (fault := _death(run, ending, settings)) is not None:
        return fault
    try:
        found = values.decode(run.output)
    except values.Unreadable as error:
        return ("unreadable", str(error)) if run.output else ("no_result", "it ended before it gave a value")
    wanted = case.expected
    same = same_value(found, wanted, settings.tolerance)
    if not same and case.wrapped and isinstance(wanted, list) and len(wanted) == 1:
        same = same_value(found, wanted[0], settings.tolerance)
    return (PASSED, "") if same else ("wrong_output", f"gave {_shown(found)}, expected {_shown(wanted)}")


def _shown(value: Any) -> str:
    """A value in a message. Some cannot be printed: numbers of many digits, lists in lists in lists."""
    try:
        return repr(value)[:100]
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} that is too long to be shown"


def _of_assertions(run: Run, case: Any, settings: CodeSettings) -> tuple[str, str]:
    """Their own process has ended: with a report, or beyond its limits; where the solution is gone, how that ended."""
    try:
        told = json.loads(run.output)
        ended, detail = str(told["ended"]), str(told["detail"])
    except (ValueError, KeyError, TypeError):
        over = run.ended == SIGNAL and run.code in OWN_SIGNALS
        return ("stalled" if over else "killed"), "the assertions' own process ended"
    if ended == asserts.GONE:
        if run.solution == (SIGNAL, signal.SIGKILL):  # it was alive when all was ended, and had only closed its door
            return "no_result", "it answers no more"
        return _death(run, run.solution, settings) or ("no_result", "it ended before it gave a value")
    return (PASSED, "") if ended == asserts.PASSED else (ended, detail)
