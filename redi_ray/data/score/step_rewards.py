"""ReasonFlux-PRM's step and trajectory rewards (arXiv 2506.18896), from columns that other steps have made.

    alignment   a_t = max_j cos(e(s_t), e(r_j))                              s_t: steps of the thinking, r_j: of the response
    coherence   c_t = exp(cos(e(s_t), e(s_t-1)) / tau) / sum over s_t-1 and the negatives
    quality     q_t                                                          a judge's number, any column of steps
    step        r_t = sum_k softmax(a_t, q_t, c_t)_k (a_t, q_t, c_t)_k
    trace       mean_t r_t + alpha R                                         R: the trajectory's

The code that makes these targets and trains on them is not public. Of Gen-Verse/ReasonFlux @8980b8b the scoring by finished
models was read; of the paper, its abstract and accounts by others: that a step's reward is these three weighted by their own
softmax, that the trajectory's is the share of right samples that a template guides, that both are trained on by squares, and that
traces are selected by the mean over steps plus alpha times the trajectory's. Decided here, since nothing that was read says it:

- a step is aligned to the most similar step of the response: thinking and response have unequal numbers of steps;
- coherence is the contrastive probability and not its logarithm, so that the three are about equally large: the softmax of a
  number without a lower bound would leave it out. Before the first step stands the problem. Negatives are steps of other
  problems' samples, none with the text of the step before;
- the trajectory's target stands at the end of the response, where the head says it, and counts as much as that of any step;
- tau 0.1, 8 negatives and alpha 1 are settings, not theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redi_ray.config.scorer_base import COLUMN
from redi_ray.config.trace_rewards import STEP, TRAJECTORY, StepRewardsScorer, TraceRewardScorer
from redi_ray.data.score.scorer import Asked, Scorer, Values
from redi_ray.schemas import SPAN_SCORE, turns_of
from redi_ray.text.steps import thinking_and_response
from redi_ray.text.thoughts import response_start

Floats = NDArray[np.float64]
Span = dict[str, Any]
READS = ("completion", "turns")


def softmax_weighted(values: Floats) -> Floats:
    """`values[..., K]` weighted by their own softmax, `[...]`: between the mean and the largest.

    Example: of .8, .5 and -.2 it is .5201472178.
    """
    weights = np.exp(values - values.max(-1, keepdims=True))
    found: Floats = (weights * values).sum(-1) / weights.sum(-1)
    return found


def alignment(steps: Floats, response: Floats) -> Floats:
    """`[T]` the cosine of each step to the most similar of the response's. steps: `[T, d]` of length 1; response: `[R, d]`."""
    found: Floats = (steps @ response.T).max(-1)
    return found


def coherence(before: Floats, others: Floats, temperature: float) -> Floats:
    """`[T]` how well the step before is told from others, as a probability. before: `[T]` cosines to it; others: `[T, N]` to the
    negatives."""
    logits = np.concatenate([before[:, None], others], 1) / temperature
    shares = np.exp(logits - logits.max(1, keepdims=True))
    found: Floats = shares[:, 0] / shares.sum(1)
    return found


def number_of(span: Span, read: str | Mapping[str, float]) -> float | None:
    """What a span stands for: its value, or what its label stands for."""
    return span["value"] if isinstance(read, str) else read.get(span["label"])


def place_of(span: Span) -> tuple[int, int, int]:
    return span["turn"], span["start"], span["end"]


def step_targets(columns: Sequence[tuple[Sequence[Span] | None, str | Mapping[str, float]]], equal: bool) -> list[Span]:
    """A span for each step that has a number in all columns, in order. columns: the spans of each, and how they are read."""
    found = []
    numbers = [{place_of(span): number_of(span, read) for span in spans or ()} for spans, read in columns]
    for place in sorted(numbers[0]):
        known = [of.get(place) for of in numbers]
        values = np.array([value for value in known if value is not None])
        if len(values) < len(known):
            continue
        value = float(values.mean() if equal else softmax_weighted(values))
        found.append(dict(zip(("turn", "start", "end"), place, strict=True)) | {"label": STEP, "value": value})
    return found


def last_turn(row: Mapping[str, Any]) -> tuple[int, str]:
    """Number and text of the model's last turn."""
    turns = turns_of(row)
    number = max((at for at, turn in enumerate(turns) if turn["role"] == "assistant"), default=0)
    return number, turns[number]["content"] if turns else ""


def joint_targets(row: Mapping[str, Any], steps: list[Span], trajectory: float | None) -> list[Span] | None:
    """The steps before the response, cut off where it begins, and the response with the target of the whole; None of a sample
    without either."""
    number, text = last_turn(row)
    begun = response_start(text)
    if trajectory is None or begun is None:
        return None
    whole = {"turn": number, "start": begun, "end": len(text), "label": TRAJECTORY, "value": trajectory}
    before = [span for span in steps if span["turn"] < number]
    for span in steps:
        if span["turn"] == number and thinking_and_response(text, [(span["start"], span["end"])])[0]:
            before.append({**span, "end": min(span["end"], begun)})
    return [*before, whole]


def start_targets(settings: StepRewardsScorer, asked: Asked) -> Values:
    """The joint column."""

    def of_row(row: dict[str, Any]) -> list[Span] | None:
        steps = step_targets(
            [(row[COLUMN + name], read) for name, read in settings.columns.items()], settings.weights == "equal"
        )
        if settings.trajectory is not None:
            return joint_targets(row, steps, row[COLUMN + settings.trajectory])
        return steps or None

    return lambda rows: [{"spans": of_row(row)} for row in rows.to_pylist()]


def trace_reward(row: Mapping[str, Any], spans: Sequence[Span] | None, alpha: float) -> float | None:
    """The mean over the steps of the thinking, plus `alpha` times the number of the response's last step."""
    number, text = last_turn(row)
    thinking, response = list[float](), list[float]()
    for span in spans or ():
        if span["value"] is None:
            continue
        pieces = thinking_and_response(text, [(span["start"], span["end"])])
        if span["turn"] != number or pieces[0]:
            thinking.append(span["value"])
        if span["turn"] == number and pieces[1]:
            response.append(span["value"])
    if not thinking or (alpha and not response):
        return None
    return float(np.mean(thinking)) + (alpha * response[-1] if alpha else 0.0)


def start_trace_rewards(settings: TraceRewardScorer, asked: Asked) -> Values:
    """A number for each sample."""

    def values(rows: pa.Table) -> list[dict[str, Any]]:
        return [{"value": trace_reward(row, row[COLUMN + settings.column], settings.alpha)} for row in rows.to_pylist()]

    return values


STEP_REWARDS = Scorer(READS, start_targets, schema=lambda settings: SPAN_SCORE)
TRACE_REWARD = Scorer(READS, start_trace_rewards)
