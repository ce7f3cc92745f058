"""The columns and types of every table that passes between stages, defined once.

The path of data (each arrow is one stage, each table one Parquet dataset):

    Problem -> generate -> Trace -> verify -> VerifiedTrace -> curate -> Example | Pair | Group

Left out on purpose: anything a trainer needs beyond messages (token ids, masks, reference log-probs). Those are made
from these tables in `redi_ray.text.tokens` and never travel back.
"""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa


class Verdict(StrEnum):
    """What a verifier, or the label policy over all of them, says of one trace.

    Only `WRONG` may become a rejected sample by default: a time-out or an unreadable gold answer says nothing about the
    trace, and a trace that is falsely called wrong teaches the model to avoid what is right.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    """The trace holds nothing that could be read as an answer."""
    TIMEOUT = "timeout"
    """The comparison did not end in time."""
    GOLD_UNPARSEABLE = "gold_unparseable"
    """The reference answer is missing or cannot be read."""
    ERROR = "error"
    """The verifier failed (out of memory, crashed, wrong types)."""


VERIFIERS = ("math_verify", "judge", "label")
"""Names of the votes in `verdict_by`: our Math-Verify, a language-model judge, and a label that came with the data."""

VOTES = pa.struct([pa.field(name, pa.string()) for name in VERIFIERS])
"""One vote per verifier: a `Verdict` value, or null where that verifier did not vote."""

UNFINISHED = "unfinished"
"""Finish reason of a completion that the server broke off, or that ended for a reason nobody knows: never `wrong`."""
FINISH_REASONS = ("stop", "length", "loop", UNFINISHED)
"""Why a completion ended: by itself, at its token limit, stopped for repeating itself to no end, or none of these. What
servers and data call it is read by `redi_ray.text.finish`."""
CUT_OFF = ("length", "loop", UNFINISHED)
"""Finish reasons of a completion that did not end by itself."""

PROBLEM = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
        pa.field("answer", pa.string()),
        pa.field("source", pa.string()),
    ]
)

TRACE = pa.schema(
    [
        *PROBLEM,
        pa.field("trace_id", pa.string(), nullable=False),  # problem_id#sample_index
        pa.field("sample_index", pa.int64(), nullable=False),  # generation order within the problem
        pa.field("completion", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string()),  # FINISH_REASONS, null where unknown
        pa.field("num_tokens", pa.int64()),
        pa.field("model", pa.string()),
        pa.field("sampling", pa.string()),  # JSON: parameters, seed, prompt_tokens; null for imported traces
        pa.field("votes", VOTES),  # votes shipped with imported traces
    ]
)

VERIFIED_TRACE = pa.schema(
    [
        *TRACE,
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("verdict_by", VOTES, nullable=False),
        pa.field("extracted_answer", pa.string()),
    ]
)

VERDICT = pa.schema(
    [
        pa.field("trace_id", pa.string(), nullable=False),
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("extracted_answer", pa.string()),
        pa.field("verdict_by", VOTES, nullable=False),
    ]
)
"""What `redi-ray verify --traces` says of each trace; the text stays in the user's own file."""

JUDGEMENT = pa.schema(
    [
        pa.field("trace_id", pa.string(), nullable=False),
        pa.field(
            "output", pa.string()
        ),  # what the judge said, reasoning included; null where it was not asked or failed
        pa.field("finish_reason", pa.string()),  # of the output, as in TRACE
        pa.field("num_tokens", pa.int64()),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("not_asked", pa.string()),  # why it was not asked
        pa.field("failure", pa.string()),  # why it was asked and did not answer
    ]
)
"""One row per trace, in the order of the traces. What an output means is read when votes become verdicts."""

MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))
"""A chat as TRL and the hub store it: a list of {role, content}."""

EXAMPLE = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("finished", pa.bool_()),  # false: the answer was cut off, so that no end of turn follows it
    ]
)

PAIR = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("prompt", MESSAGES, nullable=False),
        pa.field("chosen", MESSAGES, nullable=False),
        pa.field("rejected", MESSAGES, nullable=False),
        pa.field("chosen_finished", pa.bool_()),  # as in EXAMPLE
        pa.field("rejected_finished", pa.bool_()),
    ]
)

SPANS = pa.list_(
    pa.struct(
        [
            pa.field("turn", pa.int32()),
            pa.field("start", pa.int32()),
            pa.field("end", pa.int32()),
            pa.field("value", pa.float32()),
        ]
    )
)
"""Parts of a member's turns with a weight: characters `[start, end)` of turn number `turn` (0, 1, ...)."""

MEMBER = pa.struct(
    [
        pa.field("turns", MESSAGES),
        pa.field("side", pa.int8()),
        pa.field("reward", pa.float32()),
        pa.field("finished", pa.bool_()),
        pa.field("spans", SPANS),
    ]
)

GROUP = pa.schema(
    [
        pa.field("group_id", pa.string(), nullable=False),
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("prompt", MESSAGES, nullable=False),
        pa.field("members", pa.list_(MEMBER), nullable=False),
    ]
)
"""What is trained on: answers to one prompt that are learnt from together. An example is a group of one, a pair of two, n samples
with rewards one of n.

A member's `turns` go on from the prompt: assistant (the model's own, the only ones that are scored), tool and user (context).
Its `side` is +1 or -1; `reward` is null where there is none, `spans` where nothing is weighted; `finished` is false where the
last turn was cut off, so that no end of turn follows it.
"""

REJECT = pa.schema(
    [
        pa.field("where", pa.string(), nullable=False),  # file and row, or the row's id
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
        pa.field("raw", pa.string()),  # the row as it came, cut to a few kilobytes
    ]
)
"""A row that does not fit goes here with its reason; counts always reconcile: in = out + dropped + rejected."""


def trace_id(problem_id: str, sample_index: int) -> str:
    return f"{problem_id}#{sample_index}"
