"""The columns and types of every table that passes between stages, defined once.

The path of data (each arrow is one stage, each table one Parquet dataset):

    Problem -> generate -> Trace -> verify -> VerifiedTrace -> curate -> Example | Pair | Group

Beside traces, with or without verdicts, lie columns, which steps such as `score` make: a row for each trace, in the same shards.

Left out on purpose: anything a trainer needs beyond messages (token ids, masks, reference log-probs). Those are made
from these tables in `redi_ray.text.tokens` and never travel back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

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


VOTES = pa.list_(pa.struct([pa.field("verifier", pa.string()), pa.field("vote", pa.string())]))
"""The votes that were cast, each a `Verdict` value. Names of verifiers are open: `math_verify` is our comparison of answers,
`judge` a language model, all others come with the data. A list and no map, which the hub's data sets do not read."""

UNFINISHED = "unfinished"
"""Finish reason of a completion that the server broke off, or that ended for a reason nobody knows: never `wrong`."""
FINISH_REASONS = ("stop", "length", "loop", UNFINISHED)
"""Why a completion ended: by itself, at its token limit, stopped for repeating itself to no end, or none of these. What
servers and data call it is read by `redi_ray.text.finish`."""
CUT_OFF = ("length", "loop", UNFINISHED)
"""Finish reasons of a completion that did not end by itself."""

MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))
"""A chat as TRL and the hub store it: a list of {role, content}."""

PROBLEM = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
        pa.field("answer", pa.string()),
        pa.field("source", pa.string()),
    ]
)

VARIANT = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),  # original_id~perturbation
        pa.field("original_id", pa.string(), nullable=False),
        pa.field("perturbation", pa.string(), nullable=False),
        pa.field(
            "keeps_answer", pa.bool_()
        ),  # whether its reference answer says what the original's does; null: not to be told
        pa.field(
            "right", pa.int64()
        ),  # right traces of the original that were verified with its answer, null if none had to be
        pa.field("moved", pa.int64()),  # of those how many are no longer right
        pa.field("original", pa.string(), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
    ]
)
"""What was changed of a problem, beside the table of problems that a step makes of others."""

TRACE = pa.schema(
    [
        *PROBLEM,
        pa.field("trace_id", pa.string(), nullable=False),  # problem_id#sample_index
        pa.field("sample_index", pa.int64(), nullable=False),  # generation order within the problem
        pa.field("completion", pa.string(), nullable=False),  # the answer, or of several turns the last answer
        pa.field("turns", MESSAGES),  # where there are several: all that follows the prompt
        pa.field("finish_reason", pa.string()),  # FINISH_REASONS, null where unknown
        pa.field("num_tokens", pa.int64()),
        pa.field("model", pa.string()),  # name of the step that made it, or what the config or the data call it
        pa.field("sampling", pa.string()),  # JSON: parameters, seed, prompt_tokens; null for imported traces
        pa.field("votes", VOTES),  # votes shipped with imported traces
    ]
)

SAMPLED_TOKENS = [
    pa.field("token_ids", pa.list_(pa.int32())),  # what the engine drew, with the token that ended it
    pa.field("logps", pa.list_(pa.float32())),  # of each the model's own log-prob, before temperature and top-p (nats)
]
SAMPLED_TRACE = pa.schema([*TRACE, *SAMPLED_TOKENS])
"""TRACE as `generate.logprobs` has it written. Verification leaves those columns where they are."""

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

_FAILURE = pa.struct(
    [
        pa.field("test", pa.int32()),  # its number, 0, 1, ...
        pa.field("reason", pa.string()),  # see `redi_ray.data.verify.tested`
        pa.field("detail", pa.string()),
    ]
)
_RUNS = [
    *(pa.field(name, pa.int32()) for name in ("total", "run", "passed")),  # the first that fails may have ended it
    pa.field("seconds", pa.float32()),  # processor time of all of them
]
TESTED = pa.field("tests", pa.struct([*_RUNS, pa.field("failures", pa.list_(_FAILURE))]))
"""What tests say of a trace; null where its problem has none."""


def with_tests(schema: pa.Schema) -> pa.Schema:
    """VERIFIED_TRACE or VERDICT where problems have tests."""
    return schema.append(TESTED)


TESTS = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("problem", pa.int64(), nullable=False),  # hash of its text, by which they are found
        pa.field("tests", pa.string(), nullable=False),  # as `redi_ray.text.code_tests` stores them
    ]
)
"""The tests of problems, in a table beside those: some are megabytes long, which no trace has to carry along."""

GRAIN, TOKENIZER, MODEL = "grain", "tokenizer", "model"
"""Metadata of a column's schema; the latter two, where there are any, are fingerprints."""


def column(
    grain: Literal["row", "span", "token", "distribution"], *values: pa.Field, tokenizer: str | None = None
) -> pa.Schema:
    """Schema of a column (`redi_ray.data.columns`): a row for each sample.

    grain: what of a sample the values say something about. `row`: all of it; `span`: parts of its turns, in characters, whatever
    the tokenizer; `token`: each token of its turns, by the tokenizer with this fingerprint; `distribution`: what may follow at
    each of them.
    """
    told = {GRAIN: grain} | ({} if tokenizer is None else {TOKENIZER: tokenizer})
    return pa.schema([pa.field("trace_id", pa.string(), nullable=False), *values], metadata=told)


SCORE = column("row", pa.field("value", pa.float64()))
"""A number for each sample, null where there is none."""
LABELLED_SCORE = column("row", pa.field("value", pa.float64()), pa.field("label", pa.string()))
"""The same, with a word for what kind of sample it is."""

LABELLED_SPAN = pa.struct(
    [
        pa.field("turn", pa.int32()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("label", pa.string()),
        pa.field("value", pa.float32()),
    ]
)
SPAN_SCORE = column("span", pa.field("spans", pa.list_(LABELLED_SPAN)))
"""Parts of a sample's turns, each characters `[start, end)` of turn number `turn` (0, 1, ...), with a label and a number."""


def token_scores(tokenizer: str, model: str | None = None) -> pa.Schema:
    """A number for each token of the model's own turns, by the tokenizer with this fingerprint: turn after turn the tokens that
    are trained on, with the one that closes a turn where it was not cut off. Null for a sample that was not scored. model: the
    fingerprint of the one whose numbers they are."""
    schema = column("token", pa.field("values", pa.list_(pa.float32())), tokenizer=tokenizer)
    return schema if model is None else schema.with_metadata({**schema.metadata, MODEL.encode(): model.encode()})


SOFT_FORMAT = "soft_targets"
"""Metadata of a schema: how a token's record is laid out (`redi_ray.modeling.soft_columns`, which reads it)."""


def token_distributions(tokenizer: str, model: str, soft_format: str) -> pa.Schema:
    """A teacher's distribution at each token of the model's own turns: as `token_scores`, a record for a number, those of a
    sample end to end. model: the teacher's fingerprint."""
    schema = column("distribution", pa.field("values", pa.binary()), tokenizer=tokenizer)
    return schema.with_metadata({**schema.metadata, MODEL: model, SOFT_FORMAT: soft_format})


TOKEN_DISTRIBUTIONS = "soft_targets"
"""Column of rows to train on: for each of their members, in order, the records of its tokens end to end, or null."""


def with_distributions(schema: pa.Schema, tokenizer: str, soft_format: str) -> pa.Schema:
    """A schema of rows to train on with `soft_targets`, by the tokenizer with this fingerprint."""
    named = schema.append(pa.field(TOKEN_DISTRIBUTIONS, pa.list_(pa.binary())))
    return named.with_metadata({**(schema.metadata or {}), TOKENIZER: tokenizer, SOFT_FORMAT: soft_format})


TOKEN_WEIGHTS = "token_weights"
"""Column of rows to train on: for each of their members, in order, what each token of the model's own turns weighs."""


TOKEN_COLUMNS = "token_columns"
"""Column of rows to train on: by name, for each of their members, in order, a number for each token of the model's own turns."""


def with_token_columns(schema: pa.Schema, tokenizer: str) -> pa.Schema:
    """A schema of rows to train on with `token_columns`, by the tokenizer with this fingerprint."""
    values = pa.field("values", pa.list_(pa.list_(pa.float32())))
    named = pa.field(TOKEN_COLUMNS, pa.list_(pa.struct([pa.field("name", pa.string()), values])))
    return schema.append(named).with_metadata({**(schema.metadata or {}), TOKENIZER: tokenizer})


def weighted(schema: pa.Schema, tokenizer: str) -> pa.Schema:
    """A schema of rows to train on with `token_weights`: for each member null, or a number for each of its tokens, by the
    tokenizer with this fingerprint. Of a pair the members are the chosen and the rejected one."""
    weights = pa.field(TOKEN_WEIGHTS, pa.list_(pa.list_(pa.float32())))
    return schema.append(weights).with_metadata({TOKENIZER: tokenizer})


JUDGEMENT = column(
    "row",
    pa.field("output", pa.string()),  # what the judge said, reasoning included; null where it was not asked or failed
    pa.field("finish_reason", pa.string()),  # of the output, as in TRACE
    pa.field("num_tokens", pa.int64()),
    pa.field("prompt_tokens", pa.int64()),
    pa.field("not_asked", pa.string()),  # why it was not asked
    pa.field("failure", pa.string()),  # why it was asked and did not answer
)
"""A column of traces. What an output means is read when votes become verdicts."""

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


def turns_of(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """What follows the prompt in a row of TRACE, a list of {role, content}: assistant (the model's own), tool, user (context)."""
    return row.get("turns") or [{"role": "assistant", "content": row["completion"]}]


def votes_of(stored: Any) -> dict[str, str]:
    """Verifier -> vote, of a value of VOTES as Python has it, null or not; or of the record with a field for each verifier that
    tables of earlier versions hold."""
    cast = stored.items() if isinstance(stored, Mapping) else ((one["verifier"], one["vote"]) for one in stored or ())
    return {verifier: vote for verifier, vote in cast if vote is not None}


def stored_votes(votes: Mapping[str, str | None]) -> list[dict[str, str]]:
    """The same as a value of VOTES, in this order; those that were not cast are left out."""
    return [{"verifier": verifier, "vote": str(vote)} for verifier, vote in votes.items() if vote is not None]
