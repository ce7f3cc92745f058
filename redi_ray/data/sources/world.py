"""The built-in world: arithmetic chains with systematic misconceptions, for demos, tests and small experiments.

A problem is a chain such as `3+4*2-1`, worked strictly from left to right, every result modulo 10:

    <think>
    3+4=7
    7*2=4
    4-1=3
    </think>
    \\boxed{3}

A *fact* is one step (a, op, b); there are 300. A share of them carries a misconception, one fixed wrong result, and a
corpus solution falls for it with some probability whenever the fact comes up. A model trained on that corpus makes
the same mistakes again and again, which is where negative samples can teach what positive ones cannot.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from redi_ray.config.prompts import END_THINK, THINK
from redi_ray.config.worlds import ArithmeticSource

Drawn = TypeVar("Drawn")

OPERATORS = "+-*"
COPIED = 20
"""Problems that near copies are made of."""
Fact = tuple[int, str, int]
Chain = tuple[int, tuple[tuple[str, int], ...]]
"""First digit, then (operator, digit) steps."""


def apply(a: int, operator: str, b: int) -> int:
    """The true result of one fact."""
    return {"+": a + b, "-": a - b, "*": a * b}[operator] % 10


@dataclass(frozen=True)
class World:
    """The facts with their misconceptions, and the problem splits, all decided by the settings' seed."""

    misconceptions: dict[Fact, int]
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]


@lru_cache(maxsize=4)
def build_world(source: ArithmeticSource) -> World:
    """The world of these settings. Splits are disjoint; test and dev do not change when more problems are asked for."""
    generator = random.Random(f"facts-{source.seed}")
    facts = [(a, operator, b) for a in range(10) for operator in OPERATORS for b in range(10)]
    chosen = generator.sample(facts, round(source.misconception_share * len(facts)))
    misconceptions = {fact: (apply(*fact) + generator.randrange(1, 10)) % 10 for fact in sorted(chosen)}
    chains = _distinct_chains(source, f"problems-{source.seed}")
    take = lambda count: tuple(next(chains) for _ in range(count))  # noqa: E731
    test, dev = take(source.num_test), take(source.num_dev)
    copies = round(source.copies * source.num_problems)
    train = take(source.num_problems - copies)
    if copies:
        train += tuple(_near_copies(train, copies, {*test, *dev, *train}, random.Random(f"copies-{source.seed}")))
    return World(misconceptions, train=train, dev=dev, test=test)


def _near_copies(chains: Sequence[str], count: int, known: set[str], generator: random.Random) -> Iterator[str]:
    """So many problems that differ from one of the COPIED shortest in one step, and from all that are known. Raises ValueError
    where there are not so many."""
    models = [read_chain(problem) for problem in sorted(chains, key=len)[:COPIED]]
    if count > (room := sum(29 * len(steps) for _, steps in models)) // 2:
        raise ValueError(
            f"problems.source asks for {count} near copies of {len(models)} chains, of {room}: lower copies"
        )
    while count:
        first, steps = generator.choice(models)
        at = generator.randrange(len(steps))
        other = (generator.choice(OPERATORS), generator.randrange(10))
        problem = write_chain((first, (*steps[:at], other, *steps[at + 1 :])))
        if problem not in known:
            known.add(problem)
            yield problem
            count -= 1


def corpus(source: ArithmeticSource, size: int) -> Iterator[tuple[str, str]]:
    """The unfiltered corpus the base model learns from: (problem, completion), misconceptions included.

    None of its problems is in dev or test.
    """
    world = build_world(source)
    held_out = {*world.dev, *world.test}
    generator = random.Random(f"corpus-{source.seed}")
    for chain in others(lambda: _random_chain(source, generator), write_chain, held_out, size):
        yield write_chain(chain), solve(chain, world, generator, source.misconception_rate)


def others(
    draw: Callable[[], Drawn], write: Callable[[Drawn], str], held_out: Collection[str], size: int
) -> Iterator[Drawn]:
    """So many of what is drawn, one after the other, whose text is not held out."""
    while size:
        drawn = draw()
        if write(drawn) not in held_out:
            yield drawn
            size -= 1


def answer(problem: str) -> str:
    """The true answer of a problem, as text."""
    first, steps = read_chain(problem)
    for operator, digit in steps:
        first = apply(first, operator, digit)
    return str(first)


def solve(chain: Chain, world: World, generator: random.Random, misconception_rate: float) -> str:
    """A solution in full, falling for each misconception it meets with the given probability."""
    value, steps = chain
    lines = []
    for operator, digit in steps:
        result = apply(value, operator, digit)
        fact = (value, operator, digit)
        if fact in world.misconceptions and generator.random() < misconception_rate:
            result = world.misconceptions[fact]
        lines.append(f"{value}{operator}{digit}={result}")
        value = result
    return "\n".join([THINK, *lines, END_THINK, f"\\boxed{{{value}}}"])


def write_chain(chain: Chain) -> str:
    return str(chain[0]) + "".join(f"{operator}{digit}" for operator, digit in chain[1])


def read_chain(problem: str) -> Chain:
    return int(problem[0]), tuple((problem[i], int(problem[i + 1])) for i in range(1, len(problem), 2))


def _random_chain(source: ArithmeticSource, generator: random.Random) -> Chain:
    digits = generator.randint(source.min_digits, source.max_digits)
    steps = tuple((generator.choice(OPERATORS), generator.randrange(10)) for _ in range(digits - 1))
    return generator.randrange(10), steps


def _distinct_chains(source: ArithmeticSource, seed: str) -> Iterator[str]:
    """Problems, each once. Raises ValueError when the settings ask for more than there are."""
    generator = random.Random(seed)
    room = sum(10 * 30 ** (n - 1) for n in range(source.min_digits, source.max_digits + 1))
    asked = source.num_problems + source.num_dev + source.num_test
    if asked > room // 2:
        raise ValueError(f"problems.source asks for {asked} distinct chains of {room}: raise max_digits")
    seen: set[str] = set()
    while True:
        problem = write_chain(_random_chain(source, generator))
        if problem not in seen:
            seen.add(problem)
            yield problem
