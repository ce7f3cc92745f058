"""What the data of a world of digits are, in numbers: what was sampled, and how tokens are weighed before and behind an error."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from reproduction_runs import PROMPT, TOKENIZER
from wrong_parts_digits import Digits, located, tokens_of

from redi_ray.data.locate.exact import right_lines
from redi_ray.data.sources.world import answer
from redi_ray.schemas import Verdict
from redi_ray.text.tokens import places_in


def facts_of(world: Digits) -> dict[str, Any]:
    """What the data are, in numbers."""
    own, continued = world.drawn["own"], world.drawn["continued"]
    first = [row for row in own if row["sample_index"] < world.scale.first_samples]
    starts = world._starts(own)
    return {
        "seed": world.seed,
        "own_samples": len(own) / len(world.world.train),
        "own_right": float(np.mean([row["verdict"] == Verdict.CORRECT for row in own])),
        "tokens_whole": tokens_of(own),
        "tokens_step": tokens_of(first) + tokens_of(continued),
        "pairs": len(world.rejected),
        "starts": len(starts),
        "continuations": len(continued),
        "continuations_right": sum(row["verdict"] == Verdict.CORRECT for row in continued),
        "starts_paired": len({start["problem_id"] for _, (start, _, _) in world.chosen_steps}),
        "step_pairs": len(world.chosen_steps),
        "problems_paired": len({a["problem_id"] for a, _ in world.rejected}),
        "problems_step_paired": len({name for name, _ in world.chosen_steps}),
        **_places(world),
    }


def _places(world: Digits) -> dict[str, float]:
    """Of the rejected samples' tokens before, at and behind the first wrong one: their share, and what they weigh (1 - s);
    and of the misconceptions, how many are a first wrong line in the pairs of either kind."""
    shares, weights = Counter[str](), Counter[str]()
    facts: dict[str, set[str]] = {"whole": set(), "step": set()}
    for (_, row), scores in zip(world.rejected, world.scores, strict=True):
        begun_step = world.finder.start_of(row, located(row))
        if isinstance(begun_step, str):
            continue
        at = first_wrong_character(row["problem"], *begun_step)
        facts["whole"].add(begun_step[1])
        for place, (start, end) in enumerate(places_in(row["completion"], TOKENIZER, PROMPT)):
            where = "before" if end <= at else "at" if start <= at else "behind"
            shares[where] += 1
            weights[where] += 1 - float(scores[place])
    facts["step"] = {start["step"] for _, (start, _, _) in world.chosen_steps}
    taught = {
        f"{value}{operator}{digit}={wrong}" for (value, operator, digit), wrong in world.world.misconceptions.items()
    }
    found = {f"share_{where}": count / shares.total() for where, count in shares.items()}
    found |= {f"weight_{where}": weights[where] / count for where, count in shares.items()}
    return found | {f"misconceptions_{kind}": len(steps & taught) / len(taught) for kind, steps in facts.items()}


def first_wrong_character(problem: str, begun: str, step: str) -> int:
    """Where in a sample the first wrong line is wrong, in characters."""
    lines, place = [*right_lines(problem), f"\\boxed{{{answer(problem)}}}"], begun.count("=")
    right = lines[min(place, len(lines) - 1)]
    same = next((at for at, (a, b) in enumerate(zip(step, right, strict=False)) if a != b), min(len(step), len(right)))
    return len(begun) + same
