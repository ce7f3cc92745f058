"""From right continuations to pairs of one step each. Three passes, shared out as in `redi_ray.data.curate`: `cut` and `starts`
hand on what is right and where it began, by problem; `pair` decides over each problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.token_steps import RectifySettings
from redi_ray.data.curate.curate import PassRunner, ray_workers
from redi_ray.data.curate.work import (
    Drops,
    Passes,
    count_partitions,
    cut,
    finish,
    finished,
    order_key,
    part_name,
    read_row_group,
    stream_rows,
    write_row_groups,
    write_rows,
)
from redi_ray.data.rectify.starts import START
from redi_ray.data.sample.samples import BEGUN
from redi_ray.schemas import GROUP, Verdict, trace_id
from redi_ray.store import storage
from redi_ray.text.prompts import to_messages
from redi_ray.text.steps import Form, split_steps

RIGHT = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),  # the id of its start
        pa.field("sample_index", pa.int64(), nullable=False),
        pa.field("completion", pa.string(), nullable=False),
    ]
)
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rectifying(Passes):
    """The pairs of one step. `verified` are the shards of the continuations."""

    starts: tuple[str, ...]
    """Shards of START."""
    settings: RectifySettings
    seed: int
    """Order of the output."""


@dataclass(frozen=True)
class PairCounts:
    """`right = pairs + sum(dropped)`, and `starts = paired + sum(starts_dropped)`."""

    continuations: int
    right: int
    pairs: int
    dropped: dict[str, int]
    """Right continuations by reason."""
    starts: int
    paired: int
    """Starts with a pair."""
    starts_dropped: dict[str, int]
    problems: int
    """With a pair."""


def make_pairs(rectifying: Rectifying, workers: int, label_selector: Mapping[str, str] | None = None) -> PairCounts:
    """Write `groups` (GROUP) and `dropped` below `out_uri`. Ray must be connected; call it again to continue."""
    with ray_workers(rectifying, workers, label_selector, Worker) as run:
        return run_passes(rectifying, run)


def plan(verified: Sequence[str], starts: Sequence[str]) -> dict[str, Any]:
    """How the work on these shards is shared out: fields of a Rectifying."""
    sizes = storage.file_sizes(list(verified))
    return {
        "verified": tuple(map(storage.resolve, verified)),
        "starts": tuple(map(storage.resolve, starts)),
        "borders": cut(sizes),
        "partitions": count_partitions(sizes),
    }


def run_passes(rectifying: Rectifying, run: PassRunner) -> PairCounts:
    """All passes."""
    sums: Counter[str] = Counter()
    tasks = {"cut": rectifying.groups, "starts": len(rectifying.starts), "pair": rectifying.partitions}
    for name, number in tasks.items():
        for counts in run(name, list(range(number))):
            sums.update(counts)

    def counted(what: str) -> dict[str, int]:
        return {key.partition("/")[2]: n for key, n in sorted(sums.items()) if key.startswith(f"{what}/") and n}

    made = PairCounts(
        continuations=sums["continuations"],
        right=sums["right"],
        pairs=sums["pairs"],
        dropped=counted("pair"),
        starts=sums["starts"],
        paired=sums["paired"],
        starts_dropped=counted("trace"),
        problems=sums["problems"],
    )
    assert made.right == made.pairs + sum(made.dropped.values()), made
    assert made.starts == made.paired + sum(made.starts_dropped.values()), made
    return made


class Worker:
    """Does the tasks of any pass."""

    def __init__(self, rectifying: Rectifying) -> None:
        self.rectifying = rectifying

    def work(self, name: str, task: int) -> Counter[str]:
        """One task of the named pass."""
        return {"cut": cut_right, "starts": cut_starts, "pair": pair_partition}[name](self.rectifying, task)


def problem_of(start: str) -> str:
    """The problem of the sample whose id a start has."""
    return start.rpartition("#")[0]


def _index_of(start: str) -> int:
    return int(start.rpartition("#")[2])


def cut_right(rectifying: Rectifying, group: int) -> Counter[str]:
    """Write the group's right continuations, cut by partition."""
    mark = rectifying.work("right", f"{group:05d}.json")
    if (known := finished(mark)) is not None:
        return known
    parts: list[list[Row]] = [[] for _ in range(rectifying.partitions)]
    counts: Counter[str] = Counter()
    for shard in rectifying.verified[rectifying.borders[group] : rectifying.borders[group + 1]]:
        for _, row in stream_rows(shard, [*RIGHT.names, "verdict"]):
            counts["continuations"] += 1
            if row["verdict"] == Verdict.CORRECT:
                parts[rectifying.partition_of(problem_of(row["problem_id"]))].append(row)
    write_row_groups(rectifying.work("right", part_name(group)), parts, RIGHT)
    return finish(mark, counts)


def cut_starts(rectifying: Rectifying, shard: int) -> Counter[str]:
    """Write a shard's starts, cut by partition."""
    mark = rectifying.work("starts", f"{shard:05d}.json")
    if (known := finished(mark)) is not None:
        return known
    parts: list[list[Row]] = [[] for _ in range(rectifying.partitions)]
    for _, row in stream_rows(rectifying.starts[shard], START.names):
        parts[rectifying.partition_of(problem_of(row["problem_id"]))].append(row)
    write_row_groups(rectifying.work("starts", part_name(shard)), parts, START)
    return finish(mark, Counter())


def pair_partition(rectifying: Rectifying, partition: int) -> Counter[str]:
    """Write the pairs of the partition's problems."""
    mark = rectifying.work("paired", f"{partition:05d}.json")
    if (known := finished(mark)) is not None:
        return known
    right = _read(rectifying.work_files("right", rectifying.groups), partition, RIGHT)
    starts = _read(rectifying.work_files("starts", len(rectifying.starts)), partition, START)
    counts, drops, groups = Counter[str](), Drops(), list[Row]()
    for problem, mine, continuations in _problems(starts, right):
        pairs = choose(problem, mine, continuations, rectifying.settings, drops)
        key = order_key(rectifying.seed, problem)
        groups += [step_pair(key, problem, rectifying.prompt, *pair) for pair in pairs]
        counts["starts"] += len(mine)
        counts["right"] += len(continuations)
        counts["pairs"] += len(pairs)
        counts["paired"] += len({start["problem_id"] for start, *_ in pairs})
        counts["problems"] += bool(pairs)
    groups.sort(key=lambda row: row["group_id"].partition("/")[0])  # stable: those of a problem stay in their order
    write_rows(rectifying, "groups", part_name(partition), groups, GROUP)
    drops.write(rectifying, part_name(partition))
    return finish(mark, counts + drops.counts)


def _read(files: list[str], partition: int, schema: pa.Schema) -> list[Row]:
    return read_row_group(files, partition).select(schema.names).to_pylist() if files else []


def _problems(starts: list[Row], right: list[Row]) -> Iterator[tuple[str, list[Row], list[Row]]]:
    """Problem, its starts in the order of their samples, and the right continuations of those, each sample once."""
    by_start: dict[str, dict[int, Row]] = {}
    for row in right:
        by_start.setdefault(row["problem_id"], {}).setdefault(row["sample_index"], row)
    ordered = sorted(starts, key=lambda row: (problem_of(row["problem_id"]), _index_of(row["problem_id"])))
    for problem, group in groupby(ordered, key=lambda row: problem_of(row["problem_id"])):
        mine = list(group)
        found = [by_start.get(start["problem_id"], {}) for start in mine]
        yield problem, mine, [rows[index] for rows in found for index in sorted(rows)]


def choose(
    problem: str, starts: list[Row], right: list[Row], settings: RectifySettings, drops: Drops
) -> list[tuple[Row, Row, str]]:
    """(start, continuation, chosen step) of each pair: the first new step of every start, then the second of every start, and so
    on, `max_pairs` in all. Steps that are equal as strings, and lead on from the same text, are kept once.

    right: the starts' right continuations, start after start. All that goes is noted in `drops`.
    """
    by_start = {start["problem_id"]: start for start in starts}
    seen, found = set[tuple[str, str, str]](), list[tuple[int, int, Row, Row, str]]()
    of_start: Counter[str] = Counter()

    def drop(row: Row, reason: str) -> None:
        drops.add("pair", reason, problem, trace_id(row["problem_id"], row["sample_index"]))

    for row in right:
        start = by_start[row["problem_id"]]
        step = first_step(row["completion"], start[BEGUN], settings.form)
        key = (start[BEGUN], start["step"], step)
        if not step.strip():
            drop(row, "empty_step")
        elif step == start["step"]:
            drop(row, "equal_to_rejected")
        elif key in seen:
            drop(row, "same_step_again")
        else:
            seen.add(key)
            found.append((of_start[start["problem_id"]], _index_of(start["problem_id"]), start, row, step))
            of_start[start["problem_id"]] += 1
    found.sort(key=lambda pair: pair[:2])
    for _, _, _, row, _ in found[settings.max_pairs :]:
        drop(row, "over_max_pairs")
    kept = [(start, row, step) for _, _, start, row, step in found[: settings.max_pairs]]
    paired, tried = {start["problem_id"] for start, *_ in kept}, {row["problem_id"] for row in right}
    for start in starts:
        name = start["problem_id"]
        if name not in paired:
            reason = (
                "no_right_continuation" if name not in tried else "over_max_pairs" if of_start[name] else "no_new_step"
            )
            drops.add("trace", reason, problem, name)
    return kept


def first_step(completion: str, begun: str, form: Form | None = None) -> str:
    """What follows `begun` up to where the next step begins, without the white space at its end."""
    assert completion.startswith(begun), "a continuation begins with what it continues"
    end = next((stop for _, stop in split_steps(completion, form) if stop > len(begun)), len(completion))
    return completion[len(begun) : end].rstrip()


def step_pair(key: str, problem: str, prompt: PromptSettings, start: Row, row: Row, chosen: str) -> Row:
    """A row of GROUP: only the step is scored, and no end of turn follows it. start, row, chosen: as `choose` gives them."""

    def member(step: str, side: int) -> Row:
        text = start[BEGUN] + step
        span = {"turn": 0, "start": len(start[BEGUN]), "end": len(text), "value": 1.0}
        turns = [{"role": "assistant", "content": text}]
        return {"turns": turns, "side": side, "reward": None, "finished": False, "spans": [span]}

    return {
        "group_id": f"{key}/{trace_id(row['problem_id'], row['sample_index'])}",
        "problem_id": problem,
        "prompt": to_messages(start["problem"], prompt),
        "members": [member(chosen, 1), member(start["step"], -1)],
    }
