"""The built-in world of tools: chains whose numbers are too large to work out in one's head, so that the calculator is called.

A problem is a chain such as `12*7-30`, worked strictly from left to right. A turn calls the calculator for one step, and the last
one says the result:

    [12*7]  ->  84    [84-30]  ->  54    \\boxed{54}

What goes wrong here is the call, never the result: a *fact* is an operator with the number behind it, and a share of the facts
carries a misconception, a wrong operator, which a corpus solution falls for with some probability. A trace that does is wrong for
good, although every output in it is true.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from redi_ray.config.worlds import ToolArithmeticSource
from redi_ray.data.sources.world import OPERATORS, others
from redi_ray.text.templates import ASSISTANT, TOOL, Message

Chain = tuple[int, tuple[tuple[str, int], ...]]
"""First number, then (operator, number) steps."""


@dataclass(frozen=True)
class ToolWorld:
    """The facts with their misconceptions, and the problem splits, all decided by the settings' seed."""

    misconceptions: dict[tuple[str, int], str]
    """(operator, number behind it) -> the operator that is called instead."""
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]


def apply(a: int, operator: str, b: int) -> int:
    """The calculator's result."""
    return {"+": a + b, "-": a - b, "*": a * b}[operator]


@lru_cache(maxsize=4)
def build_tool_world(source: ToolArithmeticSource) -> ToolWorld:
    """The world of these settings. Splits are disjoint; test and dev do not change when more problems are asked for."""
    generator = random.Random(f"facts-{source.seed}")
    facts = [(operator, number) for operator in OPERATORS for number in range(source.least, source.largest + 1)]
    chosen = sorted(generator.sample(facts, round(source.misconception_share * len(facts))))
    wrong = {fact: generator.choice([other for other in OPERATORS if other != fact[0]]) for fact in chosen}
    chains = _distinct_chains(source)
    take = lambda count: tuple(next(chains) for _ in range(count))  # noqa: E731
    test, dev = take(source.num_test), take(source.num_dev)
    return ToolWorld(wrong, train=take(source.num_problems), dev=dev, test=test)


def tool_corpus(source: ToolArithmeticSource, size: int) -> Iterator[tuple[str, list[Message]]]:
    """The unfiltered corpus the base model learns from: (problem, turns), misconceptions included. None of its problems is in
    dev or test."""
    world = build_tool_world(source)
    held_out = {*world.dev, *world.test}
    generator = random.Random(f"corpus-{source.seed}")
    for chain in others(lambda: _random_chain(source, generator), write_chain, held_out, size):
        yield write_chain(chain), solve(chain, world, generator, source.misconception_rate)


def answer(problem: str) -> str:
    """The true answer of a problem, as text."""
    value, steps = read_chain(problem)
    for operator, number in steps:
        value = apply(value, operator, number)
    return str(value)


def solve(chain: Chain, world: ToolWorld, generator: random.Random, misconception_rate: float) -> list[Message]:
    """The turns of a solution, falling for each misconception it meets with the given probability."""
    value, steps = chain
    turns: list[Message] = []
    for operator, number in steps:
        fact = (operator, number)
        called = operator
        if fact in world.misconceptions and generator.random() < misconception_rate:
            called = world.misconceptions[fact]
        turns.append({"role": ASSISTANT, "content": f"[{value}{called}{number}]"})
        value = apply(value, called, number)
        turns.append({"role": TOOL, "content": str(value)})
    return [*turns, {"role": ASSISTANT, "content": f"\\boxed{{{value}}}"}]


def write_chain(chain: Chain) -> str:
    return str(chain[0]) + "".join(f"{operator}{number}" for operator, number in chain[1])


def read_chain(problem: str) -> Chain:
    first, *steps = re.findall(r"[-+*]?\d+", problem)
    return int(first), tuple((step[0], int(step[1:])) for step in steps)


def _random_chain(source: ToolArithmeticSource, generator: random.Random) -> Chain:
    number = lambda: generator.randint(source.least, source.largest)  # noqa: E731
    steps = generator.randint(source.min_digits, source.max_digits) - 1
    return number(), tuple((generator.choice(OPERATORS), number()) for _ in range(steps))


def _distinct_chains(source: ToolArithmeticSource) -> Iterator[str]:
    """Problems, each once. Raises ValueError when the settings ask for more than there are."""
    generator, numbers = random.Random(f"problems-{source.seed}"), source.largest - source.least + 1
    room = sum(numbers * (3 * numbers) ** (n - 1) for n in range(source.min_digits, source.max_digits + 1))
    asked = source.num_problems + source.num_dev + source.num_test
    if asked > room // 2:
        raise ValueError(f"problems.source asks for {asked} distinct chains of {room}: raise max_digits or largest")
    seen: set[str] = set()
    while True:
        problem = write_chain(_random_chain(source, generator))
        if problem not in seen:
            seen.add(problem)
            yield problem
