"""The built-in worlds behind one door: whichever the settings mean, its problems, answers, corpus, alphabet and documents."""

from __future__ import annotations

from collections.abc import Iterator

from redi_ray.config.worlds import ArithmeticSource, BuiltInSource, QuerySource, ToolArithmeticSource
from redi_ray.data.sources import query_world, tool_world, world
from redi_ray.text.templates import ASSISTANT, Message

WORLD_ALPHABET = "0123456789=}\n" + world.OPERATORS
"""Of the world of digits."""
Splits = world.World | tool_world.ToolWorld | query_world.QueryWorld


def splits_of(source: BuiltInSource) -> Splits:
    """Problems of `train`, `dev` and `test`. Raises ValueError where the settings ask for more than there are."""
    if isinstance(source, QuerySource):
        return query_world.build_query_world(source)
    if isinstance(source, ToolArithmeticSource):
        return tool_world.build_tool_world(source)
    return world.build_world(_digits(source))


def answer_of(source: BuiltInSource, problem: str) -> str:
    """The true answer of a problem, as text."""
    if isinstance(source, QuerySource):
        return query_world.answer(source, problem)
    return tool_world.answer(problem) if isinstance(source, ToolArithmeticSource) else world.answer(problem)


def corpus_of(source: BuiltInSource, size: int) -> Iterator[tuple[str, list[Message]]]:
    """The unfiltered corpus that the base model learns from: (problem, turns)."""
    if isinstance(source, ToolArithmeticSource):
        yield from tool_world.tool_corpus(source, size)
        return
    solved = (
        query_world.query_corpus(source, size)
        if isinstance(source, QuerySource)
        else world.corpus(_digits(source), size)
    )
    for problem, completion in solved:
        yield problem, [{"role": ASSISTANT, "content": completion}]


def alphabet_of(source: BuiltInSource) -> str:
    """The characters of problems, solutions and what tools say."""
    if isinstance(source, QuerySource):
        return query_world.ALPHABET
    return WORLD_ALPHABET + "[]" if isinstance(source, ToolArithmeticSource) else WORLD_ALPHABET


def documents_of(source: QuerySource) -> tuple[tuple[str, str], ...]:
    """(id, text) of what is searched."""
    return query_world.build_query_world(source).documents


def _digits(source: BuiltInSource) -> ArithmeticSource:
    assert isinstance(source, ArithmeticSource), source
    return source
