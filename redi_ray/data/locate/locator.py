"""What a locator is, and what all of them share: which samples it is asked about, and what their steps are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from redi_ray.config.answers import VerifySettings
from redi_ray.config.locators import Form, LocateSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.schemas import Verdict, turns_of
from redi_ray.text.steps import split_steps

READS = ("problem_id", "problem", "answer", "completion", "turns", "verdict")
"""Columns of the samples."""


@dataclass(frozen=True)
class Steps:
    """A sample's last turn of the model's own, and its steps."""

    turn: int
    text: str
    spans: list[tuple[int, int]]

    @property
    def texts(self) -> list[str]:
        """Of the steps, in order."""
        return [self.text[start:end] for start, end in self.spans]


@dataclass(frozen=True)
class Labelled:
    """What a locator says of a sample: a label of each step, and a number where it knows one."""

    labels: list[str]
    values: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Failed:
    """Why it says nothing, for the rejects."""

    reason: str
    detail: str = ""
    raw: str = ""


@dataclass(frozen=True)
class Work:
    """What a locator may use, the same for every shard; it travels to tasks."""

    settings: LocateSettings
    samples: str
    """Folder of the verified shards."""
    uri: str
    """Folder of the output, in which a locator has files of its own."""
    prompt: PromptSettings
    """The student's."""
    verify: VerifySettings
    """How continuations are verified."""
    engine: EngineSettings
    """The run's."""
    model: str | None = None
    """Folder of the graph's model, where the settings need it."""
    verify_workers: int = 1
    label_selector: Mapping[str, str] = field(default_factory=dict)
    """Of nodes that verify."""
    step: str = ""
    """The step's name, for messages."""
    last_step: bool = False
    """Whether `step_judge` looks at each sample's last step alone, those before it having been judged already."""


Find = Callable[[Mapping[str, Any], Steps], Labelled | Failed]
"""A sample that it is asked about (READS and `trace_id`), and its steps."""


class Bar(Protocol):
    """Hears what is asked of models, and what has come back."""

    def set_total(self, total: int) -> None:
        """How much is asked in all, as far as that is known."""
        ...

    def __call__(self, done: int, tokens: int = 0) -> None:
        """So much more has come back."""
        ...


class Silent:
    """A bar that nobody sees."""

    def set_total(self, total: int) -> None:
        """Nothing."""

    def __call__(self, done: int, tokens: int = 0) -> None:
        """Nothing."""


def _nothing(work: Work, bar: Bar) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Locator:
    """A way to find the first wrong step."""

    start: Callable[[Work, str], Find]
    """For one shard, in its task."""
    prepare: Callable[[Work, Bar], dict[str, Any]] = _nothing
    """Done before any shard: asks models. What is to be said of it in the manifest. Called again it goes on where it was."""
    outside: Callable[[Any], Any] = lambda settings: None
    """What of the world outside decides the labels, for the key."""
    look: Callable[[Any, str], None] = lambda settings, where: None
    """Before anything starts: raise DataError where what it reads of the user's files is not there, or is of no use. where: the
    settings' place in the config."""
    needs_answer: Callable[[Any], bool] = lambda settings: False
    """Whether a sample needs a reference answer."""


def steps_of(row: Mapping[str, Any], settings: LocateSettings) -> Steps:
    """The steps of a sample's last turn of the model's own."""
    return last_steps(row, settings.splits_by)


def last_steps(row: Mapping[str, Any], form: Form | None) -> Steps:
    """The same by the form of the text's steps; null looks at the text."""
    turns = turns_of(row)
    number = max((at for at, turn in enumerate(turns) if turn["role"] == "assistant"), default=0)
    text = turns[number]["content"] if turns else ""
    return Steps(number, text, split_steps(text, form))


def reason_not_to_ask(row: Mapping[str, Any], settings: LocateSettings, locator: Locator) -> str | None:
    """Why a locator is not asked about a sample, or None."""
    if settings.ask == "wrong" and row["verdict"] != Verdict.WRONG:
        return f"verdict_{row['verdict']}"
    if not row["completion"].strip():
        return "no_text"
    if locator.needs_answer(settings.locator) and not (row["answer"] or "").strip():
        return "no_reference_answer"
    return None
