"""Pass `decide`: per partition of the problem ids, which traces of each problem are chosen and rejected, in which pairs.

Tables: `choice` (CHOICE, a row per problem that may give an example), cut by the group in which its first trace lies, so
that the last pass reads texts where they are; `survivors` (SURVIVOR), the same problems for the pass `select`; and the
published `pass_rates`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pyarrow as pa

from redi_ray.data.curate.blocks import Blocks
from redi_ray.data.curate.difficulty import PASS_RATE, bucket_of, count_rates, pass_rate
from redi_ray.data.curate.duplicates import FINGERPRINT
from redi_ray.data.curate.scan import PROBLEMS, side_of
from redi_ray.data.curate.work import (
    Curation,
    Drops,
    finish,
    finished,
    order_key,
    part_name,
    read_row_group,
    write_row_groups,
    write_rows,
)
from redi_ray.schemas import Verdict, trace_id
from redi_ray.store import parquet

PLACE = pa.struct([pa.field("shard", pa.int32()), pa.field("row", pa.int32())])
"""Where a trace lies: index of the shard, row in it."""
CHOICE = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("home", PLACE, nullable=False),  # of the problem's first trace in the shards
        pa.field("chosen", pa.list_(PLACE), nullable=False),  # in the order of the pick
        pa.field("rejected", pa.list_(PLACE), nullable=False),
        pa.field("positives", pa.int32(), nullable=False),  # so many of `chosen` become examples
        pa.field("pairs", pa.list_(pa.list_(pa.int32())), nullable=False),  # (index in chosen, index in rejected)
        pa.field("no_pair", pa.string()),  # why there is none
    ]
)
SURVIVOR = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("bucket", pa.int32()),
        *FINGERPRINT,
    ]
)
Traces = list[dict[str, Any]]
"""The rows of SCANNED of one problem, in generation order."""


def decide(curation: Curation, partition: int, blocks: Blocks) -> Counter[str]:
    """Write the partition's tables; returns the counts of its problems and drops."""
    mark = curation.work("choice", f"{partition:05d}.json")
    if (known := finished(mark)) is not None:
        return known
    config, drops, counts = curation.config, Drops(), Counter[str]()
    judged = _judged(curation, partition) if blocks.read_problems else {}
    choices: list[list[dict[str, Any]]] = [[] for _ in range(curation.groups)]
    rates, survivors = [], []
    for problem_id, traces in _problems(curation, partition, drops):
        counts["problems"] += 1
        judgement = judged.get(problem_id, {})
        rate = pass_rate(config.difficulty, problem_id, traces)
        rates.append(rate)
        choice = decide_problem(curation, blocks, problem_id, traces, judgement, rate, drops)
        if choice is None:
            continue
        choices[curation.group_of[choice["home"]["shard"]]].append(choice)
        if blocks.corpus:
            print_of = {name: judgement.get(name) for name in FINGERPRINT.names}
            key, bucket = order_key(config.seed, problem_id), bucket_of(config.difficulty, rate["pass_rate"])
            survivors.append({"problem_id": problem_id, "key": key, "bucket": bucket, **print_of})
    write_row_groups(curation.work("choice", part_name(partition)), choices, CHOICE)
    if blocks.corpus:
        table = pa.Table.from_pylist(survivors, schema=SURVIVOR)
        parquet.write_table(curation.work("survivors", part_name(partition)), table)
    if config.difficulty is not None:
        write_rows(curation, "pass_rates", part_name(partition), rates, PASS_RATE)
        counts.update(count_rates(rates))
    drops.write(curation, f"decide-{part_name(partition)}")
    return finish(mark, counts + drops.counts)


def _judged(curation: Curation, partition: int) -> dict[str, dict[str, Any]]:
    """What the scan found out about the texts of the problems; groups that share a problem agree about it."""
    table = read_row_group(curation.work_files("problems", curation.groups), partition)
    return {row["problem_id"]: row for row in table.select(PROBLEMS.names).to_pylist()}


def _problems(curation: Curation, partition: int, drops: Drops) -> Iterator[tuple[str, Traces]]:
    """The problems of a partition with their traces, those that stand in behind the others. Of traces with the same
    `sample_index`, which a repeated write could leave, the first counts."""
    table = read_row_group(curation.work_files("scanned", curation.groups), partition)
    other = [curation.stands_in(shard) for shard in table["shard"].to_pylist()]
    table = table.append_column("other", pa.array(other, pa.bool_()))
    by = ("problem_id", "other", "sample_index", "shard", "row")
    rows = table.sort_by([(name, "ascending") for name in by]).to_pylist()
    for problem_id, group in groupby(rows, key=lambda row: row["problem_id"]):
        traces: Traces = []
        for row in group:
            if traces and all(traces[-1][name] == row[name] for name in ("other", "sample_index")):
                drops.add("trace", "same_trace_again", problem_id, trace_id(problem_id, row["sample_index"]))
            else:
                traces.append(row)
        yield problem_id, traces


def decide_problem(
    curation: Curation,
    blocks: Blocks,
    problem_id: str,
    traces: Traces,
    judgement: dict[str, Any],
    rate: dict[str, Any],
    drops: Drops,
) -> dict[str, Any] | None:
    """A row of CHOICE, or None if the problem goes, which is noted in `drops`."""
    config = curation.config
    if judgement.get("reason"):
        drops.add("problem", judgement["reason"], problem_id, detail=judgement["detail"])
        return None
    if (found := blocks.rated(rate)) is not None:
        drops.add("problem", found[0], problem_id, detail=found[1])
        return None
    correct = [trace for trace in traces if trace["verdict"] == Verdict.CORRECT]
    chosen = [
        trace
        for other in (False, True)
        for trace in ranked(
            [trace for trace in correct if trace["candidate"] and trace["other"] is other],
            config.chosen.pick,
            config.seed,
        )
    ]
    if not chosen:
        drops.add("problem", "no_usable_correct_trace" if correct else "no_correct_trace", problem_id)
        return None
    own = [trace for trace in traces if not trace["other"]]
    wrong = [trace for trace in own if side_of(curation, trace["verdict"]) == "rejected"]
    rejected = ranked([trace for trace in wrong if trace["candidate"]], config.rejected.pick, config.seed)
    pairs = combinations(len(chosen), len(rejected), config.pairs_per_problem)
    used = max([config.positives_per_problem, *(pair[0] + 1 for pair in pairs)])
    return {
        "problem_id": problem_id,
        "home": min((_place(trace) for trace in traces), key=lambda place: (place["shard"], place["row"])),
        "chosen": [_place(trace) for trace in chosen[:used]],
        "rejected": [_place(trace) for trace in rejected[: len(pairs)]],
        "positives": min(config.positives_per_problem, len(chosen)),
        "pairs": pairs,
        "no_pair": None if pairs else "no_usable_wrong_trace" if wrong else "no_wrong_trace",
    }


def _place(trace: dict[str, Any]) -> dict[str, int]:
    return {"shard": trace["shard"], "row": trace["row"]}


def ranked(traces: Traces, pick: str, seed: int) -> Traces:
    """The candidates of a side, the best first; ties are broken by generation order. `traces` come in that order."""
    if pick == "random":
        return sorted(traces, key=lambda t: order_key(seed, trace_id(t["problem_id"], t["sample_index"])))
    if pick == "last":
        return traces[::-1]
    if pick in ("shortest", "longest"):
        sign = 1 if pick == "shortest" else -1
        return sorted(traces, key=lambda t: sign * t["chars"])
    if pick == "most_frequent_wrong":
        return by_frequent_answer(traces)
    if pick == "random_frequent_wrong":
        return by_frequent_answer(ranked(traces, "random", seed))
    return traces


def by_frequent_answer(traces: Traces) -> Traces:
    """One trace of each answer, the most frequent answer first, then a second one of each, and so on; no answer, last.

    Example: answers 7 5 7 none 5 7 -> the traces 7 (1st), 5 (1st), 7 (2nd), 5 (2nd), 7 (3rd), none.
    """
    counts = Counter(trace["answer"] for trace in traces if trace["answer"])
    first = {trace["answer"]: at for at, trace in reversed(list(enumerate(traces)))}
    turn: Counter[str] = Counter()
    keyed = []
    for trace in traces:
        answer = trace["answer"]
        if not answer:
            keyed.append(((math.inf, 0, 0), trace))
            continue
        keyed.append(((turn[answer], -counts[answer], first[answer]), trace))
        turn[answer] += 1
    return [trace for _, trace in sorted(keyed, key=lambda item: item[0])]


def combinations(chosen: int, rejected: int, limit: int) -> list[tuple[int, int]]:
    """The first `limit` combinations of indices below `chosen` and below `rejected`, no two equal.

    Both sides advance in step, so that every trace is used about equally often: (0, 0), (1, 1), ...
    """
    found: list[tuple[int, int]] = []
    for number in range(min(limit, chosen * rejected)):
        shift = number // math.lcm(chosen, rejected)
        found.append((number % chosen, (number + shift) % rejected))
    return found
