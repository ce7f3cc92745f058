"""Settings of steps that lead a dialogue: where it begins, and how it goes from one speaker to the other."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from redi_ray.config.section import Strict


class OpeningsStep(Strict):
    """Problems made of imported dialogues: the first turn of each, which a model is to answer."""

    do: Literal["openings"]
    """The kind of step."""
    of: str
    """A step `import` of dialogues, such as those of topics that are held out (`split`)."""


class HandOver(Strict):
    """How a dialogue is handed over."""

    brief: str | None = Field(None, min_length=1)
    """What the partner is told first, as the user of its own chat: who it is and what it wants. Null hands the dialogue back to
    the model that the partner talks with, which is not told."""


class HandOverStep(HandOver):
    """Problems made of samples, one of each, under its id: the dialogue so far, the sample's answer (without its thought) at its
    end, seen from the other side. A simulated partner is a model that answers such problems, and is answered in turn."""

    do: Literal["hand_over"]
    """The kind of step."""
    of: str
    """Traces, with verdicts or without."""

    @property
    def settings(self) -> HandOver:
        """What of it decides the problems, beside the samples."""
        return HandOver(brief=self.brief)
