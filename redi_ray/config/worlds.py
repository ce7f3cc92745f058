"""Settings of the built-in worlds: problems, queries and dialogues that are made here."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from redi_ray.config.section import Strict


class BuiltInSource(Strict):
    """A world that is made here. No download.

    Some of its facts carry a misconception, which the unfiltered corpus that the base model learns from falls for with some
    probability, so errors are systematic, as a real model's are.
    """

    kind: str
    """Which one."""
    num_problems: int = Field(800, ge=1)
    """Problems to sample traces for."""
    num_test: int = Field(500, ge=1)
    """Held-out problems for evaluation, disjoint from all others."""
    num_dev: int = Field(200, ge=0)
    """Held-out problems for selection, disjoint from all others."""
    misconception_share: float = Field(0.4, ge=0, le=1)
    """Share of the facts that carry a misconception."""
    misconception_rate: float = Field(0.35, ge=0, le=1)
    """How often the corpus falls for it."""
    seed: int = 42
    """Decides facts, problems and corpus."""


class ArithmeticSource(BuiltInSource):
    """The built-in world: chains of digits with + - *, left to right, modulo 10. No download.

    A share of the facts (a, op, b) carries a fixed wrong result, a misconception; the unfiltered corpus that the base
    model learns from falls for it with some probability, so errors are systematic, as a real model's are.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"copies"})
    """See `redi_ray.config.identity`."""

    kind: Literal["arithmetic"] = "arithmetic"
    min_digits: int = Field(4, ge=2, le=12)
    """Shortest chain."""
    max_digits: int = Field(7, ge=2, le=12)
    """Longest chain."""
    copies: float = Field(0.0, ge=0, lt=1)
    """Share of the problems to learn from that are near copies of the 20 shortest others, one step being another: a corpus that
    covers its world unevenly. Held-out problems are none."""

    @model_validator(mode="after")
    def _copies_have_room(self) -> ArithmeticSource:
        if self.copies and self.kind != "arithmetic":
            raise ValueError("copies are of the world of digits; leave it at 0")
        return self


class ToolArithmeticSource(ArithmeticSource):
    """The built-in world of tools: chains of numbers that the calculator works out step by step, `[12*7]`, left to right. No
    download.

    A share of the facts (op, number) carries a misconception: another operator is called. `generate.tools` and `evaluate.tools`
    must have the calculator, with the marks `[` and `]`.
    """

    kind: Literal["tool_arithmetic"] = "tool_arithmetic"  # type: ignore[assignment]
    min_digits: int = Field(3, ge=2, le=12)
    """Numbers of the shortest chain."""
    max_digits: int = Field(4, ge=2, le=12)
    """Numbers of the longest chain."""
    least: int = Field(2, ge=0)
    """Smallest number."""
    largest: int = Field(30, ge=3, le=999)
    """Largest number."""


class QuerySource(BuiltInSource):
    """The built-in world of queries: what people call things, to be written in the words of a catalogue. No download.

    A share of people's words carries a misconception: it is taken for another word of the catalogue. The scorer `retrieval`
    searches this catalogue where it names no corpus; verdicts say nothing here.
    """

    kind: Literal["queries"] = "queries"
    num_documents: int = Field(400, ge=10)
    """Documents of the catalogue, equal ones once."""
    min_words: int = Field(3, ge=1, le=4)
    """Shortest query."""
    max_words: int = Field(3, ge=1, le=4)
    """Longest query."""
    foreign_share: float = Field(0.7, ge=0, le=1)
    """How often a query's word is one that the catalogue does not use."""
    careless_rate: float = Field(0.05, ge=0, le=1)
    """How often the corpus takes a word over as it is, and how often it breaks the form."""


class ExerciseSet(Strict):
    """The built-in exercises: small corpora as they come from hubs, with columns of their own and with what curation is for. No
    download."""

    kind: Literal["exercises"] = "exercises"
    rows: Literal["word_problems", "programs", "advice", "rated"] = "rated"
    """`word_problems` (`id`, `question`, `gold`, `solutions`, `subject`), `programs` (`id`, `task`, `input_output`, `programs`),
    `advice` (`id`, `instruction`, `replies`): problems with traces, verified by references, tests, neither. `rated` (`prompt`,
    `completion`, `label`): answers for a reward model."""
    size: int = Field(400, ge=1)
    """Rows."""
    traces: int = Field(4, ge=1)
    """Of each problem."""
    seed: int = 42
    """Decides them."""


class OrderSet(Strict):
    """The built-in world of dialogues: orders at counters of ten kinds, by `topic`. No download."""

    kind: Literal["orders"] = "orders"
    rows: Literal["dialogues", "scored", "customers"] = "dialogues"
    """Whole dialogues; or dialogues whose last answer may be wrong in some numbers, with a `score` of 0 to 3; or the customers'
    side, whose turns are then the assistant's, behind the brief `you are a customer`."""
    size: int = Field(4000, ge=1)
    """Rows."""
    seed: int = 42
    """Decides them."""
