r"""Plain signs of a bad trace: thoughts that never close, no final box or several, text that repeats itself."""

from __future__ import annotations

import zlib

from redi_ray.config.prompts import END_THINK, THINK
from redi_ray.text.boxes import BOX_OPENING


def thinks_once(completion: str) -> bool:
    """Whether `<think>` opens once and `</think>` closes it once, in this order."""
    return (
        completion.count(THINK) == 1
        and completion.count(END_THINK) == 1
        and completion.find(THINK) < completion.find(END_THINK)
    )


def count_final_boxes(completion: str) -> int:
    r"""Boxes after the last `</think>`, or in the whole completion where there is none. `\fbox` counts too."""
    final = completion.rpartition(END_THINK)[2].replace("\\fbox", "\\boxed")
    return sum(1 for _ in BOX_OPENING.finditer(final))


def compression_ratio(text: str) -> float:
    """Bytes of `text` per byte that zlib makes of it; 1 for no text.

    Reasoning reaches 2 to 5, a loop tens to hundreds. Short texts stay low, because zlib has a fixed cost.
    """
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 1.0


def repetition(completion: str, tail_chars: int) -> float:
    """The larger compression ratio of the whole completion and of its end: a loop may fill either."""
    whole = compression_ratio(completion)
    return max(whole, compression_ratio(completion[-tail_chars:])) if len(completion) > tail_chars else whole
