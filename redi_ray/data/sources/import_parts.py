"""Which side of a split a row is on, and what a judge is asked about an answer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redi_ray.config.import_parts import ANSWER, DIALOGUE, SCORE, JudgeQuestions, TopicSplit
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sources.import_answers import Answered, LeftOut, Member, Message
from redi_ray.data.sources.rows import lookup
from redi_ray.data.sources.values import read_id
from redi_ray.errors import UserError
from redi_ray.text.dialogue import as_lines
from redi_ray.text.prompts import strip_prefix, to_messages

PLACES = re.compile("|".join(re.escape(place) for place in (DIALOGUE, ANSWER)))
"""What a question to a judge has for what is judged."""


class SplitError(UserError):
    """A set that cannot be split as it should be; the message says which topic or row, and how to mend it."""


class Sides:
    """Tells the side of each row of a set, and sees to it that nothing stands on two."""

    def __init__(self, split: TopicSplit, where: str) -> None:
        """where: what the config calls the step."""
        self.split, self.where = split, where
        self.topics: dict[str, str] = {}
        self.held_out = {spelling(topic) for topic in split.held_out}
        self._side_of: dict[bytes, tuple[str, str]] = {}

    def __call__(self, row: Mapping[str, Any], found: Answered) -> str:
        """`train`, `seen` or `unseen`.

        Raises LeftOut for a row without a topic, SplitError for one that says what a row of another side has said.
        """
        topic = read_id(lookup(dict(row), self.split.by))
        if topic is None:
            raise LeftOut("no_topic", f"column `{self.split.by}` is missing or null; the row has {', '.join(row)}")
        self.topics[spelling(topic)] = topic
        held_out = spelling(topic) in self.held_out
        side = "unseen" if held_out else "seen" if self._is_held_out(found.prompt) else "train"
        before, other = self._side_of.setdefault(_said(found), (side, topic))
        if before != side:
            raise SplitError(
                f"{self.where}: a row of topic {topic} says what one of topic {other} says, so that it would stand on both sides "
                f"({side} and {before}): leave one of them out, or hold out both topics. It begins with "
                f"{found.prompt[0]['content'][:200]!r}"
            )
        return side

    def _is_held_out(self, prompt: Sequence[Message]) -> bool:
        asked = next(
            (turn for turn in prompt if turn["role"] == "user"), prompt[0]
        )  # a set's rows may share a system turn
        text = _words(asked["content"])  # of a dialogue and what goes on from it alike
        digest = hashlib.blake2b(f"{self.split.seed}/{text}".encode("utf-8", "replace"), digest_size=8).digest()
        return int.from_bytes(digest) < self.split.seen_share * 2**64

    def check(self) -> None:
        """Raise SplitError where a topic that is held out is none of the set's."""
        if not self.topics:
            raise SplitError(f"{self.where}.split.by: no row that can be used has a topic in column `{self.split.by}`")
        if unknown := [topic for topic in self.split.held_out if spelling(topic) not in self.topics]:
            raise SplitError(
                f"{self.where}.split.held_out: no row has the topic {', '.join(unknown)}; there are "
                f"{', '.join(sorted(self.topics.values()))}"
            )


def spelling(topic: str) -> str:
    """A topic in the one spelling that it is known by: case and white space tell no two apart."""
    return _words(topic).casefold()


def _words(text: str) -> str:
    return " ".join(text.split())


def _said(found: Answered) -> bytes:
    """Eight bytes of what a row says, prompt and answers, whatever its white space. A question alone may be asked in two topics:
    real sets begin dialogues of several topics alike."""
    turns = [turn for part in (found.prompt, *(member.turns for member in found.members)) for turn in part]
    text = "\n".join(f"{turn['role']}: {_words(turn['content'])}" for turn in turns)
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()


def questions(found: Answered, judge: JudgeQuestions, prompt: PromptSettings) -> Iterator[Answered]:
    """What a judge is asked about each answer, and what it should say. Raises LeftOut where the verdict has not the beginning
    that all answers need."""
    for member in found.members:
        assert member.reward is not None, "samples with rewards"
        *before, last = member.turns
        asked = filled(judge.question, {DIALOGUE: as_lines([*found.prompt, *before]), ANSWER: last["content"]})
        verdict = judge.verdict.replace(SCORE, written(member.reward))
        if strip_prefix(verdict, prompt) is None:
            raise LeftOut("answer_without_prefix", verdict, by_rule=True)
        turn = {"role": "assistant", "content": verdict}
        yield Answered(to_messages(asked, prompt), [Member([turn], +1, finished=True)], found.problem_id)


def filled(question: str, told: Mapping[str, str]) -> str:
    """The question with what is told in its places, all in one go: data may hold such words themselves."""
    return PLACES.sub(lambda place: told[place.group()], question)


def written(reward: float) -> str:
    """A reward as text."""
    return str(int(reward)) if reward == int(reward) else repr(reward)
