"""The built-in worlds behind one door: whichever the settings mean, its problems, answers, corpus and alphabet."""

from __future__ import annotations

from collections.abc import Iterator

from redi_ray.config.data import ArithmeticSource, ToolArithmeticSource
from redi_ray.data.sources import tool_world, world
from redi_ray.text.templates import ASSISTANT, Message

WORLD_ALPHABET = "0123456789=}\n" + world.OPERATORS
"""Of the world of digits."""
Splits = world.World | tool_world.ToolWorld


def splits_of(source: ArithmeticSource) -> Splits:
    """Problems of `train`, `dev` and `test`. Raises ValueError where the settings ask for more than there are."""
    return (
        tool_world.build_tool_world(source) if isinstance(source, ToolArithmeticSource) else world.build_world(source)
    )


def answer_of(source: ArithmeticSource, problem: str) -> str:
    """The true answer of a problem, as text."""
    return tool_world.answer(problem) if isinstance(source, ToolArithmeticSource) else world.answer(problem)


def corpus_of(source: ArithmeticSource, size: int) -> Iterator[tuple[str, list[Message]]]:
    """The unfiltered corpus that the base model learns from: (problem, turns)."""
    if isinstance(source, ToolArithmeticSource):
        yield from tool_world.tool_corpus(source, size)
        return
    for problem, completion in world.corpus(source, size):
        yield problem, [{"role": ASSISTANT, "content": completion}]


def alphabet_of(source: ArithmeticSource) -> str:
    """The characters of problems, solutions and what tools say."""
    return WORLD_ALPHABET + "[]" if isinstance(source, ToolArithmeticSource) else WORLD_ALPHABET
