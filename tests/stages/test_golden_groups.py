"""Golden values and identities of steps, turns and token weights, from rows of groups through the arrays to the loss.

One fixture: chosen `123`, rejected `45`, of which every token has a log-prob of policy and reference by its digit. Where the
reference's log-probs lie in float64 all ten digits hold.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from array_scores import Arrays, group, member, span

from redi_ray.config.objectives import (
    DpoObjective,
    KtoObjective,
    NcaObjective,
    Objective,
    RediObjective,
    SimpoObjective,
)
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.objectives.base import MismatchedScores
from redi_ray.stages.encoding import Weighting

TOKENIZER = character_tokenizer("0123456789")
OF_DIGIT = {
    "1": (-0.5, -0.7), "2": (-1.0, -0.9), "3": (-0.2, -0.4), "4": (-1.2, -0.8), "5": (-0.3, -0.5),
    "9": (-1.0, -6.0), "7": (-0.1, -0.4), "8": (-0.6, -0.2),
}  # fmt: skip
"""Policy, reference. 9 is what a tool says, with a log-ratio of +5; 7 and 8 are a shared prefix."""
OF_TOKEN = {TOKENIZER.convert_tokens_to_ids(digit): pair for digit, pair in OF_DIGIT.items()}
OUTSIDE_COUNTS = Weighting(end_of_turn=False, think_tags=False, outside_spans=1)
CHOSEN, REJECTED = "123", "45"
TOOL = ("tool", "9")
DPO = DpoObjective(beta=0.1)


def arrays(folder: Path, *rows: dict[str, Any], logps: Any = None, **more: Any) -> Arrays:
    return Arrays(list(rows), folder, TOKENIZER, logps or (lambda token: OF_TOKEN.get(token, (-2.0, -2.0))), **more)


def pair(chosen: dict[str, Any], rejected: dict[str, Any]) -> dict[str, Any]:
    return group("a", chosen, {**rejected, "side": -1})


def open_member(*turns: Any, **more: Any) -> dict[str, Any]:
    """Its last turn is not closed, so that the fixture's tokens are all that is scored."""
    return member(*turns, finished=False, **more)


def loss(folder: Path, objective: Objective, chosen: dict[str, Any], rejected: dict[str, Any], **more: Any) -> float:
    return arrays(folder, pair(chosen, rejected), **more).evaluate(objective, "pairs")[0]


def exactly(value: float) -> Any:
    return pytest.approx(value, abs=1e-9, rel=0)


PLAIN = (open_member(CHOSEN), open_member(REJECTED))


def test_dpo_and_nca_with_their_slopes(tmp_path: Path):
    """And at policy == reference, where NCA has half of DPO's slopes."""
    told = arrays(tmp_path, pair(*PLAIN))
    losses: dict[Objective, float] = {
        DPO: 0.6684596480, DpoObjective(beta=0.4): 0.5981388694, DpoObjective(beta=0.5): 0.5759394199,
        NcaObjective(beta=0.3): 1.3505375651,
    }  # fmt: skip
    for objective, expected in losses.items():
        assert told.evaluate(objective, "pairs")[0] == exactly(expected)
    for beta, slope in ((0.1, 0.0487502604), (0.4, 0.1800664011)):
        slopes = told.evaluate(DpoObjective(beta=beta), "pairs")[1]
        assert slopes == [exactly(-slope)] * 3 + [exactly(slope)] * 2
    same = arrays(tmp_path / "same", pair(*PLAIN), logps=lambda token: (OF_TOKEN.get(token, (-2.0, 0))[0],) * 2)
    for objective, expected, slope in (
        (NcaObjective(beta=0.3), 2 * math.log(2), 0.075),
        (DpoObjective(beta=0.3), math.log(2), 0.15),
    ):
        found, slopes = same.evaluate(objective, "pairs")
        assert found == exactly(expected)
        assert slopes == [exactly(-slope)] * 3 + [exactly(slope)] * 2


@pytest.mark.parametrize(("tool", "expected"), [(TOOL, 0.6684596480), (("assistant", "9"), 0.4554924815)])
def test_a_tools_turn_is_masked(tmp_path: Path, tool: tuple[str, str], expected: float):
    """In the chosen, a log-ratio of +5; the same text as a turn of the model's own counts. The token that closes `12` is scored,
    and its log-ratio is 0."""
    told = arrays(tmp_path, pair(open_member("12", tool, "3"), open_member(REJECTED)))
    assert told.evaluate(DPO, "pairs")[0] == exactly(expected)
    end = TOKENIZER.eos_token
    own = f"12{end}3" if tool == TOOL else f"12{end}9{end}3"
    assert told.scored("pairs") == [own, REJECTED]


def test_what_a_tool_says_changes_nothing_and_in_both_it_cancels(tmp_path: Path):
    """Loss and slopes, to the last bit."""
    found = [
        arrays(tmp_path / said, pair(open_member("12", ("tool", said), "3"), open_member(REJECTED))).evaluate(
            DPO, "pairs"
        )
        for said in ("9", "7", "888")
    ]
    assert found[0] == found[1] == found[2]
    both = (open_member("12", ("assistant", "9"), "3"), open_member("4", ("assistant", "9"), "5"))
    assert loss(tmp_path / "both", DPO, *both) == exactly(0.6684596480)


def test_one_turn_and_one_step_behind_an_empty_prefix_are_dpo(tmp_path: Path):
    plain = arrays(tmp_path / "plain", pair(*PLAIN)).evaluate(DPO, "pairs")
    steps = [open_member(text, spans=[span(0, len(text), 1)]) for text in (CHOSEN, REJECTED)]
    assert arrays(tmp_path / "steps", pair(*steps)).evaluate(DPO, "pairs") == plain
    context = [open_member(("user", "7"), text) for text in (CHOSEN, REJECTED)]
    assert arrays(tmp_path / "context", pair(*context)).evaluate(DPO, "pairs") == plain


def test_a_shared_prefix_cancels_in_dpo_and_not_where_lengths_or_sides_weigh(tmp_path: Path):
    """Step-DPO's masks take it out of all of them. REDI: .5667 - .8 * .75, and .48 - .8 * .55 with the prefix."""
    masked = [open_member(f"78{text}", spans=[span(2, 2 + len(text), 1)]) for text in (CHOSEN, REJECTED)]
    left_in = [open_member(f"78{text}") for text in (CHOSEN, REJECTED)]
    objectives: dict[str, tuple[Objective, float, float]] = {
        "dpo": (DPO, 0.6684596480, 0.6684596480),
        "simpo": (SimpoObjective(beta=2, gamma=1), 1.0591365140, 1.2128812145),
        "redi": (RediObjective(alpha=0.8), 1.7 / 3 - 0.8 * 0.75, 0.48 - 0.8 * 0.55),
    }
    for name, (objective, without, within) in objectives.items():
        assert loss(tmp_path / name / "plain", objective, *PLAIN) == exactly(without)
        assert loss(tmp_path / name / "masked", objective, *masked) == exactly(without)
        assert loss(tmp_path / name / "left-in", objective, *left_in) == exactly(within)


@pytest.mark.parametrize(
    ("s", "gamma", "expected"),
    [
        ((0.9, 0.25), 1.0, 0.6026529093), ((0.9, 0.25), 0.1, 0.6836923049), ((0.0, 0.0), 1.0, 0.4740769842),
        ((1.0, 1.0), 1.0, 0.5543552445),
    ],
)  # fmt: skip
def test_cdpo(tmp_path: Path, s: tuple[float, float], gamma: float, expected: float):
    """1 - s_t on the rejected side alone. Where all s are 1 a rest is left, since a side without a scored token is no side."""
    spans = [span(at, at + 1, max(1 - value, 1e-12)) for at, value in enumerate(s)]
    rejected = open_member(REJECTED, spans=spans)
    assert loss(tmp_path, DpoObjective(beta=gamma), open_member(CHOSEN), rejected, weighting=OUTSIDE_COUNTS) == exactly(
        expected
    )


def test_cdpo_without_critical_tokens_is_dpo(tmp_path: Path):
    spans = [span(0, 1, 1), span(1, 2, 1)]
    weighted = pair(open_member(CHOSEN), open_member(REJECTED, spans=spans))
    for objective in (DPO, RediObjective(alpha=0.8)):
        plain = arrays(tmp_path / f"{objective.name}-plain", pair(*PLAIN)).evaluate(objective, "pairs")
        assert (
            arrays(tmp_path / objective.name, weighted, weighting=OUTSIDE_COUNTS).evaluate(objective, "pairs") == plain
        )


def test_kto_of_either_side_and_both(tmp_path: Path):
    """z = .1; and at policy == reference, with z = 0."""
    one = torch.ones(1, dtype=torch.float64)
    rows = {
        "chosen": ([group("a", open_member(CHOSEN))], 0.4950001667),
        "rejected": ([group("a", open_member(REJECTED, side=-1))], 0.4925005625),
        "both": ([group("a", open_member(CHOSEN)), group("b", open_member(REJECTED, side=-1))], 0.4937503646),
    }
    for name, (groups, expected) in rows.items():
        found, _ = arrays(tmp_path / name, *groups).evaluate(
            KtoObjective(beta=0.1), "groups", MismatchedScores(0.1 * one, 0 * one, one)
        )
        assert found == exactly(expected)
    same = arrays(tmp_path / "same", *rows["both"][0], logps=lambda token: (OF_TOKEN.get(token, (-2.0, 0))[0],) * 2)
    found, slopes = same.evaluate(KtoObjective(beta=0.1), "groups")
    assert found == exactly(0.5)
    assert sorted(slopes) == [exactly(-0.0125)] * 3 + [exactly(0.0125)] * 2


def test_ktos_baseline_leaves_tools_out_too(tmp_path: Path):
    """Each prompt gets the other's completion, whose log-ratios are .3 and -.2: z = .05 with or without the tool's +5."""

    def term(ratio: float) -> float:
        return 1 - 1 / (1 + math.exp(-0.1 * ratio))

    z = 0.05
    for name, turns in (("tool", (("12", TOOL, "3"), ("4", TOOL, "5"))), ("none", (("123",), ("45",)))):
        rows = [group("a", open_member(*turns[0])), group("b", open_member(*turns[1], side=-1))]
        found, _ = arrays(tmp_path / name, *rows).evaluate(KtoObjective(beta=0.1), "groups")
        assert found == exactly((term(0.3 - z) + term(z + 0.2)) / 2)
