"""Assertions about a solution that runs in another process: what they call is called there, what they expect stays here.

The process of the solution (`answer`) says which names its code defines and then does what it is asked, a line of JSON each;
that of the assertions (`check`) runs them with a `Remote` for each of those names that they use. Values travel as
`redi_ray.tools.values` says them; an object that cannot be said stays where it is, and is named by a number. The solution
compares nothing: a comparison with such an object is `unsure`.
"""

from __future__ import annotations

import ast
import builtins
import json
import operator
import os
import socket
from collections.abc import Callable
from typing import Any

from redi_ray.tools import values

PASSED, WRONG, RAISED, GONE, UNSURE, BAD, MISSING, EXHAUSTED = (
    "passed", "wrong_output", "exception", "gone", "unsure", "bad_test", "no_function", "memory",
)  # fmt: skip
"""How assertions end: all hold; one does not, or cannot handle the result; the solution raised; has ended; gave what cannot be
compared; they are no code that runs; they use a name that the solution does not define; the solution's memory ran out."""
LONGEST = 64 << 20
"""Bytes of one answer."""
TEST = "<test>"


def channel() -> tuple[int, int]:
    """Two ends that are joined."""
    one, other = socket.socketpair()
    return one.detach(), other.detach()


class Lines:
    """Objects of JSON, a line each, over an open file."""

    def __init__(self, file: int) -> None:
        self.file = file
        self._read = b""

    def send(self, told: dict[str, Any]) -> None:
        left = json.dumps(told).encode() + b"\n"
        while left:
            left = left[os.write(self.file, left) :]

    def receive(self) -> dict[str, Any] | None:
        """The next one; None where there is none any more, or what comes is none."""
        parts = [self._read]
        while b"\n" not in parts[-1]:
            chunk = os.read(self.file, 65_536)
            if not chunk or sum(map(len, parts)) > LONGEST:
                return None
            parts.append(chunk)
        line, _, self._read = b"".join(parts).partition(b"\n")
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def answer(file: int, names: dict[str, Any] | None) -> int:
    """In the solution's process: do what is asked of the names it defines until nobody asks; the exit status."""
    lines, kept = Lines(file), list[Any]()

    def handle(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    if names is None:
        return 1
    public = {name: value for name, value in names.items() if not name.startswith("__")}
    lines.send({"names": {name: handle(value) if callable(value) else None for name, value in public.items()}})
    while (asked := lines.receive()) is not None:
        try:
            lines.send({"value": values.encode(_done(asked, public, kept), handle)})
        except (KeyboardInterrupt, SystemExit):
            return 1
        except BaseException as error:
            lines.send({"raised": type(error).__name__, "text": str(error)[:300]})
    return 0


_DONE: dict[str, Callable[..., Any]] = {
    "call": lambda of, args, keywords: of(*args, **keywords),
    "get": getattr,
    "set": setattr,
    "item": operator.getitem,
    "len": len,
    "bool": bool,
    "list": list,
}
"""What may be asked of an object."""


def _done(asked: dict[str, Any], public: dict[str, Any], kept: list[Any]) -> Any:
    if asked["do"] == "name":
        return public[asked["name"]]
    return _DONE[asked["do"]](kept[asked["of"]], *values.decode(asked["given"], kept.__getitem__))


class Gone(BaseException):
    """The solution's process answers no more."""


class Unsure(BaseException):
    """What is asked of an object cannot be done here, and must not be done there."""


class Raised(Exception):
    """The solution has raised; what is raised here is of the builtin type of that name besides."""


class Remote:
    """An object of the solution's."""

    def __init__(self, lines: Lines, number: int) -> None:
        object.__setattr__(self, "_lines", lines)
        object.__setattr__(self, "_number", number)

    def _ask(self, do: str, *given: Any) -> Any:
        told = values.encode(given, _number_of)
        return ask(self._lines, {"do": do, "of": self._number, "given": told})

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self._ask("call", args, keywords)

    def __getattr__(self, name: str) -> Any:
        return self._ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", key)

    def __iter__(self) -> Any:
        return iter(self._ask("list"))

    def __len__(self) -> int:
        return int(self._ask("len"))

    def __bool__(self) -> bool:
        return self._ask("bool") is True

    def _unsure(self, *_: Any) -> Any:
        raise Unsure("an object of the solution's own")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = _unsure
    __hash__ = None  # type: ignore[assignment]


def _number_of(value: Any) -> int:
    if isinstance(value, Remote):
        return int(value._number)
    raise Unsure(f"a {type(value).__name__} cannot be given to the solution")


def ask(lines: Lines, asked: dict[str, Any]) -> Any:
    """What the solution gives. Raises Gone, or what it raises."""
    try:
        lines.send(asked)
        told = lines.receive()
    except OSError:
        told = None
    if told is None or not ({"value", "raised"} & told.keys()):
        raise Gone
    if "raised" in told:
        name = str(told["raised"])
        kind: Any = getattr(builtins, name, None)
        known = isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception
        text = str(told.get("text", ""))
        try:
            error = type(name, (Raised, kind) if known else (Raised,), {})(text)
        except TypeError:  # one that is made of more than a text
            error = Raised(f"{name}: {text}")
        raise error
    try:
        return values.decode(str(told["value"]), lambda number: Remote(lines, number))
    except values.Unreadable as error:
        raise Unsure(str(error)) from None


def check(told: bytes, *, channel: int, report: int) -> int:
    """In the process of the assertions: run them, and write how that ended: `{"ended", "detail"}`.

    told: `[front, setup, code, entry]`, where `front` and `setup` run before the code, and a name that they define is theirs,
    but for that of `entry`, which is always the solution's.
    """
    lines, out = Lines(channel), Lines(report)
    front, setup, code, entry = json.loads(told)
    first = lines.receive()
    if first is None or not isinstance(first.get("names"), dict):
        out.send({"ended": GONE, "detail": ""})
        return 0
    ended, detail = _ended(lines, first["names"], [front, setup], code, entry)
    out.send({"ended": ended, "detail": detail[:500]})
    return 0


def _ended(lines: Lines, offered: dict[str, Any], before: list[str], code: str, entry: str) -> tuple[str, str]:
    names: dict[str, Any] = {"__name__": "test"}
    try:
        for part in before:
            exec(compile(part, "<setup>", "exec"), names)
        tree = ast.parse(code)
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | ({entry} if entry else set())
        compiled = compile(tree, TEST, "exec")
    except BaseException as error:
        return BAD, f"{type(error).__name__}: {error}"
    if entry and offered.get(entry) is None:
        return MISSING, f"the code defines no function {entry}"
    try:
        for name in used:
            if name in offered and (name == entry or not (hasattr(builtins, name) or name in names)):
                number = offered[name]
                names[name] = (
                    Remote(lines, int(number)) if number is not None else ask(lines, {"do": "name", "name": name})
                )
        exec(compiled, names)
    except BaseException as error:
        return _why(error, code)
    return PASSED, ""


def _why(error: BaseException, code: str) -> tuple[str, str]:
    """How assertions ended that raised."""
    told = f"{type(error).__name__}: {error}".rstrip(": ")
    known: tuple[tuple[Any, str], ...] = (
        (Gone, GONE),
        (Unsure, UNSURE),
        (MemoryError, EXHAUSTED),
        (Raised, RAISED),
        (NameError, MISSING),
        (SyntaxError | ImportError, BAD),
    )
    for kind, ended in known:
        if isinstance(error, kind):
            return ended, told
    return WRONG, f"{_line_of(error, code)} ({told})"


def _line_of(error: BaseException, code: str) -> str:
    """The line of the assertions that raised."""
    at, place = error.__traceback__, 0
    while at is not None:
        place = at.tb_lineno if at.tb_frame.f_code.co_filename == TEST else place
        at = at.tb_next
    lines = code.split("\n")
    return lines[place - 1].strip()[:200] if 0 < place <= len(lines) else ""
