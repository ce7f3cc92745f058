"""Blocks on single traces: may this trace be picked for its side?"""

from __future__ import annotations

from typing import Any

from redi_ray.config.curation import TraceRules
from redi_ray.config.prompts import END_THINK, THINK, PromptSettings
from redi_ray.schemas import CUT_OFF
from redi_ray.text.quality import count_final_boxes, repetition, thinks_once
from redi_ray.text.thoughts import opened_once


def trace_problem(row: dict[str, Any], rules: TraceRules, prompt: PromptSettings) -> tuple[str, str] | None:
    """(reason, detail) why this trace may not be picked, or None. `row` has `finish_reason` and the text if asked for."""
    if not rules.truncated and row["finish_reason"] in CUT_OFF:
        return "truncated", row["finish_reason"]
    return text_problem(row["completion"], rules, prompt) if rules.read_text else None


def text_problem(text: str, rules: TraceRules, prompt: PromptSettings) -> tuple[str, str] | None:
    """The same for its text alone."""
    if len(text) < rules.min_chars:
        return "too_few_chars", str(len(text))
    if rules.max_chars is not None and len(text) > rules.max_chars:
        return "too_many_chars", str(len(text))
    if rules.format is not None and rules.format.think and THINK in prompt.prefix:
        mended = opened_once(text, prompt.prefix)  # as it will be trained on
        if not thinks_once(mended):
            return "thought_not_closed_once", f"{mended.count(THINK)} opened, {mended.count(END_THINK)} closed"
    if rules.format is not None and rules.format.one_box and (boxes := count_final_boxes(text)) != 1:
        return "not_one_box", f"{boxes} boxes"
    if rules.repetition is not None:
        found = repetition(text, rules.repetition.tail_chars)
        return ("repetitive", f"compresses {found:.1f} times") if found > rules.repetition.max_ratio else None
    return None
