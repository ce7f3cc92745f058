"""Stage `curate`: from verified traces to positives and (chosen, rejected) pairs.

The paper's rule: chosen is the first correct trace of a problem, rejected the first incorrect one, in the order of
generation; then prompts and responses over the token limits are dropped. A problem with a chosen trace gives an example,
one that also has a rejected trace gives a pair.

Two passes instead of a shuffle of whole traces (tens of kilobytes each): one task reads ids and verdicts alone, about a
hundred bytes a trace, and decides which two rows each problem needs; then Ray Data maps over slices of that choice, in the
order in which the traces lie in the shards, so that each slice opens few of them. The result does not depend on the
sharding, and a slice that is written is not computed again.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from redi_ray import storage
from redi_ray.config.data import CurateConfig
from redi_ray.config.prompts import PromptSettings
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import EXAMPLE, PAIR, Verdict
from redi_ray.text.prompts import strip_prefix, to_messages
from redi_ray.text.tokens import completion_ids, prompt_ids

DROPPED = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("trace_id", pa.string()),
        pa.field("what", pa.string(), nullable=False),  # example | pair
        pa.field("reason", pa.string(), nullable=False),
    ]
)
SLICE_PROBLEMS = 1000
"""Problems per task and output shard."""


@dataclass(frozen=True)
class CurateCounts:
    """`problems = positives + sum(dropped)` and `positives = pairs + sum(pairs_dropped)`."""

    problems: int
    positives: int
    pairs: int
    dropped: dict[str, int]
    pairs_dropped: dict[str, int]


def curate(
    verified: list[str],
    out_uri: str,
    config: CurateConfig,
    *,
    tokenizer: str,
    prompt: PromptSettings,
    num_problems: int,
) -> CurateCounts:
    """Write `examples` (EXAMPLE), `pairs` (PAIR) and `dropped` below `out_uri`.

    verified: shards in VERIFIED_TRACE schema. tokenizer: the student's folder. num_problems: of the problems stage, so
    that problems without any trace are counted too.
    """
    choose_remotely = ray.remote(num_cpus=1, max_retries=2)(write_choice)
    slices = ray.get(choose_remotely.remote(verified, out_uri, list(config.rejected_verdicts)))
    written = ray.data.from_items([{"slice": name} for name in slices], override_num_blocks=len(slices)).map_batches(
        _Write,
        fn_constructor_args=(verified, out_uri, config, tokenizer, prompt),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=0.5,
    )
    sums: Counter[str] = Counter()
    for row in written.iter_rows():
        sums.update(row)
    dropped, pairs_dropped = count_drops(storage.list_files(storage.join(out_uri, "dropped"), ".parquet"))
    if num_problems > sums["problems"]:
        dropped["no_trace"] = num_problems - sums["problems"]
    return CurateCounts(num_problems, sums["positives"], sums["pairs"], dict(dropped), dict(pairs_dropped))


def write_choice(verified: list[str], out_uri: str, rejectable: list[str]) -> list[str]:
    """Write `<out_uri>/choice/part-*.parquet`, one row per problem; returns their file names."""
    choice = choose(verified, rejectable)
    names = []
    for number in range(max(1, math.ceil(choice.num_rows / SLICE_PROBLEMS))):
        names.append(f"part-{number:05d}.parquet")
        part = choice.slice(number * SLICE_PROBLEMS, SLICE_PROBLEMS)
        storage.write_table(storage.join(out_uri, "choice", names[-1]), part)
    return names


def choose(verified: list[str], rejectable: list[str]) -> pa.Table:
    """Where each problem's chosen and rejected trace lie: problem_id, {chosen,rejected}_{id,shard,row} (null if none).

    Rows are in the order in which the problems first appear in the shards. Of traces with equal `sample_index`, which a
    repeated write could leave, the first counts.
    """
    columns = ["problem_id", "trace_id", "sample_index", "verdict"]
    tables = [
        table.append_column("shard", pa.array([number] * table.num_rows, pa.int32())).append_column(
            "row", pa.array(range(table.num_rows), pa.int32())
        )
        for number, table in enumerate(storage.read_tables(verified, columns))
    ]
    traces = pa.concat_tables(tables)
    problems = _first_of(traces.sort_by([("shard", "ascending"), ("row", "ascending")]), "seen")
    ordered = traces.sort_by([("sample_index", "ascending"), ("shard", "ascending"), ("row", "ascending")])
    chosen = _first_of(ordered.filter(pc.equal(ordered["verdict"], str(Verdict.CORRECT))), "chosen")
    rejected = _first_of(ordered.filter(pc.is_in(ordered["verdict"], value_set=pa.array(rejectable))), "rejected")
    joined = problems.join(chosen, "problem_id", join_type="left outer").join(
        rejected, "problem_id", join_type="left outer"
    )
    return joined.sort_by([("seen_shard", "ascending"), ("seen_row", "ascending")])


def _first_of(traces: pa.Table, name: str) -> pa.Table:
    """The first row of each problem, in the order given."""
    grouped = traces.group_by("problem_id", use_threads=False)
    found = grouped.aggregate([("trace_id", "first"), ("shard", "first"), ("row", "first")])
    return found.rename_columns(
        {"trace_id_first": f"{name}_id", "shard_first": f"{name}_shard", "row_first": f"{name}_row"}
    )


def count_drops(shards: list[str]) -> tuple[Counter[str], Counter[str]]:
    """Drop reasons of examples and of pairs."""
    counted: dict[str, Counter[str]] = {"example": Counter(), "pair": Counter()}
    for table in storage.read_tables(shards, ["what", "reason"]):
        for row in table.to_pylist():
            counted[row["what"]][row["reason"]] += 1
    return counted["example"], counted["pair"]


def order_key(seed: int, problem_id: str) -> str:
    """Sorting by this shuffles the problems the same way under any sharding; it leads the example's and pair's id."""
    return hashlib.sha256(f"{seed}/{problem_id}".encode()).hexdigest()[:12]


class _Write:
    """Fetches the chosen traces of a slice of problems, measures them in tokens, and writes what fits."""

    def __init__(
        self, verified: list[str], out_uri: str, config: CurateConfig, tokenizer: str, prompt: PromptSettings
    ) -> None:
        self.verified, self.out_uri, self.config, self.prompt = verified, out_uri, config, prompt
        self.tokenizer = load_tokenizer(tokenizer)
        self.shard = lru_cache(maxsize=8)(self._read_shard)  # neighbouring problems share shards

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = [self.write_slice(str(name)) for name in batch["slice"]]
        return {key: [row[key] for row in rows] for key in rows[0]}

    def write_slice(self, name: str) -> dict[str, int]:
        """Write one slice's tables, `dropped` last, which marks it as done; returns its counts."""
        choice = next(storage.read_tables([storage.join(self.out_uri, "choice", name)])).to_pylist()
        if storage.exists(storage.join(self.out_uri, "dropped", name)):
            return self._counts(name, len(choice))
        examples, pairs, dropped = [], [], []
        for row in sorted(
            (self.fetch(row) for row in choice), key=lambda row: order_key(self.config.seed, row["problem_id"])
        ):
            reason = self.positive_problem(row)
            if reason:
                dropped.append(self._drop(row, row["chosen_id"], "example", reason))
                continue
            examples.append(self.example(row))
            reason = self.pair_problem(row)
            if reason:
                dropped.append(self._drop(row, row["rejected_id"], "pair", reason))
            else:
                pairs.append(self.pair(row))
        for table, rows, schema in (
            ("examples", examples, EXAMPLE),
            ("pairs", pairs, PAIR),
            ("dropped", dropped, DROPPED),
        ):
            storage.write_table(storage.join(self.out_uri, table, name), pa.Table.from_pylist(rows, schema=schema))
        return {"problems": len(choice), "positives": len(examples), "pairs": len(pairs)}

    def _counts(self, name: str, problems: int) -> dict[str, int]:
        examples, pairs = (
            next(storage.read_tables([storage.join(self.out_uri, table, name)], ["problem_id"])).num_rows
            for table in ("examples", "pairs")
        )
        return {"problems": problems, "positives": examples, "pairs": pairs}

    def fetch(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row of the choice with its problem and the texts of its traces."""
        texts = {side: self._text(row, side, "completion") for side in ("chosen", "rejected")}
        return {**row, **texts, "problem": self._text(row, "seen", "problem")}

    def _text(self, row: dict[str, Any], side: str, column: str) -> str | None:
        shard = row[f"{side}_shard"]
        return None if shard is None else self.shard(shard)[column][row[f"{side}_row"]].as_py()

    def _read_shard(self, number: int) -> pa.Table:
        return next(storage.read_tables([self.verified[number]], ["problem", "completion"]))

    def positive_problem(self, row: dict[str, Any]) -> str | None:
        """Why this problem gives no example, or None."""
        if row["chosen"] is None:
            return "no_correct_trace"
        if len(self._prompt_ids(row)) > self.config.max_prompt_tokens:
            return "prompt_too_long"
        return self._response_problem("chosen", row["chosen"])

    def pair_problem(self, row: dict[str, Any]) -> str | None:
        """Why this problem, which gives an example, gives no pair, or None."""
        if row["rejected"] is None:
            return "no_wrong_trace"
        return self._response_problem("rejected", row["rejected"])

    def _response_problem(self, side: str, completion: str) -> str | None:
        if strip_prefix(completion, self.prompt) is None:
            return f"{side}_without_prefix"
        too_long = len(completion_ids(completion, self.tokenizer, self.prompt)) > self.config.max_response_tokens
        return f"{side}_too_long" if too_long else None

    def _prompt_ids(self, row: dict[str, Any]) -> list[int]:
        return prompt_ids(to_messages(row["problem"], self.prompt), self.tokenizer, self.prompt)

    def example(self, row: dict[str, Any]) -> dict[str, Any]:
        key = order_key(self.config.seed, row["problem_id"])
        messages = [*to_messages(row["problem"], self.prompt), {"role": "assistant", "content": row["chosen"]}]
        return {"example_id": f"{key}/{row['chosen_id']}", "problem_id": row["problem_id"], "messages": messages}

    def pair(self, row: dict[str, Any]) -> dict[str, Any]:
        key = order_key(self.config.seed, row["problem_id"])
        return {
            "pair_id": f"{key}/{row['chosen_id']}/{row['rejected_id']}",
            "problem_id": row["problem_id"],
            "prompt": to_messages(row["problem"], self.prompt),
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }

    @staticmethod
    def _drop(row: dict[str, Any], trace: str | None, what: str, reason: str) -> dict[str, Any]:
        return {"problem_id": row["problem_id"], "trace_id": trace, "what": what, "reason": reason}
