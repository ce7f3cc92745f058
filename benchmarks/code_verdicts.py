"""Verdicts a second by tests: short programs, functions that are called, and assertions, each with several tests.

    python benchmarks/code_verdicts.py [--quick] [--tests 5]

As many solutions at a time as there are cores; half of them are right and run all their tests, half fail at the first. Starting
the sandbox is left out and printed. `processor_ms` is what a verdict takes of one core, whatever else the machine does meanwhile.
The peer runs a fresh interpreter for each test (`python -c`), on the same programs, as many at a time, without a sandbox. Every
solution is another text, so that none is known. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from redi_ray.config.code import CodeSettings
from redi_ray.data.verify.tested import CodeVerifier
from redi_ray.text.code_tests import AssertCase, CallCase, Case, CodeTests, StdinCase

PROGRAM = "n = int(input())\nvalues = list(map(int, input().split()))\nprint(sum(values[:n]) + {plus})  # {number}"
FUNCTION = "def total(values: List[int], plus: int) -> int:\n    return sum(values) + plus + {plus}  # {number}"


def cases(kind: str, count: int) -> CodeTests:
    """A problem's tests."""

    def one(k: int) -> Case:
        values = list(range(k, k + 5))
        if kind == "programs":
            return StdinCase(f"5\n{' '.join(map(str, values))}\n", f"{sum(values)}\n")
        if kind == "calls":
            return CallCase([values, k], sum(values) + k)
        return AssertCase(f"assert total({values}, {k}) == {sum(values) + k}")

    return CodeTests([one(k) for k in range(count)], "" if kind == "programs" else "total")


def code_of(kind: str, number: int) -> str:
    """A solution, the odd ones wrong."""
    return (PROGRAM if kind == "programs" else FUNCTION).format(plus=number % 2, number=number)


def processor_seconds() -> float:
    """Of this process, and of all children that have ended."""
    return sum(os.times()[:4])


def ours(kind: str, tests: CodeTests, verdicts: int, processes: int) -> dict[str, float]:
    """Seconds to start, verdicts a second, and processor time of a verdict in ms."""
    warm = [(f"```python\n{code_of(kind, -1)}\n```", tests, True)]
    spent = processor_seconds()
    with CodeVerifier(CodeSettings(), processes) as verifier:
        verifier.verify_many(warm)
    spent_on_start, spent = processor_seconds() - spent, processor_seconds()
    with CodeVerifier(CodeSettings(), processes) as verifier:
        verifier.verify_many(warm)
        rows = [(f"```python\n{code_of(kind, number)}\n```", tests, True) for number in range(verdicts)]
        started = time.monotonic()
        found = verifier.verify_many(rows)
        seconds = time.monotonic() - started
    used = processor_seconds() - spent - spent_on_start
    assert [str(one.verdict) for one in found] == ["correct", "wrong"] * (verdicts // 2), found[0]
    return {
        "start_s": round(verifier.start_seconds, 2),
        "per_s": round(verdicts / seconds, 1),
        "processor_ms": round(1000 * used / verdicts, 2),
    }


def plain(tests: CodeTests, verdicts: int, processes: int) -> float:
    """Verdicts a second by a fresh interpreter for each test."""

    def one(number: int) -> bool:
        code = code_of("programs", number)
        for case in tests.cases:
            assert isinstance(case, StdinCase)
            command = [sys.executable, "-c", code]
            made = subprocess.run(command, input=case.stdin, capture_output=True, text=True, timeout=60, check=False)
            if made.returncode or made.stdout.split() != case.stdout.split():
                return False
        return True

    started = time.monotonic()
    with ThreadPoolExecutor(processes) as threads:
        assert list(threads.map(one, range(verdicts))) == [True, False] * (verdicts // 2)
    return round(verdicts / (time.monotonic() - started), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer verdicts")
    parser.add_argument("--tests", type=int, default=5, help="of each problem")
    options = parser.parse_args()
    processes, verdicts = os.cpu_count() or 1, 200 if options.quick else 2000
    measured: dict[str, dict[str, float]] = {}
    for kind in ("programs", "calls", "assertions"):
        measured[kind] = ours(kind, cases(kind, options.tests), verdicts, processes)
        print(kind, measured[kind], flush=True)
    peer = plain(cases("programs", options.tests), verdicts // 5, processes)
    print(f"a fresh interpreter for each test, verdicts a second: {peer}", flush=True)
    told = {"cores": processes, "verdicts": verdicts, "tests": options.tests, **measured}
    print(json.dumps({"benchmark": "code_verdicts", **told, "fresh_interpreter_per_s": peer}))


if __name__ == "__main__":
    main()
