"""The built-in world of dialogues: orders at counters of several kinds, and answers to them with a score.

A topic is a counter with things of its own. A customer orders two things, one after the other; each answer repeats the whole
order so far, and the last one says how many pieces that makes:

    user: 4 buns please            assistant: 4 buns. anything else
    user: and 3 rolls              assistant: 4 buns and 3 rolls. that makes 7

Seen from the customer's side, the two change places behind a brief. A scored answer is such a last one with none, one, two or all
three of its numbers wrong; its score is how many are right, 0 to 3.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from redi_ray.config.worlds import OrderSet

TOPICS = {
    "bakery": "buns rolls pies tarts", "garage": "tyres bulbs wipers plugs", "florist": "roses lilies tulips ferns",
    "office": "pens clips pads files", "grocer": "pears plums leeks beans", "tailor": "shirts coats belts gloves",
    "baths": "towels soaps combs caps", "library": "novels maps atlases guides", "smith": "nails bolts hooks hinges",
    "harbour": "nets ropes buoys oars",
}  # fmt: skip
"""Topic -> what is ordered there."""
MOST = 9
"""Pieces of one thing."""
BRIEF = "you are a customer"
"""What a customer is told, where the customer is the one who learns."""


def order_rows(source: OrderSet) -> Iterator[dict[str, Any]]:
    """{topic, messages}, and of scored answers also {score}; decided by the settings' seed, topics in turn."""
    generator, topics = random.Random(f"orders-{source.rows}-{source.seed}"), list(TOPICS)
    for number in range(source.size):
        topic = topics[number % len(topics)]
        first, second = generator.sample(TOPICS[topic].split(), 2)
        one, two = generator.randint(1, MOST), generator.randint(1, MOST)
        told: tuple[int, ...] = (one, two, one + two)
        score = 3
        if source.rows == "scored":
            score = generator.randint(0, 3)
            told = _spoilt(told, generator.sample(range(3), 3 - score), generator)
        messages = [
            {"role": "user", "content": f"{one} {first} please"},
            {"role": "assistant", "content": f"{one} {first}. anything else"},
            {"role": "user", "content": f"and {two} {second}"},
            {"role": "assistant", "content": f"{told[0]} {first} and {told[1]} {second}. that makes {told[2]}"},
        ]
        if source.rows == "customers":
            messages = [{"role": "user", "content": BRIEF}, *map(_from_the_other_side, messages[:-1])]
        row = {"topic": topic, "messages": messages}
        yield {**row, "score": score} if source.rows == "scored" else row


def _from_the_other_side(turn: dict[str, str]) -> dict[str, str]:
    return {**turn, "role": "assistant" if turn["role"] == "user" else "user"}


def _spoilt(numbers: tuple[int, ...], wrong: list[int], generator: random.Random) -> tuple[int, ...]:
    """The numbers with others at these places."""
    most = (MOST, MOST, 2 * MOST)
    return tuple(
        generator.choice([other for other in range(1, most[at] + 1) if other != number]) if at in wrong else number
        for at, number in enumerate(numbers)
    )
