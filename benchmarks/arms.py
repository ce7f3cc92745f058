"""Each arm of a benchmark runs in a process of its own, so that its peak memory is its own too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Usage:
    seconds: float = 0.0
    """Wall time."""
    cpu_seconds: float = 0.0
    """Processor time of the process, all threads: what is left to compare on a machine that others use too."""
    added_bytes: int = 0
    """Peak resident memory during the block, minus resident memory before it."""


def _status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


@contextmanager
def measured() -> Iterator[Usage]:
    """Wall time and added resident memory of the block. Linux only: it resets the kernel's high-water mark first."""
    usage = Usage()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = _status("VmRSS:")
    start, cpu_start = time.perf_counter(), time.process_time()
    yield usage
    usage.seconds, usage.cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    usage.added_bytes = _status("VmHWM:") - before


def run_arm(script: str, arm: str, arguments: list[str], threads: int) -> dict[str, Any]:
    """Run `python script --arm ARM ...` and return the JSON of its last line of output. Raises RuntimeError if it fails."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",  # threads that spin at barriers make timings on a shared machine worthless
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, script, "--arm", arm, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"arm {arm} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
