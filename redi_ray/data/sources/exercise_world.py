"""The built-in exercises: rows of small corpora as they come from hubs, each with columns of its own and with faults of its own.

`word_problems` have reference answers, `programs` tests, `advice` neither; `rated` are answers with a label, for a reward model.
Every row but the last kind has several traces, right and wrong ones by chance. What curation is for is planted: problems that
come again (the same but for typing, with some words more, in other words), traces with two boxes, without a block of code, that
repeat a line to no end, that were cut off in their thought, and advice in another language.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from redi_ray.config.worlds import ExerciseSet

Row = dict[str, Any]
AGAIN = 0.15
"""Share of the word problems that say what an earlier one has said."""
FAULTY = 0.12
"""Share of traces whose form is spoilt."""
FOREIGN = 0.06
"""Share of advice that is asked in German."""
NAMES = [
    "Ann",
    "Ben",
    "Cleo",
    "Dan",
    "Eva",
    "Finn",
    "Gita",
    "Hugo",
    "Ida",
    "Jon",
    "Kim",
    "Lea",
    "Max",
    "Nora",
    "Omar",
    "Pia",
]
THINGS = ["apples", "books", "coins", "stamps", "shells", "cards", "beads", "pens", "plums", "stickers"]
STORIES: tuple[tuple[str, str, Callable[[int, int, int], int]], ...] = (
    ("{name} has {a} {thing}, buys {b} more and gives {c} to a friend. How many {thing} does {name} have now?",
     "After buying {b} {thing} on top of the {a} at home, {name} hands {c} of them to a friend. What number of {thing} is left?",
     lambda a, b, c: a + b - c),
    ("{name} packs {a} boxes with {b} {thing} each and finds {c} more. How many {thing} are there in all?",
     "In each of {a} boxes {name} puts {b} {thing}; another {c} lie beside them. What is the total number of {thing}?",
     lambda a, b, c: a * b + c),
    ("A shop has {a} shelves of {b} {thing}. {name} takes {c} {thing} away. How many {thing} stay in the shop?",
     "{name} carries off {c} {thing} from a shop in which {a} shelves hold {b} {thing} apiece. What number stays behind?",
     lambda a, b, c: a * b - c),
    ("{name} reads {a} pages on Monday, {b} pages on Tuesday and {c} pages on Friday. How many pages is that?",
     "On Monday {name} gets through {a} pages, on Tuesday through {b}, on Friday through {c}. What does that add up to?",
     lambda a, b, c: a + b + c),
)  # fmt: skip
"""A problem, the same in other words, and its answer from three numbers."""
TASKS: tuple[tuple[str, str, str, Callable[[int, list[int]], int]], ...] = (
    ("print the sum of those that {k} divides", "sum(x for x in numbers if x % {k} == 0)",
     "sum(x for x in numbers if x % {k})", lambda k, xs: sum(x for x in xs if x % k == 0)),
    ("print how many of them are larger than {k}", "sum(x > {k} for x in numbers)", "sum(x >= {k} for x in numbers)",
     lambda k, xs: sum(x > k for x in xs)),
    ("print the largest of them times {k}", "max(numbers) * {k}", "max(numbers) + {k}", lambda k, xs: max(xs) * k),
    ("print the sum of the first {k} of them", "sum(numbers[:{k}])", "sum(numbers[{k}:])", lambda k, xs: sum(xs[:k])),
)  # fmt: skip
"""What a program does, an expression that does it, one that does not, and what is printed."""
CARES = ["a bicycle", "a wooden table", "a wool coat", "an old clock", "a garden hose", "a paper map", "a glass jar"]
TROUBLES = ["rust", "damp", "dust", "moths", "frost", "scratches", "sunlight", "mould"]
GOOD = ("Keep it dry, because water does most of the harm.", "Clean it gently once a month, so that nothing settles.",
        "Store it where the air can move, since still air holds damp.", "Look at it now and then, and mend small faults at once.",
        "Use a soft cloth, because a hard brush leaves marks.")  # fmt: skip
BAD = ("No idea.", "Just buy a new one.", "Whatever you like.", "It does not matter.", "Ask someone else.")


def exercise_rows(source: ExerciseSet) -> Iterator[Row]:
    """`size` rows, decided by the settings' seed."""
    chance = random.Random(f"exercises-{source.rows}-{source.seed}")
    make = {"word_problems": _word_problems, "programs": _programs, "advice": _advice, "rated": _rated}[source.rows]
    for number, row in zip(range(source.size), make(chance, source.traces), strict=False):
        yield {"id": f"{source.rows}-{number}", **row}


def _word_problems(chance: random.Random, traces: int) -> Iterator[Row]:
    told: list[tuple[str, str, int]] = []
    while True:
        if told and chance.random() < AGAIN:
            text, answer = _again(*chance.choice(told), chance)
        else:
            first, second, work = chance.choice(STORIES)
            a, b = chance.randint(3, 30), chance.randint(3, 30)
            c = chance.randint(2, min(a, b))
            said = {"name": chance.choice(NAMES), "thing": chance.choice(THINGS), "a": a, "b": b, "c": c}
            text, other, answer = first.format(**said), second.format(**said), work(a, b, c)
            told.append((text, other, answer))
        able = chance.choice((0.0, 0.3, 0.6, 0.9, 1.0))  # some are never solved, some always
        yield {
            "question": text,
            "gold": str(answer),
            "solutions": [_solution(answer, chance.random() < able, chance) for _ in range(traces)],
            "subject": "arithmetic",
        }


def _again(text: str, other: str, answer: int, chance: random.Random) -> tuple[str, int]:
    """A problem once more: the same but for typing, with some words more, or in other words."""
    return chance.choice((text.upper().replace("?", " ?"), f"Please tell me: {text}", other)), answer


def _solution(answer: int, right: bool, chance: random.Random) -> str:
    said = answer if right else max(0, answer + chance.choice((-10, -2, -1, 1, 2, 10)))
    steps = [f"First I look at the numbers, and step {at} gives {said - 3 + at}." for at in range(1, 4)]
    body = f"So the answer is \\boxed{{{said}}}."
    if chance.random() < FAULTY:
        fault = chance.choice(("boxes", "loop", "cut"))
        if fault == "cut":
            return "<think>\n" + "\n".join(steps[:2])
        steps += ["Let me check that once more."] * 60 if fault == "loop" else []
        body += f" Or is it \\boxed{{{said}}}?" if fault == "boxes" else ""
    return "<think>\n" + "\n".join(steps) + f"\n</think>\n{body}"


def _programs(chance: random.Random, traces: int) -> Iterator[Row]:
    while True:
        says, right, wrong, work = chance.choice(TASKS)
        k = chance.randint(2, 9)
        cases = [[chance.randint(0, 40) for _ in range(chance.randint(4, 8))] for _ in range(3)]
        cases.append([k, k + 1, 2 * k, 3 * k, 5])  # on which the wrong expressions show
        ordered = chance.choice(("in one line", "between spaces", "one after the other in a line"))
        checks = {
            "inputs": [" ".join(map(str, case)) + "\n" for case in cases],
            "outputs": [f"{work(k, case)}\n" for case in cases],
        }
        able = chance.choice((0.2, 0.5, 0.9))
        yield {
            "task": f"Read whole numbers, {ordered}, and {says.format(k=k)}.",
            "input_output": json.dumps(checks),
            "programs": [
                _program(right.format(k=k) if chance.random() < able else wrong.format(k=k), chance)
                for _ in range(traces)
            ],
        }


def _program(expression: str, chance: random.Random) -> str:
    thought = "<think>\nThe numbers are read, then one line of work is left.\n</think>\n"
    if chance.random() < FAULTY:
        return f"{thought}One would print {expression}."  # no block of code
    return f"{thought}```python\nnumbers = [int(word) for word in input().split()]\nprint({expression})\n```"


def _advice(chance: random.Random, traces: int) -> Iterator[Row]:
    while True:
        care, trouble = chance.choice(CARES), chance.choice(TROUBLES)
        asked = f"How do I keep {care} safe from {trouble} for {chance.randint(2, 40)} years?"
        if chance.random() < FOREIGN:
            asked = (
                f"Wie schütze ich meine Sachen im Keller am besten vor Feuchtigkeit, und wie oft in {len(care)} Jahren?"
            )
        able = chance.choice((0.3, 0.6, 0.9))
        yield {"instruction": asked, "replies": [_reply(chance.random() < able, chance) for _ in range(traces)]}


def _reply(good: bool, chance: random.Random) -> str:
    said = " ".join(chance.sample(GOOD, 3)) if good else " ".join(chance.sample(BAD, 2))
    return f"<think>\nWhat does the harm, and what holds it off?\n</think>\n{said}"


def _rated(chance: random.Random, traces: int) -> Iterator[Row]:
    while True:
        care, trouble, good = chance.choice(CARES), chance.choice(TROUBLES), chance.random() < 0.5
        yield {"prompt": f"How can {care} be kept from {trouble}?", "completion": _reply(good, chance), "label": good}
