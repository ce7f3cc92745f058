"""Runs of solutions: what they write and how they end comes back; what others wrote, and what is expected, is not to be found."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest
from sandboxes import isolation

from redi_ray.config.code import CodeSettings, RunSettings
from redi_ray.tools import values
from redi_ray.tools.runner import Assertions, Call, Runner, Runners, Task

SEARCH = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
libc.sbrk.restype = ctypes.c_void_p
def held(wanted):
    # whether a text, each of whose letters is given as the next one, stands near this process's objects, or in its heap
    objects, heap = id(object()) & ~0xFFF, libc.sbrk(0) & ~0xFFF
    tail, next_ones = b'', bytes((n + 1) % 256 for n in range(256))
    out, into = os.pipe()
    for page in (*range(objects - (48 << 20), objects + (48 << 20), 4096), *range(heap - (64 << 20), heap, 4096)):
        if libc.write(into, page, 4096) != 4096:  # no page
            tail = b''
            continue
        text = os.read(out, 4096).translate(next_ones)
        if wanted.encode() in tail + text:
            return True
        tail = text[-len(wanted):]
    return False
"""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    limits = {"cpu_seconds": 5, "wall_seconds": 60.0, "memory_mb": 512, "idle_seconds": 5.0, "output_bytes": 100_000}
    with Runners(RunSettings(processes=1, isolation=isolation(), **limits)) as runners, runners.one() as one:  # type: ignore[arg-type]
        yield one


def hidden(text: str) -> str:
    """As `held` wants it."""
    return "".join(chr(ord(letter) + 1) for letter in text)


def below(runner: Runner) -> set[int]:
    assert runner.process is not None
    return {child.pid for child in psutil.Process(runner.process.pid).children(recursive=True)}


def test_a_program_has_its_input_and_leaves_output_errors_and_status(runner: Runner):
    code = "import sys\nprint(sys.stdin.read()[::-1])\nprint('told', file=sys.stderr)\nsys.exit(7)"
    found = runner.run(Task(code, "abc\u00e9"))
    assert (found.ended, found.code, found.output, found.errors) == ("exit", 7, "\u00e9cba\n".encode(), "told\n")
    large = runner.run(Task("print(len(input()))", "x" * 10_000_000))
    assert large.output == b"10000000\n"
    raw = runner.run(Task("import sys; sys.stdout.buffer.write(b'\\0\\xff'); sys.stdout.flush(); print('\\xe9')", ""))
    assert raw.output == b"\0\xff\xc3\xa9\n"


def test_values_come_back_as_what_they_are(runner: Runner):
    code = "def f(*args, **keywords): return args, keywords"
    given = (1, -(10**5000), 0.5, "\ud800", None, True, [1, (2,)], {"a": {1, 2}}, b"x")
    found = runner.run(Task(code, Call("f", given, (("k", 1.5),))))
    assert values.decode(found.output) == (given, {"k": 1.5})


def finds(runner: Runner, text: str, more: str = "") -> bytes:
    """What the next run prints: whether it finds a text in its memory."""
    return runner.run(Task(SEARCH + f"{more}\nprint(held({hidden(text)!r}))", "")).output


def test_what_ran_before_is_in_no_memory(runner: Runner):
    """Output, errors, code and assertions of a run are not found by the next; what is there, the search does find."""
    assert finds(runner, "it stands here", "here = 'it stands ' + 'here'") == b"True\n"
    for task, left in (
        (Task("print('a secret ' * 100 + 'output')", ""), "a secret output"),
        (Task("import sys; sys.exit('a secret ' * 100 + 'error')", ""), "a secret error"),
        (Task("def f(): return 'a secret ' * 100 + 'value'", Call("f")), "a secret value"),
        (Task("def f(): return 1  # a secret in the code", Call("f")), "a secret in the code"),
        (Task("print(1)", "a secret in the input"), "a secret in the input"),
        (Task("def f(): pass", Assertions("assert not f(), 'a secret that is asserted'")), "a secret that is asserted"),
    ):
        runner.run(task)
        assert finds(runner, left) == b"False\n", left
    code = SEARCH + f"def f(): return held({hidden('is asserted now')!r})"
    told = runner.run(Task(code, Assertions("assert f() is False, 'this is asserted now'", entry="f")))
    assert b'"passed"' in told.output, told


def test_nothing_of_a_run_is_left(runner: Runner):
    before = below(runner)
    hides = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(99)\nprint('left')"
    assert runner.run(Task(hides, "")).output == b"left\n"
    assert below(runner) == before
    runner.run(Task("import builtins, math; builtins.kept = math.pi = 3; open('kept', 'w').write('1')", ""))
    seen = runner.run(
        Task("import os, builtins, math; print(os.listdir(), hasattr(builtins, 'kept'), math.pi > 3)", "")
    )
    assert seen.output == b"[] False True\n"


def test_a_seed_makes_chance_the_same_again(runner: Runner):
    code = "import random\nprint(random.random(), hash('x'))"
    first, again, other = (runner.run(Task(code, "", seed=seed)).output for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_sandbox_that_dies_is_replaced(runner: Runner):
    assert runner.process is not None
    os.killpg(runner.process.pid, signal.SIGKILL)
    runner.process.wait()
    assert runner.run(Task("print(1)", "")).output == b"1\n"


def test_what_is_not_equal_is_said_with_its_line(runner: Runner):
    told = runner.run(Task("def f(x): return x", Assertions("a = 3\nassert f(3) == a\nassert f(4) == a", entry="f")))
    assert told.output == b'{"ended": "wrong_output", "detail": "assert f(4) == a (AssertionError)"}\n'


@pytest.mark.parametrize(
    "wrong", [{"languages": []}, {"repeats": 0}, {"tolerance": 1.5}, {"front": "("}, {"cpu_seconds": 0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CodeSettings(**wrong)  # type: ignore[arg-type]
