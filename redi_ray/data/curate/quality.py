"""Blocks on single traces: may this one be picked for its side?"""

from __future__ import annotations

from redi_ray.config.curation import Repetition, TraceRules
from redi_ray.config.prompts import END_THINK, THINK, PromptSettings
from redi_ray.data.curate.block import Row, TraceBlock, Why
from redi_ray.schemas import CUT_OFF
from redi_ray.text.quality import count_final_boxes, repetition, thinks_once
from redi_ray.text.thoughts import opened_once


class Truncated(TraceBlock):
    """Traces that were cut off."""

    reads = ("finish_reason",)
    reasons = ("truncated",)

    @classmethod
    def of(cls, rules: TraceRules, prompt: PromptSettings) -> Truncated | None:
        return None if rules.truncated else cls()

    def why(self, trace: Row) -> Why | None:
        return ("truncated", trace["finish_reason"]) if trace["finish_reason"] in CUT_OFF else None


class Length(TraceBlock):
    """Traces with too few or too many characters."""

    reads = ("completion",)
    reasons = ("too_few_chars", "too_many_chars")

    def __init__(self, least: int, most: int | None) -> None:
        self.least, self.most = least, most

    @classmethod
    def of(cls, rules: TraceRules, prompt: PromptSettings) -> Length | None:
        bounded = rules.min_chars or rules.max_chars is not None
        return cls(rules.min_chars, rules.max_chars) if bounded else None

    def why(self, trace: Row) -> Why | None:
        length = len(trace["completion"])
        if length < self.least:
            return "too_few_chars", str(length)
        return ("too_many_chars", str(length)) if self.most is not None and length > self.most else None


class Thinking(TraceBlock):
    """Traces that do not open and close their thoughts once. A prompt that opens none asks for nothing."""

    reads = ("completion",)
    reasons = ("thought_not_closed_once",)

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    @classmethod
    def of(cls, rules: TraceRules, prompt: PromptSettings) -> Thinking | None:
        asked = rules.format is not None and rules.format.think and THINK in prompt.prefix
        return cls(prompt.prefix) if asked else None

    def why(self, trace: Row) -> Why | None:
        text = opened_once(trace["completion"], self.prefix)  # as it will be trained on
        if thinks_once(text):
            return None
        return "thought_not_closed_once", f"{text.count(THINK)} opened, {text.count(END_THINK)} closed"


class Boxes(TraceBlock):
    """Traces without exactly one final box."""

    reads = ("completion",)
    reasons = ("not_one_box",)

    @classmethod
    def of(cls, rules: TraceRules, prompt: PromptSettings) -> Boxes | None:
        return cls() if rules.format is not None and rules.format.one_box else None

    def why(self, trace: Row) -> Why | None:
        boxes = count_final_boxes(trace["completion"])
        return None if boxes == 1 else ("not_one_box", f"{boxes} boxes")


class Repetitive(TraceBlock):
    """Traces that repeat themselves, by how far they can be compressed."""

    reads = ("completion",)
    reasons = ("repetitive",)

    def __init__(self, config: Repetition) -> None:
        self.config = config

    @classmethod
    def of(cls, rules: TraceRules, prompt: PromptSettings) -> Repetitive | None:
        return None if rules.repetition is None else cls(rules.repetition)

    def why(self, trace: Row) -> Why | None:
        found = repetition(trace["completion"], self.config.tail_chars)
        return ("repetitive", f"compresses {found:.1f} times") if found > self.config.max_ratio else None
