"""Groups with rewards: the passes, and the sum of their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from redi_ray.data.columns import check_grain
from redi_ray.data.curate.curate import PassRunner, ray_workers
from redi_ray.data.curate.difficulty import count_rates, pass_rate
from redi_ray.data.curate.work import (
    count_partitions,
    cut,
    finish,
    finished,
    part_name,
    read_row_group,
    write_row_groups,
)
from redi_ray.data.groups.baselines import Sums, add_up, place_of, rate_of
from redi_ray.data.groups.choose import Losses, Traces, choose
from redi_ray.data.groups.scan import Grouping, scan
from redi_ray.data.groups.write import CHOSEN, write_group
from redi_ray.schemas import trace_id
from redi_ray.store import storage


@dataclass(frozen=True)
class GroupCounts:
    """`traces = members + sum(dropped)`, and `problems = groups + sum(problems_dropped)`."""

    traces: int
    members: int
    """Samples that are in a group, each counted once."""
    groups: int
    """Problems that give one."""
    repeated: int
    """Further groups of these problems."""
    problems: int
    dropped: dict[str, int]
    """Samples by reason; those of problems that went have the problem's."""
    problems_dropped: dict[str, int]
    sides: dict[str, int]
    """`+1` and `-1` -> members."""
    cut_off: int
    """Members whose last turn was cut off; no end-of-turn token follows it."""
    pass_rates: dict[str, int]
    """Problems per tenth of the pass rate."""


def make_groups(grouping: Grouping, workers: int, label_selector: Mapping[str, str] | None = None) -> GroupCounts:
    """Write `groups` (GROUP) and `dropped` below the grouping's `out_uri`. Ray must be connected; call it again to continue.

    Raises ColumnError where a column is not of these samples, or at another grain than it is used at.
    """
    for shards, grain in [*((shards, "row") for _, shards in grouping.scores), (grouping.spans or (), "span")]:
        for shard in shards[:1]:
            check_grain(shard, grain)
    if grouping.weighing is not None:
        grouping.weighing.check()
    for reading in grouping.readings:
        reading.check()
    with ray_workers(grouping, workers, label_selector, Worker) as run:
        return run_passes(grouping, run)


def plan(verified: list[str]) -> dict[str, Any]:
    """How the work on these shards is shared out: fields of a Grouping."""
    sizes = storage.file_sizes(verified)
    shards = tuple(map(storage.resolve, verified))
    return {"verified": shards, "borders": cut(sizes), "partitions": count_partitions(sizes)}


def run_passes(grouping: Grouping, run: PassRunner) -> GroupCounts:
    """All passes."""
    sums: Counter[str] = Counter()
    for name, tasks in (("scan", grouping.groups), ("choose", grouping.partitions), ("write", grouping.groups)):
        for counts in run(name, list(range(tasks))):
            sums.update(counts)

    def counted(*what: str) -> dict[str, int]:
        found: Counter[str] = Counter()
        for key, count in sums.items():
            kind, _, reason = key.partition("/")
            found[reason] += count if kind in what else 0
        return {reason: count for reason, count in sorted(found.items()) if count}

    made = GroupCounts(
        traces=sums["traces"],
        members=sums["members"],
        groups=sums["groups"],
        repeated=sums["repeated"],
        problems=sums["problems"],
        dropped=counted("trace", "lost"),
        problems_dropped=counted("problem"),
        sides=counted("side"),
        cut_off=sums["cut_off"],
        pass_rates=counted("pass_rate"),
    )
    assert made.traces == made.members + sum(made.dropped.values()), made
    assert made.problems == made.groups + sum(made.problems_dropped.values()), made
    return made


class Worker:
    """Does the tasks of any pass."""

    def __init__(self, grouping: Grouping) -> None:
        self.grouping = grouping

    def work(self, name: str, task: int) -> Counter[str]:
        """One task of the named pass."""
        return {"scan": scan, "choose": choose_partition, "write": write_group}[name](self.grouping, task)


def choose_partition(grouping: Grouping, partition: int) -> Counter[str]:
    """Write which samples of the partition's problems become groups, cut by the group in which a problem's first sample lies."""
    mark = grouping.work("chosen", f"{partition:05d}.json")
    if (known := finished(mark)) is not None:
        return known
    losses, counts, rates, sums = Losses(), Counter[str](), [], Sums()
    choices: list[list[dict[str, Any]]] = [[] for _ in range(grouping.groups)]
    for problem_id, traces in _problems(grouping, partition, losses):
        counts["problems"] += 1
        rates.append(pass_rate(None, problem_id, traces))
        places = [{"shard": trace["shard"], "row": trace["row"]} for trace in traces]
        draws = choose(grouping.settings, problem_id, traces, rates[-1], losses)
        if not draws:
            continue
        used = {trace["sample_index"] for draw in draws for trace in draw}
        members = [trace for trace in traces if trace["sample_index"] in used]
        index = {trace["sample_index"]: number for number, trace in enumerate(members)}
        add_up(sums, rate_of(rates[-1]), [trace["span_values"] for trace in members])
        home = min(places, key=lambda place: (place["shard"], place["row"]))
        choices[grouping.group_of[home["shard"]]].append(
            {
                "problem_id": problem_id,
                "home": home,
                "rate": rate_of(rates[-1]),
                "members": [{"shard": trace["shard"], "row": trace["row"]} for trace in members],
                "rewards": [trace["reward"] for trace in members],
                "advantages": [trace.get("advantage") for trace in members],
                "draws": [[index[trace["sample_index"]] for trace in draw] for draw in draws],
            }
        )
    write_row_groups(grouping.work("chosen", part_name(partition)), choices, CHOSEN)
    if grouping.settings.span_baseline is not None:
        storage.write_json(place_of(grouping, partition), sums)
    counts.update(count_rates(rates))
    losses.write(grouping, f"choose-{part_name(partition)}")
    return finish(mark, counts + losses.counts)


def _problems(grouping: Grouping, partition: int, losses: Losses) -> Iterator[tuple[str, Traces]]:
    """The problems of a partition with their samples, each once: of two with one `sample_index` the first counts."""
    table = read_row_group(grouping.work_files("scanned", grouping.groups), partition)
    by = ("problem_id", "sample_index", "shard", "row")
    rows = table.sort_by([(name, "ascending") for name in by]).to_pylist()
    for problem_id, group in groupby(rows, key=lambda row: row["problem_id"]):
        traces: Traces = []
        for row in group:
            if traces and traces[-1]["sample_index"] == row["sample_index"]:
                losses.add("trace", "same_trace_again", problem_id, trace_id(problem_id, row["sample_index"]))
            else:
                traces.append(row)
        yield problem_id, traces
