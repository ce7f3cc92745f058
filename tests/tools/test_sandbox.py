"""A model's code can do nothing but compute: whatever it tries ends as an output, in time, and leaves nothing behind."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from redi_ray.config.tools import SandboxSettings
from redi_ray.tools import namespaces, syscalls
from redi_ray.tools.sandbox import Interpreter, Sandbox, SandboxError, ToolOutput, check_sandbox, own_folder

LIMITS = {"cpu_seconds": 1, "wall_seconds": 0.9, "memory_mb": 256, "output_bytes": 4096, "file_mb": 4, "processes": 1}
PATIENCE = 20.0
"""Seconds that any call may take on a busy machine, limits of a few included."""
LOOP_FORKS = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
KEEPS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
told = [libc.shmget(key, 2 ** 20, 0o1600) for key in (0, 4242)] + [libc.msgget(4242, 0o1600), libc.semget(4242, 1, 0o1600)]
told.append(libc.syscall({"x86_64": 248, "aarch64": 217}[os.uname().machine], b"user", b"kept", b"1", 1, -4))
try:
    told.append(os.memfd_create("kept"))
except OSError:
    told.append(-1)
print(set(told))
"""
"""Memory, queues and keys that would be there in the next call, or count as nobody's."""
HIDES = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(1); os.close(2)
        time.sleep(777)
    os._exit(0)
print("left")
"""


def sandbox_of(isolation: str, **limits: float) -> Sandbox:
    settings = SandboxSettings(isolation=isolation, **{**LIMITS, **limits})  # type: ignore[arg-type]
    try:
        return Sandbox(settings).start()
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["namespaces", pytest.param("process", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    sandbox = sandbox_of(request.param)
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="module")
def closed() -> Iterator[Sandbox]:
    """The one without files and network."""
    sandbox = sandbox_of("namespaces")
    yield sandbox
    sandbox.close()


def run(sandbox: Sandbox, code: str, tool: str = "python") -> ToolOutput:
    return sandbox.submit(tool, code).result(PATIENCE)


def below(sandbox: Sandbox) -> set[int]:
    """Processes that a sandbox has, those that serve included."""
    process = sandbox._all[0].process
    assert process is not None
    return {child.pid for child in psutil.Process(process.pid).children(recursive=True)}


def test_cells_are_run_as_in_a_notebook_and_expressions_are_calculated(either: Sandbox):
    assert run(either, "print(1 + 1)") == ToolOutput("2", None)
    assert run(either, "from fractions import Fraction\nx = Fraction(1, 3)\nx + x") == ToolOutput(
        "Fraction(2, 3)", None
    )
    assert run(either, "import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c')").text == "a\nb\nc"
    failed = run(either, "print('so far')\ndef f():\n    return 1 / 0\nf()")
    assert failed.failure == "raised"
    assert failed.text.splitlines() == [
        "so far",
        "Traceback (most recent call last):",
        '  File "<tool>", line 4, in <module>',
        '  File "<tool>", line 3, in f',
        "ZeroDivisionError: division by zero",
    ]
    assert run(either, "3 +").text.endswith("SyntaxError: invalid syntax")
    assert run(either, "import sys; sys.exit(3)").text == "ProcessError: the process ended with an error"
    assert run(either, "4 * (1234 - 34) / 6", "calculator") == ToolOutput("800", None)
    assert run(either, "2^10 + sqrt(16)", "calculator").text == "1028"
    refused = run(either, "__import__('os').getpid()", "calculator")
    assert refused.failure == "raised"
    assert refused.text.startswith("ValueError: the calculator knows numbers")


HOSTILE = {
    "endless loop": ("while True: pass", {"cpu_time", "wall_time"}),
    "endless wait": ("import time; time.sleep(99)", {"wall_time"}),
    "deaf to signals": (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): 0\n"
        "while True: pass",
        {"died", "wall_time", "cpu_time"},
    ),
    "fork bomb": (LOOP_FORKS, {"wall_time", "cpu_time", "died"}),
    "threads": ("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=[9]).start()",
                {"raised", "wall_time"}),
    "memory": ("x = bytearray(10 ** 10)", {"raised"}),
    "memory, bit by bit": ("x = []\nwhile True: x.append(bytearray(10 ** 7))", {"raised", "wall_time"}),
    "a gigabyte of output": ("for _ in range(1000): print('x' * 10 ** 6)", {"output"}),
    "a big number": ("print(9 ** 9 ** 9)", {"cpu_time", "wall_time", "raised"}),
    "endless recursion": ("import sys; sys.setrecursionlimit(10 ** 9)\ndef f(): return f()\nf()",
                          {"died", "raised", "cpu_time", "wall_time"}),
    "a big file": ("f = open('a', 'wb')\nwhile True: f.write(b'0' * 10 ** 6)", {"raised", "died"}),
    "an import that hangs": ("open('slow.py', 'w').write('import time; time.sleep(9)')\nimport sys\n"
                             "sys.path.insert(0, '.')\nimport slow",
                             {"wall_time"}),
    "its own folder": ("import shutil, os; shutil.rmtree('.', ignore_errors=True); os.chdir('/'); print(os.getcwd())", {None}),
    "a deep folder": ("import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')", {None, "raised"}),
    "closes everything": ("import os; os.closerange(0, 100)", {None, "raised"}),
    "ends at once": ("import os; os._exit(0)", {None}),
    "no Unicode": ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe'); print('\\ud800')", {None}),
    "brackets": ("x = " + "(" * 50_000, {"output", "raised", "died"}),
    "an error whose text never ends": ("class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
                                       {"wall_time", "cpu_time"}),
    "does not end": ("import os\nos._exit = lambda status: None\nos.pidfd_open = lambda process: 0", {"raised", "wall_time"}),
    "an answer of its own": ("print('{\"text\": \"evil\", \"failure\": null}', flush=True); import os; os._exit(0)", {None}),
    "another program": ("import os; os.execv('/bin/sh', ['sh', '-c', 'sleep 99 & exit 0'])", {None}),
    "runs from process to process": ("import os\nwhile True:\n    if os.fork(): os._exit(0)", {None, "raised", "died"}),
    "many small files": ("for n in range(10 ** 5): open(str(n), 'w').close()", {"raised", "wall_time", "cpu_time"}),
    "sockets in flight": ("import socket\na, b = socket.socketpair()\n"
                          "while True: socket.send_fds(a, [b'x'], [a.fileno(), b.fileno()], socket.MSG_DONTWAIT)", {"raised"}),
    "timers": ("import signal\nsignal.signal(signal.SIGALRM, lambda *_: None)\n"
               "signal.setitimer(signal.ITIMER_REAL, 1e-5, 1e-5)\nwhile True: pass", {"wall_time", "cpu_time"}),
    "limits of its parent": ("import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))", {"raised"}),
    "interrupts its parent": ("import os, signal\ntry: os.kill(os.getppid(), signal.SIGINT)\nexcept OSError: pass", {None}),
    "signals to its parent": ("import os\nfor p in (os.getppid(), 1, -1):\n    try: os.kill(p, 9)\n    except OSError: pass",
                              {None, "died"}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_code_ends_within_its_limits_and_the_next_call_is_served(either: Sandbox, name: str):
    code, endings = HOSTILE[name]
    started = time.monotonic()
    output = run(either, code)
    assert output.failure in endings
    assert time.monotonic() - started < PATIENCE
    assert len(output.text) <= LIMITS["output_bytes"] + 200
    assert output.failure is None or "Error" in output.text or "error" in output.text
    assert run(either, "print(6 * 7)") == ToolOutput("42", None)


@pytest.mark.slow
def test_processor_time_is_counted_and_not_the_clock():
    with Sandbox(SandboxSettings(**LIMITS | {"wall_seconds": 120.0})) as sandbox:  # type: ignore[arg-type]
        found = sandbox.submit("python", "while True: pass").result(110)
    assert found == ToolOutput("TimeoutError: more than 1 s of processor time", "cpu_time")


def test_no_process_and_no_state_is_left(either: Sandbox):
    """Processes that hide from their group, too; names, modules and files of one call are not there in the next."""
    before = below(either)
    assert run(either, HIDES).text == "left"
    assert below(either) == before
    run(either, "import builtins, math; builtins.kept = math.pi = 3; open('kept', 'w').write('1')")
    assert run(either, KEEPS).text == "{-1}"
    seen = run(either, "import os, builtins, math; print(os.listdir('.'), hasattr(builtins, 'kept'), math.pi > 3)")
    assert seen.text == "[] False True"
    assert run(either, "import random; print(random.random())") == run(either, "import random; print(random.random())")


def test_a_process_without_rights_cannot_limit_its_parent_nor_leave_memory_behind():
    """As the same user, who may do both: what a call is where the sandbox is not the machine's root's."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            namespaces.give_up_rights(None)
            syscalls.refuse()
            resource.setrlimit(resource.RLIMIT_CPU, (60, 60))  # its own it may
            for call in (
                lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0)),
                lambda: os.memfd_create("x"),
            ):
                with pytest.raises(PermissionError):
                    call()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nothing_outside_is_read_written_or_reached(closed: Sandbox, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("told nobody")
    os.environ["A_SECRET"] = "told nobody"
    attempts = {
        f"print(open({str(secret)!r}).read())": "FileNotFoundError",
        "import os; os.symlink('/proc/1/root', 'x'); print(os.listdir('x'))": "FileNotFoundError",
        f"import os; os.symlink({str(secret)!r}, 'x'); open('x', 'w')": "Error",
        "open('/usr/x', 'w')": "Read-only file system",
        "open('/x', 'w')": "Error",
        "import os; open(os.__file__, 'a')": "Error",
        "import os; os.mknod('d', 0o60666, os.makedev(8, 0))": "PermissionError",
        "import socket; socket.create_connection(('127.0.0.1', 22), 2)": "Network is unreachable",
        "import socket; socket.getaddrinfo('example.com', 80)": "name resolution",
        "open('/proc/sys/kernel/core_pattern', 'w')": "FileNotFoundError",
        "import ctypes; l = ctypes.CDLL(None, use_errno=True)\n"
        "if l.unshare(0x10000000): raise OSError(ctypes.get_errno(), 'unshare')": "unshare",
        "import ctypes; l = ctypes.CDLL(None, use_errno=True)\n"
        "if l.mount(b'none', b'/', None, 32, None): raise OSError(ctypes.get_errno(), 'mount')": "mount",
        "import os; os.chroot('.')": "PermissionError",
        "import os; os.setuid(0)": "PermissionError" if os.getuid() == 0 else "",
    }
    for code, error in attempts.items():
        output = run(closed, code)
        assert error in output.text, (code, output)
        assert (output.failure == "raised") == bool(error), (code, output)
        assert "told nobody" not in output.text
    assert "SECRET" not in run(closed, "import os; print(dict(os.environ))").text
    assert secret.read_text() == "told nobody"
    del os.environ["A_SECRET"]


def test_a_caller_that_dies_leaves_no_process():
    sandbox = sandbox_of("namespaces", wall_seconds=90)  # of a busy machine, too
    call = sandbox.submit("python", "import time; time.sleep(99)")
    time.sleep(0.5)
    there = {psutil.Process(pid) for pid in below(sandbox)}
    process = sandbox._all[0].process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()  # as the end of the caller does
    psutil.wait_procs(there, timeout=10)
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in there)
    sandbox.close()
    assert call.result().failure == "died"


def test_one_that_is_closed_while_an_interpreter_starts_waits_for_no_call(monkeypatch: pytest.MonkeyPatch):
    """It is told to end when there is no process to end yet."""
    one = Interpreter(SandboxSettings(isolation="process", wall_seconds=90))
    launch = one._launch

    def late() -> None:
        one.stop()
        launch()

    monkeypatch.setattr(one, "_launch", late)
    began = time.monotonic()
    assert one.call("python", "import time; time.sleep(99)")["failure"] == "died"
    assert time.monotonic() - began < 60
    assert one.process is None
    one.close()


def test_folders_of_callers_that_were_killed_are_deleted_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, mine = tmp_path / "redi_ray-tools-99999999-x" / "deep", tmp_path / f"redi_ray-tools-{os.getpid()}-x"
    left.mkdir(parents=True)
    mine.mkdir()
    made = Path(own_folder())
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, made.name}


def test_a_sandbox_that_cannot_be_made_says_why_before_any_call(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SandboxError, match="No module named 'no_such_module'"):
        check_sandbox(SandboxSettings(preload=["no_such_module"], isolation="process"))
    from redi_ray.tools import sandbox

    monkeypatch.setattr(sandbox.sys, "executable", "/bin/false")
    with pytest.raises(SandboxError, match=r"set tools\.sandbox\.isolation to process"):
        check_sandbox(SandboxSettings())
