"""The comparing process: `python -m redi_ray.text.worker OPTIONS`, which are JSON: settings, memory_mb, timeout_seconds, warm.

Single-threaded, with limits on its address space and on the processor time of a comparison: the kernel ends a process that
is past it (SIGPROF), whatever that is doing, and nobody else's work counts. Speaks one line of JSON in, one word out:
first `ready`, then for each `[gold, answer]` a value of `Verdict`; `exhausted` means memory ran out and the process ends.
Everything else that libraries may print goes to standard error.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys

from redi_ray.config.answers import AnswerSettings
from redi_ray.text.equivalence import compare, warm_up


def judge(gold: str, answer: str, settings: AnswerSettings) -> str:
    try:
        return compare(gold, answer, settings)
    except MemoryError:
        return "exhausted"
    except Exception:  # whatever sympy fails with; the message could hold a parsed object, so it is not kept
        return "error"


def serve(settings: AnswerSettings, timeout_seconds: float, warm: bool) -> None:
    requests, replies = sys.stdin.buffer, os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if warm:
        warm_up(settings)
    else:
        compare("x", "y", settings)  # loads sympy and the grammar
    gc.freeze()  # the grammar's tables are many small objects, and looking through them again and again takes its time
    gc.set_threshold(50_000, 20, 20)
    os.write(replies, b"ready\n")
    while line := requests.readline():
        gold, answer = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, timeout_seconds)
        verdict = judge(gold, answer, settings)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(replies, verdict.encode() + b"\n")
        if verdict == "exhausted":
            return


def main() -> None:
    options = json.loads(sys.argv[1])
    limit = int(options["memory_mb"]) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # death, also where a parent ignored or blocked it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    serve(AnswerSettings(**options["settings"]), float(options["timeout_seconds"]), bool(options["warm"]))


if __name__ == "__main__":
    main()
