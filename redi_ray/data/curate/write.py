"""Pass `write`: fetches the texts of the choice, measures them in the student's tokens, and writes examples and pairs.

Length limits apply here, after the choice, as in the paper: a trace that is too long is not replaced by the next.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow.compute as pc

from redi_ray.data.curate.answers import WITHOUT_PREFIX, Answers, is_finished
from redi_ray.data.curate.choice import CHOICE
from redi_ray.data.curate.work import (
    Curation,
    Drops,
    finish,
    finished,
    order_key,
    part_name,
    read_row_group,
    write_rows,
)
from redi_ray.data.weights import NO_WEIGHTS, Place
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import EXAMPLE, PAIR, TOKEN_WEIGHTS, weighted
from redi_ray.store import parquet
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids

Row = dict[str, Any]
TEXTS = ("trace_id", "problem", "completion", "finish_reason")
WEIGHTS = "weights"
"""Of a text that was fetched: what its tokens weigh."""
STANDS_IN = "@chosen_of"
"""Ends the id of a trace that stands in for a right one: another may have the same in its own table."""
SHOWN = 40
"""Characters of a dropped trace in the table `dropped`."""


def write_group(curation: Curation, group: int, sieved: bool) -> Counter[str]:
    """Write the group's shards of `examples`, `pairs` and `dropped`, PART_PROBLEMS at a time; returns their counts.

    sieved: whether `select` has run.
    """
    table = read_row_group(curation.work_files("choice", curation.partitions), group).select(CHOICE.names)
    if sieved:
        gone = next(parquet.read_tables([curation.work("excluded.parquet")]))["problem_id"].combine_chunks()
        table = table.filter(pc.invert(pc.is_in(table["problem_id"], value_set=gone)))
    choices = sorted(table.to_pylist(), key=lambda row: (_place(row["home"]), row["problem_id"]))
    counts: Counter[str] = Counter()
    for number in range(-(-len(choices) // curation.part_problems)):
        part = choices[number * curation.part_problems : (number + 1) * curation.part_problems]
        counts += Writer(curation).write_part(part_name(group, number), part)
    return counts


def _place(place: dict[str, int]) -> Place:
    return place["shard"], place["row"]


def fetch(shards: Sequence[str], places: Iterable[Place], columns: Sequence[str] = TEXTS) -> dict[Place, Row]:
    """The traces at these places with their problems. Row groups are streamed, so only what is asked for is held."""
    wanted: dict[int, set[int]] = defaultdict(set)
    for shard, row in places:
        wanted[shard].add(row)
    return {
        (shard, row): value
        for shard, rows in wanted.items()
        for row, value in parquet.read_rows(shards[shard], rows, columns)
    }


def beginning(reason: str, trace: Row) -> str | None:
    """How a trace begins that is without the prefix, for the table of what was dropped."""
    return trace["completion"][:SHOWN] if reason.endswith(WITHOUT_PREFIX) else None


class Writer:
    """Writes one part."""

    def __init__(self, curation: Curation) -> None:
        self.curation = curation
        self.tokenizer = load_tokenizer(curation.tokenizer, curation.trust_remote_code)
        self.answers = Answers(self.tokenizer, curation.prompt)
        self.examples: list[Row] = []
        self.pairs: list[Row] = []
        self.drops = Drops()
        self.counts: Counter[str] = Counter()

    def write_part(self, name: str, choices: list[Row]) -> Counter[str]:
        """Write the part's tables unless they are there; returns its counts."""
        mark = self.curation.work("written", f"{name}.json")
        if (known := finished(mark)) is not None:
            return known
        places = {_place(place) for row in choices for place in (row["home"], *row["chosen"], *row["rejected"])}
        texts = fetch(self.curation.verified, places)
        self.add_weights(texts, [_place(place) for row in choices for place in (*row["chosen"], *row["rejected"])])
        for (shard, _), trace in texts.items():
            if self.curation.stands_in(shard):
                trace["trace_id"] += STANDS_IN
        for row in sorted(choices, key=lambda row: order_key(self.curation.config.seed, row["problem_id"])):
            problem = texts[_place(row["home"])]["problem"]
            chosen, rejected = ([texts[_place(place)] for place in row[side]] for side in ("chosen", "rejected"))
            if self.add_examples(row, problem, chosen):
                self.add_pairs(row, problem, chosen, rejected)
        weighing = self.curation.weighing
        pair = PAIR if weighing is None else weighted(PAIR, weighing.tokenizer)
        tables = (("examples", self.examples, EXAMPLE), ("pairs", self.pairs, pair))
        for table, rows, schema in tables:
            write_rows(self.curation, table, name, rows, schema)
        self.drops.write(self.curation, name)
        self.counts["examples"], self.counts["pairs"] = len(self.examples), len(self.pairs)
        return finish(mark, self.counts + self.drops.counts)

    def add_weights(self, texts: dict[Place, Row], places: Iterable[Place]) -> None:
        """Give the traces at these places what their tokens weigh, where that is asked for and known."""
        if self.curation.weighing is None:
            return
        own = {place: texts[place]["trace_id"] for place in places if not self.curation.stands_in(place[0])}
        for place, weights in self.curation.weighing.read(own).items():
            texts[place][WEIGHTS] = weights

    def weights_of(self, good: Row, bad: Row) -> list[list[float] | None] | None:
        """Of a pair's two sides, None for one that is not weighed; None in all where a side has no weights that it needs."""
        weighing = self.curation.weighing
        assert weighing is not None
        found: list[list[float] | None] = []
        for side, trace in ((1, good), (-1, bad)):
            weights = trace.get(WEIGHTS) if weighing.weighs(side) else None
            if weights is None and weighing.weighs(side):
                return None
            found.append(weights)
        return found

    def add_examples(self, row: Row, problem: str, chosen: list[Row]) -> bool:
        """Add what becomes of the problem's positives; whether there is any."""
        messages = to_messages(problem, self.curation.prompt)
        prompt = len(prompt_ids(messages, self.tokenizer, self.curation.prompt))
        positives = chosen[: row["positives"]]
        found = [self.response_problem("chosen", trace) for trace in positives]
        if prompt > self.curation.config.max_prompt_tokens:
            found = ["prompt_too_long"] * len(positives)
        if all(found):
            told = beginning(str(found[0]), positives[0])
            self.drops.add("problem", str(found[0]), row["problem_id"], positives[0]["trace_id"], told)
            return False
        key = order_key(self.curation.config.seed, row["problem_id"])
        for trace, reason in zip(positives, found, strict=True):
            if reason:
                self.drops.add("example", reason, row["problem_id"], trace["trace_id"], beginning(reason, trace))
                continue
            self.counts["cut_off/examples"] += not is_finished(trace)
            self.examples.append(
                {
                    "example_id": f"{key}/{trace['trace_id']}",
                    "problem_id": row["problem_id"],
                    "messages": [*messages, self.answers.message(trace["completion"])],
                    "finished": is_finished(trace),
                }
            )
        self.counts["positives"] += 1
        return True

    def add_pairs(self, row: Row, problem: str, chosen: list[Row], rejected: list[Row]) -> None:
        """Add what becomes of the planned pairs of a problem that gives an example."""
        self.counts["planned_pairs"] += max(1, len(row["pairs"]))
        if not row["pairs"]:
            self.drops.add("pair", row["no_pair"], row["problem_id"])
        key = order_key(self.curation.config.seed, row["problem_id"])
        for one, other in row["pairs"]:
            good, bad = chosen[one], rejected[other]
            reason = self.response_problem("chosen", good) or self.response_problem("rejected", bad)
            if reason:
                side = good if reason.startswith("chosen") else bad
                self.drops.add("pair", reason, row["problem_id"], side["trace_id"], beginning(reason, side))
                continue
            weights = None
            if self.curation.weighing is not None and (weights := self.weights_of(good, bad)) is None:
                self.drops.add("pair", NO_WEIGHTS, row["problem_id"], bad["trace_id"])
                continue
            self.counts["cut_off/chosen"] += not is_finished(good)
            self.counts["cut_off/rejected"] += not is_finished(bad)
            self.pairs.append(
                {
                    "pair_id": f"{key}/{good['trace_id']}/{bad['trace_id']}",
                    "problem_id": row["problem_id"],
                    "prompt": to_messages(problem, self.curation.prompt),
                    "chosen": [self.answers.message(good["completion"])],
                    "rejected": [self.answers.message(bad["completion"])],
                    "chosen_finished": is_finished(good),
                    "rejected_finished": is_finished(bad),
                    **({} if weights is None else {TOKEN_WEIGHTS: weights}),
                }
            )

    def response_problem(self, side: str, trace: Row) -> str | None:
        """Why a trace cannot be used after all, or None."""
        completion = trace["completion"]
        if (misfit := self.answers.misfit(completion)) is not None:
            return f"{side}_{misfit}"
        limit = self.curation.config.max_response_tokens
        if "num_tokens" not in trace:  # once per trace, it may be in several pairs
            trace["num_tokens"] = self.answers.count_tokens(completion, finished=is_finished(trace))
        return f"{side}_too_long" if trace["num_tokens"] > limit else None
