"""A chat with several models at a time: each goes on from its own answers, and what is known of a problem is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from redi_ray.talk.answer import Answer, AskSettings, Show, answer
from redi_ray.talk.known import Judged, KnownProblems, Problem
from redi_ray.talk.models import RunModel
from redi_ray.text.dialogue import dialogue_of
from redi_ray.text.templates import Message


@dataclass(frozen=True)
class Said:
    """A model's answer, with its verdict where the problem is known."""

    answer: Answer
    judged: Judged | None

    def plain(self, question: str, problem: Problem | None) -> dict[str, Any]:
        """As JSON holds it."""
        told = {"question": question, **asdict(self.answer), "response": self.answer.response}
        if problem is not None:
            told |= {"problem_id": problem.problem_id, "table": problem.table}
        return told | (asdict(self.judged) if self.judged is not None else {})


@dataclass(frozen=True)
class Round:
    """A question and what the models said."""

    question: str
    problem: Problem | None
    """That the run knows; None where it is none of its."""
    said: list[Said]


class Conversation:
    """The models' chats so far."""

    def __init__(self, models: Sequence[RunModel], known: KnownProblems, settings: AskSettings) -> None:
        self.models, self.known, self.settings = list(models), known, settings
        self.histories: dict[str, list[Message]] = {}
        self.restart()

    def restart(self) -> None:
        """Forget what was said."""
        self.histories = {model.name: [] for model in self.models}

    def ask(self, question: str, show: Show = lambda model, text: None) -> Round:
        """The next question, which may be a problem of the run. Raises TalkError, which leaves the chats as they are."""
        return self._ask(question, self.known.by_text(question), show)

    def ask_problem(self, problem_id: str, show: Show = lambda model, text: None) -> Round:
        """A problem of the run, as it asks it: a new chat, with what goes before its question. Raises TalkError."""
        problem = self.known.by_id(problem_id)
        *before, last = dialogue_of(problem.problem)
        self.histories = {model.name: list(before) for model in self.models}
        return self._ask(last["content"], problem, show)

    def _ask(self, question: str, problem: Problem | None, show: Show) -> Round:
        turn = {"role": "user", "content": question}
        said = []
        for model in self.models:
            (found,) = answer([model], [*self.histories[model.name], turn], self.settings, show)
            judged = self.known.judge(problem, found.text, found.finished) if problem is not None else None
            said.append(Said(found, judged))
        for model, one in zip(self.models, said, strict=True):
            self.histories[model.name] += [turn, one.answer.turn]
        return Round(question, problem, said)
