"""Pass `write`: fetches the texts of what was chosen, measures them in the student's tokens, and writes groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from redi_ray.config.group_steps import GroupSettings
from redi_ray.data.curate.answers import Answers, is_finished
from redi_ray.data.curate.choice import PLACE
from redi_ray.data.curate.work import finish, finished, order_key, part_name, read_row_group, write_rows
from redi_ray.data.curate.write import TEXTS, fetch
from redi_ray.data.groups.baselines import Baselines
from redi_ray.data.groups.choose import Losses, fault_of, lose_group, sides_of
from redi_ray.data.groups.scan import Grouping
from redi_ray.data.weights import NO_WEIGHTS
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import (
    GROUP,
    TOKEN_COLUMNS,
    TOKEN_DISTRIBUTIONS,
    TOKEN_WEIGHTS,
    turns_of,
    weighted,
    with_distributions,
    with_token_columns,
)
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import plain_ids, prompt_ids

CHOSEN = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("home", PLACE, nullable=False),  # of the problem's first sample in the shards
        pa.field("rate", pa.string()),  # the problem's pass rate, as a fraction
        pa.field("members", pa.list_(PLACE), nullable=False),
        pa.field("rewards", pa.list_(pa.float64()), nullable=False),
        pa.field("advantages", pa.list_(pa.float64()), nullable=False),  # null where rewards are kept
        pa.field("draws", pa.list_(pa.list_(pa.int32())), nullable=False),  # of each group, which of the members it has
    ]
)
NO_SPANS = "no_spans"
"""Why a sample is left out: its column of spans says nothing of it."""
NO_LABELS = "no_labelled_spans"
"""Why a sample is left out: no span of its column has a label that counts, or it has no spans that could be rewarded."""
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
    weighing, samples = grouping.weighing, {place: texts[place]["trace_id"] for place in places}
    weights = {} if weighing is None else weighing.read(samples)
    columns = {reading.name: reading.read(samples) for reading in grouping.readings}
    baselines = Baselines.read(grouping)
    maker, groups = _Maker(grouping), []
    for choice in sorted(choices, key=lambda row: order_key(grouping.settings.seed, row["problem_id"])):
        at = [(place["shard"], place["row"]) for place in choice["members"]]
        traces = [
            {
                **texts[place],
                "reward": reward,
                "advantage": advantage,
                "spans": rewarded_spans(grouping, spans[place]["spans"], choice["rate"], baselines) if spans else None,
                "weights": weights.get(place),
                "columns": {name: values[place] for name, values in columns.items()},
            }
            for place, reward, advantage in zip(at, choice["rewards"], choice["advantages"], strict=True)
        ]
        groups += maker.groups(choice["problem_id"], traces, choice["draws"])
    write_rows(grouping, "groups", name, groups, schema_of(grouping))
    maker.losses.write(grouping, name)
    return finish(mark, maker.counts + maker.losses.counts)


def rewarded_spans(
    grouping: Grouping, spans: list[Row] | None, rate: str | None, baselines: Baselines | None
) -> list[Row] | None:
    """A sample's spans with the baselines taken from their values, which then have their labels' factors."""
    factors = grouping.settings.span_factors
    if spans is None or (baselines is None and not factors):
        return spans
    found = []
    for place, span in enumerate(spans):
        value = span["value"]
        if value is not None:
            value = (value - (0.0 if baselines is None else baselines.of(rate, place))) * factors.get(
                span["label"], 1.0
            )
        found.append({**span, "value": value})
    return found


def schema_of(grouping: Grouping) -> pa.Schema:
    """GROUP, with what is said of tokens."""
    schema = GROUP if grouping.weighing is None else weighted(GROUP, grouping.weighing.tokenizer)
    for reading in grouping.readings:
        if reading.is_soft:
            schema = with_distributions(schema, reading.tokenizer, reading.form)
    numbers = [reading for reading in grouping.readings if not reading.is_soft]
    return with_token_columns(schema, numbers[0].tokenizer) if numbers else schema


class _Maker:
    """Makes rows of GROUP."""

    def __init__(self, grouping: Grouping) -> None:
        self.grouping = grouping
        self.tokenizer = load_tokenizer(grouping.tokenizer, grouping.trust_remote_code)
        self.answers = Answers(self.tokenizer, grouping.prompt)
        self.losses, self.counts = Losses(), Counter[str]()

    def groups(self, problem_id: str, traces: list[Row], draws: list[list[int]]) -> list[Row]:
        """The groups of a problem's chosen samples, each having those that a draw names; none if the problem goes."""
        settings = self.grouping.settings
        messages = to_messages(traces[0]["problem"], self.grouping.prompt)
        tokens = len(prompt_ids(messages, self.tokenizer, self.grouping.prompt))
        if tokens > self.grouping.max_prompt_tokens:
            self.losses.lose("prompt_too_long", problem_id, len(traces), str(tokens))
            return []
        fitting: dict[int, Row] = {}
        sides = sides_of([trace["reward"] for trace in traces], settings)
        for number, trace in enumerate(traces):
            trace["side"] = sides[number]
            if (reason := self.misfit(trace)) is not None:
                self.losses.add("trace", reason, problem_id, trace["trace_id"])
                continue
            fitting[number] = trace
        drawn = [[number for number in draw if number in fitting] for draw in draws]
        whole = [draw for draw in drawn if fault_of(settings, [fitting[number] for number in draw]) is None]
        used = {number for draw in whole or drawn[:1] for number in draw}
        for number, trace in fitting.items():
            if number not in used:
                self.losses.add("trace", "incomplete_group", problem_id, trace["trace_id"])
        if not whole:
            lose_group(settings, problem_id, [fitting[number] for number in drawn[0]], self.losses)
            return []
        members = {number: self.member(fitting[number]) for number in sorted(used)}
        self.counts.update(groups=1, repeated=len(whole) - 1, members=len(members))
        self.counts["cut_off"] += sum(not member["finished"] for member in members.values())
        self.counts.update(f"side/{member['side']:+d}" for member in members.values())
        return [self.row(problem_id, at, messages, draw, members, fitting) for at, draw in enumerate(whole)]

    def row(
        self,
        problem_id: str,
        at: int,
        messages: list[Row],
        draw: list[int],
        members: dict[int, Row],
        traces: dict[int, Row],
    ) -> Row:
        """A row of GROUP: the problem's group number `at`, of the members that the draw names."""
        key = order_key(self.grouping.settings.seed, problem_id if at == 0 else f"{problem_id}\n{at}")
        group: Row = {
            "group_id": f"{key}/{problem_id}" if at == 0 else f"{key}/{problem_id}/{at}",
            "problem_id": problem_id,
            "prompt": messages,
            "members": [members[number] for number in draw],
        }
        drawn = [traces[number] for number in draw]
        if self.grouping.weighing is not None:
            group[TOKEN_WEIGHTS] = [trace["weights"] if self.is_weighed(trace) else None for trace in drawn]
        readings = self.grouping.readings
        for soft in (reading for reading in readings if reading.is_soft):
            group[TOKEN_DISTRIBUTIONS] = [
                trace["columns"][soft.name] if soft.reads(trace["side"]) else None for trace in drawn
            ]
        if names := [reading.name for reading in readings if not reading.is_soft]:
            group[TOKEN_COLUMNS] = [
                {"name": name, "values": [trace["columns"][name] for trace in drawn]} for name in names
            ]
        return group

    def is_weighed(self, trace: Row) -> bool:
        """Whether the tokens of a sample are weighed as the member that it becomes."""
        weighing = self.grouping.weighing
        return weighing is not None and weighing.weighs(trace["side"])

    def misfit(self, trace: Row) -> str | None:
        """Why a sample cannot be used after all, or None."""
        turns, finished = turns_of(trace), is_finished(trace)
        first = turns[0]["content"]
        if (reason := self.misfit_of_spans(trace["spans"])) is not None:
            return reason
        if (reason := self.answers.misfit(first)) is not None:
            return reason
        if trace["weights"] is None and self.is_weighed(trace):
            return NO_WEIGHTS
        for reading in self.grouping.readings:
            if trace["columns"][reading.name] is None and reading.reads(trace["side"]):
                return f"no_{reading.name}"
        tokens = self.answers.count_tokens(first, finished=finished or len(turns) > 1)
        tokens += sum(len(plain_ids(turn["content"], self.tokenizer)) for turn in turns[1:])
        return "too_long" if tokens > self.grouping.max_response_tokens else None

    def misfit_of_spans(self, spans: list[Row] | None) -> str | None:
        """Why a sample with these cannot be used, or None."""
        settings = self.grouping.settings
        if self.grouping.spans is not None and (spans is None or (settings.cut and not spans)):
            return NO_SPANS
        rewarded = settings.labels is not None or settings.span_factors
        return NO_LABELS if rewarded and not valued(spans, settings) else None

    def member(self, trace: Row) -> Row:
        """A row of MEMBER."""
        turns, before, ends = [], turns_of(trace), None
        if self.grouping.settings.cut:
            last = max(trace["spans"], key=lambda span: (span["turn"], span["end"]))
            ends = last["turn"], last["end"]
            before = [*before[: ends[0]], {**before[ends[0]], "content": before[ends[0]]["content"][: ends[1]]}]
        for turn in before:
            turns.append(self.answers.message(turn["content"]) if turn["role"] == "assistant" else turn)
        spans = valued(trace["spans"], self.grouping.settings)
        if spans is not None:
            placed = [(span, self.moved(span, before, turns)) for span in spans]
            spans = [
                {
                    **moved,
                    "end": moved["end"] + ((span["turn"], span["end"]) == ends),
                }  # with the token that closes the turn
                for span, moved in placed
                if moved is not None
            ]
        return {
            "turns": turns,
            "side": trace["side"],
            "reward": trace["reward"] if trace["advantage"] is None else trace["advantage"],
            "finished": (ends is not None or is_finished(trace)) and turns[-1]["role"] == "assistant",
            "spans": spans,
        }

    def moved(self, span: Row, before: list[Row], after: list[Row]) -> Row | None:
        """A span of a turn, as the turn is trained on. None if nothing is left of it."""
        number = span["turn"]
        place = self.answers.moved(span, before[number]["content"], after[number]["content"])
        return None if place is None else {"turn": number, "start": place[0], "end": place[1], "value": span["value"]}


def valued(spans: list[Row] | None, settings: GroupSettings) -> list[Row] | None:
    """The spans that the labels let through, with the values that they give."""
    if settings.labels is None or spans is None:
        return spans
    found = []
    for span in spans:
        value = settings.labels.get(span["label"])
        value = span["value"] if value == "value" else value
        if value is not None:
            found.append({**span, "value": value})
    return found
