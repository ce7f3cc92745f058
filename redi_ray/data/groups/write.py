"""Pass `write`: fetches the texts of what was chosen, measures them in the student's tokens, and writes groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from redi_ray.data.curate.answers import Answers, is_finished
from redi_ray.data.curate.choice import PLACE
from redi_ray.data.curate.work import finish, finished, order_key, part_name, read_row_group, write_rows
from redi_ray.data.curate.write import TEXTS, fetch
from redi_ray.data.groups.choose import Losses, is_whole, sides_of
from redi_ray.data.groups.scan import Grouping
from redi_ray.data.weights import NO_WEIGHTS
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import GROUP, TOKEN_WEIGHTS, turns_of, weighted
from redi_ray.text.prompts import to_messages
from redi_ray.text.templates import without_ending
from redi_ray.text.tokens import plain_ids, prompt_ids

CHOSEN = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("home", PLACE, nullable=False),  # of the problem's first sample in the shards
        pa.field("members", pa.list_(PLACE), nullable=False),
        pa.field("rewards", pa.list_(pa.float64()), nullable=False),
    ]
)
PART_MEMBERS = 1000
"""Members of a shard's groups, about, and what a crash can cost in this pass."""
Row = dict[str, Any]


def write_group(grouping: Grouping, group: int) -> Counter[str]:
    """Write the group's shards of `groups` and `dropped`; returns their counts."""
    table = read_row_group(grouping.work_files("chosen", grouping.partitions), group)
    choices = sorted(table.to_pylist(), key=lambda row: (row["home"]["shard"], row["home"]["row"], row["problem_id"]))
    counts: Counter[str] = Counter()
    for number, part in enumerate(parts(choices)):
        counts += write_part(grouping, part_name(group, number), part)
    return counts


def parts(choices: list[Row]) -> Iterator[list[Row]]:
    """The choices in pieces of about PART_MEMBERS members."""
    part: list[Row] = []
    for choice in choices:
        part.append(choice)
        if sum(len(one["members"]) for one in part) >= PART_MEMBERS:
            yield part
            part = []
    if part:
        yield part


def write_part(grouping: Grouping, name: str, choices: list[Row]) -> Counter[str]:
    """Write the part's tables unless they are there; returns its counts."""
    mark = grouping.work("written", f"{name}.json")
    if (known := finished(mark)) is not None:
        return known
    places = [(place["shard"], place["row"]) for choice in choices for place in choice["members"]]
    texts = fetch(grouping.verified, places, [*TEXTS, "turns"])
    spans = fetch(grouping.spans, places, ["trace_id", "spans"]) if grouping.spans is not None else {}
    weighing = grouping.weighing
    weights = {} if weighing is None else weighing.read({place: texts[place]["trace_id"] for place in places})
    maker, groups = _Maker(grouping), []
    for choice in sorted(choices, key=lambda row: order_key(grouping.settings.seed, row["problem_id"])):
        at = [(place["shard"], place["row"]) for place in choice["members"]]
        traces = [
            {
                **texts[place],
                "reward": reward,
                "spans": spans[place]["spans"] if spans else None,
                "weights": weights.get(place),
            }
            for place, reward in zip(at, choice["rewards"], strict=True)
        ]
        groups += maker.group(choice["problem_id"], traces)
    schema = GROUP if weighing is None else weighted(GROUP, weighing.tokenizer)
    write_rows(grouping, "groups", name, groups, schema)
    maker.losses.write(grouping, name)
    return finish(mark, maker.counts + maker.losses.counts)


class _Maker:
    """Makes rows of GROUP."""

    def __init__(self, grouping: Grouping) -> None:
        self.grouping = grouping
        self.tokenizer = load_tokenizer(grouping.tokenizer, grouping.trust_remote_code)
        self.answers = Answers(self.tokenizer, grouping.prompt)
        self.losses, self.counts = Losses(), Counter[str]()

    def group(self, problem_id: str, traces: list[Row]) -> list[Row]:
        """The group of a problem's chosen samples, or none."""
        settings = self.grouping.settings
        messages = to_messages(traces[0]["problem"], self.grouping.prompt)
        tokens = len(prompt_ids(messages, self.tokenizer, self.grouping.prompt))
        if tokens > self.grouping.max_prompt_tokens:
            self.losses.lose("prompt_too_long", problem_id, len(traces), str(tokens))
            return []
        fitting = []
        sides = sides_of([trace["reward"] for trace in traces], settings)
        for trace, side in zip(traces, sides, strict=True):
            trace["side"] = side
            if (reason := self.misfit(trace)) is not None:
                self.losses.add("trace", reason, problem_id, trace["trace_id"])
                continue
            fitting.append(trace)
        members = [self.member(trace) for trace in fitting]
        if not is_whole(settings, problem_id, fitting, self.losses):
            return []
        self.counts["groups"] += 1
        self.counts["members"] += len(members)
        self.counts["cut_off"] += sum(not member["finished"] for member in members)
        self.counts.update(f"side/{member['side']:+d}" for member in members)
        key = order_key(settings.seed, problem_id)
        group = {"group_id": f"{key}/{problem_id}", "problem_id": problem_id, "prompt": messages, "members": members}
        if self.grouping.weighing is None:
            return [group]
        weights = [trace["weights"] if self.is_weighed(trace) else None for trace in fitting]
        return [{**group, TOKEN_WEIGHTS: weights}]

    def is_weighed(self, trace: Row) -> bool:
        """Whether the tokens of a sample are weighed as the member that it becomes."""
        weighing = self.grouping.weighing
        return weighing is not None and weighing.weighs(trace["side"])

    def misfit(self, trace: Row) -> str | None:
        """Why a sample cannot be used after all, or None."""
        turns, finished = turns_of(trace), is_finished(trace)
        first = turns[0]["content"]
        if (reason := self.answers.misfit(first)) is not None:
            return reason
        if trace["weights"] is None and self.is_weighed(trace):
            return NO_WEIGHTS
        tokens = self.answers.count_tokens(first, finished=finished or len(turns) > 1)
        tokens += sum(len(plain_ids(turn["content"], self.tokenizer)) for turn in turns[1:])
        return "too_long" if tokens > self.grouping.max_response_tokens else None

    def member(self, trace: Row) -> Row:
        """A row of MEMBER."""
        turns, before = [], turns_of(trace)
        for turn in before:
            turns.append(self.answers.message(turn["content"]) if turn["role"] == "assistant" else turn)
        spans = trace["spans"]
        if spans is not None:
            spans = [moved for span in spans if (moved := self.moved(span, before, turns)) is not None]
        return {
            "turns": turns,
            "side": trace["side"],
            "reward": trace["reward"],
            "finished": is_finished(trace) and turns[-1]["role"] == "assistant",
            "spans": spans,
        }

    def moved(self, span: Row, before: list[Row], after: list[Row]) -> Row | None:
        """A span of a turn, as the turn is trained on: its beginning may have been mended, its end taken away. None if nothing is
        left of it."""
        old, new = before[span["turn"]]["content"], after[span["turn"]]["content"]
        shift = 0 if old == new else len(new) - len(without_ending(old, self.tokenizer))
        start, end = max(0, span["start"] + shift), min(len(new), span["end"] + shift)
        return {"turn": span["turn"], "start": start, "end": end, "value": span["value"]} if start < end else None
