"""What a solution's process does with its code: it runs it as a program, or defines what it defines and calls a function."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
import types
from contextlib import suppress
from typing import Any

from redi_ray.tools import values

NO_FUNCTION, NO_VALUE = 3, 4
"""Statuses of a call: the code does not define it; what it gave cannot be said. 1 is an error."""
NAME = "solution.py"


def run_program(code: str) -> int:
    """Run code as a program; its exit status."""
    own, module = sys.stdout, types.ModuleType("__main__")
    module.__file__, sys.argv = NAME, [NAME]
    sys.modules["__main__"] = module
    status = _guarded(lambda: exec(compile(code, NAME, "exec"), module.__dict__))
    if status == 0:
        threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does: other threads may print the answer
    atexit._run_exitfuncs()
    for stream in (sys.stdout, own):
        with suppress(Exception):
            stream.flush()
    return status


def load(code: str, front: str) -> dict[str, Any] | None:
    """The names that code defines, behind what stands in front of it; None where it raises. It is no program: `__name__` is
    `solution`."""
    module = types.ModuleType("solution")
    module.__file__ = NAME
    sys.modules["solution"] = module

    def define() -> None:
        exec(compile(front, "<front>", "exec"), module.__dict__)
        exec(compile(code, NAME, "exec"), module.__dict__)

    return module.__dict__ if _guarded(define, exits=1) == 0 else None


def call(names: dict[str, Any], given: bytes, out: int) -> int:
    """Call the function that is named, and write what it gives."""
    name, args, keywords = values.decode(given)
    found: list[Any] = []
    if (status := _guarded(lambda: found.append(function_of(names, name)), exits=1)) != 0:
        return status
    if (function := found.pop()) is None:
        print(f"the code defines no function {name}", file=sys.stderr)
        return NO_FUNCTION
    if (status := _guarded(lambda: found.append(function(*args, **keywords)), exits=1)) != 0:
        return status
    try:
        told = values.encode(found[0]).encode()
    except values.Unreadable as error:
        print(f"the result is none that can be compared: {error}", file=sys.stderr)
        return NO_VALUE
    while told:
        told = told[os.write(out, told) :]
    return 0


def function_of(names: dict[str, Any], name: str) -> Any:
    """A function of this name, or a method of a class `Solution`, an object of which is made; None where there is neither."""
    of_class = names.get("Solution")
    if isinstance(of_class, type) and callable(getattr(of_class, name, None)):
        return getattr(of_class(), name)
    found = names.get(name)
    return found if callable(found) else None


def _guarded(work: Any, exits: int | None = None) -> int:
    """0, or the status with which Python would end; errors are printed. exits: the status of whatever exits."""
    try:
        work()
        return 0
    except SystemExit as error:
        if isinstance(error.code, int) or error.code is None:
            return exits if exits is not None else (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    except BaseException as error:
        told = traceback.TracebackException.from_exception(error)
        while told.stack and told.stack[0].filename != NAME:
            del told.stack[0]
        print("".join(told.format()), file=sys.stderr, flush=True)
        return 1
