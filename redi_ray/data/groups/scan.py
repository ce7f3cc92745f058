"""Pass `scan`: a reward for every sample, read from verdicts and columns side by side, a few rows at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from redi_ray.config.group_steps import GroupSettings, TurnFilter
from redi_ray.data.columns import beside
from redi_ray.data.curate.scan import RATED, spelling
from redi_ray.data.curate.work import PLACED, Passes, finish, finished, part_name, write_row_groups
from redi_ray.data.weights import Reading, Weighing
from redi_ray.schemas import CUT_OFF, turns_of
from redi_ray.text.tool_calls import TurnRules, fault_of_turns

SCANNED = pa.schema(
    [
        *PLACED,
        pa.field("counts", pa.bool_(), nullable=False),  # in the pass rate
        pa.field("reward", pa.float64()),
        pa.field("no_reward", pa.string()),  # why there is none
        pa.field("answer", pa.string()),  # extracted, in one spelling, where answers are counted
        pa.field("span_values", pa.list_(pa.float32())),  # where baselines are taken from them
    ]
)


LARGEST_REWARD = 3.4e38
"""What float32 holds, as which rewards are kept."""


@dataclass(frozen=True, kw_only=True)
class Grouping(Passes):
    """The groups of one step."""

    settings: GroupSettings
    max_prompt_tokens: int
    max_response_tokens: int
    scores: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(name, shards) of the columns of numbers, each as long as `verified`."""
    spans: tuple[str, ...] | None = None
    """Shards of the column of spans."""
    weighing: Weighing | None = None
    """The column that weighs tokens."""
    readings: tuple[Reading, ...] = ()
    """The columns that objectives read."""

    @property
    def names(self) -> list[str]:
        """Of the columns of numbers."""
        return [name for name, _ in self.scores]


def scan(grouping: Grouping, group: int) -> Counter[str]:
    """Write the group's samples with their rewards, cut by partition."""
    mark = grouping.work("scanned", f"{group:05d}.json")
    if (known := finished(mark)) is not None:
        return known
    samples: list[list[dict[str, Any]]] = [[] for _ in range(grouping.partitions)]
    counts: Counter[str] = Counter()
    for shard in range(grouping.borders[group], grouping.borders[group + 1]):
        columns, number = [shards[shard] for _, shards in grouping.scores], 0
        spans = grouping.spans if grouping.settings.span_baseline is not None else None
        columns += [spans[shard]] if spans is not None else []
        wanted = ["problem_id", "sample_index", "verdict"]
        wanted += ["extracted_answer"] if grouping.settings.frequent_answers is not None else []
        wanted += ["completion", "turns", "finish_reason"] if grouping.settings.turns is not None else []
        for rows, found in beside(grouping.verified[shard], columns, wanted):
            values = [column["value"].to_pylist() for column in found[: len(grouping.scores)]]
            marked = found[-1]["spans"].to_pylist() if spans is not None else [None] * rows.num_rows
            for index, row in enumerate(rows.to_pylist()):
                scored = rewarded(grouping, row, [column[index] for column in values], shard, number)
                parts = marked[index]
                scored["span_values"] = None if parts is None else [span["value"] for span in parts]
                samples[grouping.partition_of(row["problem_id"])].append(scored)
                number += 1
        counts["traces"] += number
    write_row_groups(grouping.work("scanned", part_name(group)), samples, SCANNED)
    return finish(mark, counts)


def rewarded(
    grouping: Grouping, row: dict[str, Any], values: list[float | None], shard: int, number: int
) -> dict[str, Any]:
    """A row of SCANNED. values: of the columns, in their order."""
    reward, reason = reward_of(grouping.settings, row["verdict"], dict(zip(grouping.names, values, strict=True)))
    if reason is None and grouping.settings.turns is not None:
        reason = fault_of_trace(row, grouping.settings.turns)
    return {
        "problem_id": row["problem_id"],
        "sample_index": row["sample_index"],
        "shard": shard,
        "row": number,
        "verdict": row["verdict"],
        "counts": row["verdict"] in RATED,
        "reward": reward,
        "no_reward": reason,
        "answer": spelling(row.get("extracted_answer")),
    }


def fault_of_trace(row: Mapping[str, Any], rules: TurnFilter) -> str | None:
    """Why a trace's turns keep it out, or None; reasons are those of `redi_ray.text.tool_calls.fault_of_turns`, and `cut_off`."""
    if not rules.cut_off and row["finish_reason"] in CUT_OFF:
        return "cut_off"
    return fault_of_turns(turns_of(row), TurnRules(rules.least_calls, rules.most_turns, tuple(rules.error_words)))


def reward_of(
    settings: GroupSettings, verdict: str, values: Mapping[str, float | None]
) -> tuple[float | None, str | None]:
    """The reward of a sample, or why it has none. values: of the columns in `scores`."""
    rewards = {str(name): reward for name, reward in settings.rewards.items()}
    if rewards and verdict not in rewards:
        return None, f"verdict_{verdict}"
    reward = rewards.get(verdict, 0.0)
    for name, weight in settings.scores.items():
        if (value := values[name]) is None or not math.isfinite(value):
            return None, f"no_{name}"
        reward += weight * value
    return (reward, None) if abs(reward) <= LARGEST_REWARD else (None, "reward_too_large")
