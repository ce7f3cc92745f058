"""Calls a second of the tools' sandbox: `print(1 + 1)`, a longer piece of Python, and the calculator.

    python benchmarks/sandbox.py [--quick] [--isolation process]

As many interpreters as cores, as many calls in flight; starting them is left out and printed. `processor_ms` is what a call takes
of one core, in the sandbox and around it, whatever else the machine does meanwhile. Beside it a process a call (`python -c`),
which has no sandbox at all. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from redi_ray.config.tools import SandboxSettings
from redi_ray.tools.sandbox import Sandbox

CALLS = {
    "print": ("python", "print(1 + 1)"),
    "fractions": ("python", "from fractions import Fraction\nprint(sum(Fraction(1, n) for n in range(1, 200)))"),
    "calculator": ("calculator", "12 * (34 + 56) / 7"),
}


def processor_seconds() -> float:
    """Of this process, and of all children that have ended."""
    return sum(os.times()[:4])


def measure(settings: SandboxSettings, call: tuple[str, str], count: int) -> dict[str, float]:
    """Seconds to start, calls a second, and processor time of a call in ms."""
    spent, started = processor_seconds(), time.monotonic()
    with Sandbox(settings):
        pass
    start, spent_on_start = time.monotonic() - started, processor_seconds() - spent
    spent = processor_seconds()
    with Sandbox(settings) as sandbox:
        started = time.monotonic()
        outputs = [one.result() for one in [sandbox.submit(*call) for _ in range(count)]]
        seconds = time.monotonic() - started
    assert all(output.failure is None for output in outputs), outputs[0]
    used = processor_seconds() - spent - spent_on_start
    return {
        "start_s": round(start, 2),
        "per_s": round(count / seconds, 1),
        "processor_ms": round(1000 * used / count, 2),
    }


def plain(processes: int, count: int) -> float:
    """Calls a second by a fresh interpreter each."""

    def one(_: int) -> None:
        subprocess.run([sys.executable, "-I", "-c", CALLS["print"][1]], check=True, capture_output=True)

    started = time.monotonic()
    with ThreadPoolExecutor(processes) as threads:
        list(threads.map(one, range(count)))
    return round(count / (time.monotonic() - started), 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="200 calls of each instead of 2,000")
    parser.add_argument("--isolation", default="namespaces", choices=["namespaces", "process"])
    arguments = parser.parse_args()
    count, cores = 200 if arguments.quick else 2000, len(os.sched_getaffinity(0))
    settings = SandboxSettings(isolation=arguments.isolation, processes=cores)
    found: dict[str, Any] = {"benchmark": "sandbox", "isolation": arguments.isolation, "cores": cores, "calls": count}
    for name, call in CALLS.items():
        found[name] = measure(settings, call, count)
        print(name, found[name])
    found["fresh_process_per_s"] = plain(cores, count // 10)
    print("a fresh process each, a second:", found["fresh_process_per_s"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
