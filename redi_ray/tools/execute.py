"""What a call runs, in the process that is made for it alone: Python as a notebook runs a cell, or a calculator."""

from __future__ import annotations

import ast
import math
import operator
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

NAME = "<tool>"
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.UAdd: operator.pos, ast.USub: operator.neg,
}  # fmt: skip
FUNCTIONS: dict[str, Any] = {
    **{
        name: getattr(math, name)
        for name in ("sqrt", "exp", "log", "log10", "sin", "cos", "tan", "factorial", "gcd", "comb")
    },
    **{"abs": abs, "round": round, "min": min, "max": max},
}
CONSTANTS = {"pi": math.pi, "e": math.e}


def execute(tool: str, text: str) -> int:
    """Run a call; what it says goes to standard output and, where it fails, its error behind that. The exit status: 0 or 1."""
    try:
        print(calculate(text)) if tool == "calculator" else run_cell(text)
        return 0
    except SystemExit as error:
        return 0 if error.code in (None, 0) else 1
    except BaseException as error:
        told = traceback.TracebackException.from_exception(error)
        if tool == "calculator":
            told.stack.clear()
        while told.stack and told.stack[0].filename != NAME:
            del told.stack[0]
        sys.stdout.flush()
        print("".join(told.format()), end="", flush=True)
        return 1


def run_cell(code: str) -> None:
    """Run the code; the value of its last line is shown where it is an expression that has one."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # where pickle and others look for what the code defines
    tree = ast.parse(code, NAME)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, NAME, "exec"), module.__dict__)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), NAME, "eval"), module.__dict__)
        if value is not None:
            print(repr(value))


def calculate(text: str) -> str:
    """The value of an expression of numbers, + - * / // % ** and a few functions. Raises ValueError for anything else.

    Example: `calculate("2 * (3 + 4)") == "14"`.
    """
    written = text.strip().replace("^", "**").replace("\u00d7", "*").replace("\u00f7", "/").replace("\u2212", "-")
    value = _value(ast.parse(written, NAME, "eval").body)
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else str(value)


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.operand))
    if isinstance(node, ast.Name) and node.id in CONSTANTS:
        return CONSTANTS[node.id]
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in FUNCTIONS
        and not node.keywords
    ):
        return FUNCTIONS[node.func.id](*map(_value, node.args))
    raise ValueError(
        f"the calculator knows numbers, + - * / // % ** and {', '.join(FUNCTIONS)}; not {ast.unparse(node)[:80]}"
    )
