"""What a row of an imported set says: answers to a prompt, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redi_ray.schemas import CUT_OFF
from redi_ray.text.finish import finish_reason

Message = dict[str, str]


@dataclass(frozen=True)
class Member:
    """One answer to a prompt."""

    turns: list[Message]
    side: int
    reward: float | None = None
    finished: bool | None = None
    """Null where the data do not say."""
    spans: list[dict[str, Any]] | None = None
    """As in MEMBER."""

    def as_row(self) -> dict[str, Any]:
        """As a member of GROUP."""
        return {
            "turns": self.turns, "side": self.side, "reward": self.reward, "finished": self.finished, "spans": self.spans,
        }  # fmt: skip


@dataclass(frozen=True)
class Answered:
    """A prompt with the answers of one row."""

    prompt: list[Message]
    members: list[Member]
    problem_id: str | None


class LeftOut(ValueError):
    """Why a row is left out: `reason` in a word, and the detail. `by_rule`: it is whole, but nothing to learn from."""

    def __init__(self, reason: str, detail: str, *, by_rule: bool = False) -> None:
        super().__init__(detail)
        self.reason, self.by_rule = reason, by_rule


def is_finished(reason: Any) -> bool | None:
    """Whether an answer ended by itself, by what the data say of it; None where they do not say."""
    if isinstance(reason, bool):
        return reason
    found = finish_reason(reason)
    return None if found is None else found not in CUT_OFF
