"""Where samples go wrong: what stands before the first wrong step, and that step. A task for each shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.token_steps import RectifySettings
from redi_ray.data.columns import beside, check_grain
from redi_ray.data.curate.answers import Answers
from redi_ray.data.curate.work import DROPPED, Drops, finish, finished
from redi_ray.data.sample.samples import BEGUN
from redi_ray.data.shard_tasks import each_shard
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import PROBLEM, turns_of
from redi_ray.store import parquet, storage
from redi_ray.text.steps import step_body
from redi_ray.text.templates import without_ending
from redi_ray.text.tokens import body_of

START = pa.schema(
    [
        *PROBLEM,  # the id is the sample's: each is sampled on from like a problem of its own
        pa.field(BEGUN, pa.string(), nullable=False),  # the answer up to the wrong step, whose header it holds
        pa.field("step", pa.string(), nullable=False),  # the wrong step, without header and the white space behind it
    ]
)
SEVERAL_TURNS, NOT_LOCATED, NO_WRONG_STEP, OUTSIDE, EMPTY = (
    "several_turns", "not_located", "no_wrong_step", "step_outside_its_text", "empty_step",
)  # fmt: skip
"""Why a sample gives no start, beside its verdict and what does not fit the prompt."""


@dataclass(frozen=True)
class Starting:
    """How, the same for every shard."""

    samples: str
    """Folder of the verified shards."""
    column: str
    """Folder of the located steps' shards, by the same names."""
    out_uri: str
    settings: RectifySettings
    tokenizer: str
    prompt: PromptSettings
    trust_remote_code: bool = False


def make_starts(names: list[str], how: Starting) -> Counter[str]:
    """Write `problems` (START) and `dropped` below `out_uri`, a shard for each of `names`; the counts: `in`, `out`, and the rest
    by reason. A shard that is done is only counted.

    Raises ColumnError where the column is not of these samples, or at another grain.
    """
    for name in names[:1]:
        check_grain(storage.join(how.column, name), "span")
    counts: Counter[str] = Counter()
    for _, found in each_shard(names, start_shard, how):
        counts.update(found)
    left_out = sum(number for reason, number in counts.items() if reason not in ("in", "out"))
    assert counts["in"] == counts["out"] + left_out, counts
    return counts


def start_shard(name: str, how: Starting) -> dict[str, int]:
    """One shard."""
    mark = storage.join(how.out_uri, "work", f"{name}.json")
    if (known := finished(mark)) is not None:
        return dict(known)
    tokenizer = load_tokenizer(how.tokenizer, how.trust_remote_code)
    finder = Finder(how.settings, Answers(tokenizer, how.prompt))
    counts, drops, starts = Counter[str](), Drops(), list[dict[str, Any]]()
    read = [*PROBLEM.names, "completion", "turns", "verdict"]
    for rows, (column,) in beside(storage.join(how.samples, name), [storage.join(how.column, name)], read):
        for row, spans in zip(rows.to_pylist(), column["spans"].to_pylist(), strict=True):
            counts["in"] += 1
            if row["verdict"] not in how.settings.verdicts:
                counts[f"verdict_{row['verdict']}"] += 1
                continue
            found = finder.start_of(row, spans)
            if isinstance(found, str):
                counts[found] += 1
                drops.add("trace", found, row["problem_id"], row["trace_id"])
                continue
            begun, step = found
            counts["out"] += 1
            told = {field: row[field] for field in PROBLEM.names}
            starts.append({**told, "problem_id": row["trace_id"], BEGUN: begun, "step": step})
    for table, kept, schema in (("problems", starts, START), ("dropped", drops.rows, DROPPED)):
        if kept:
            parquet.write_table(storage.join(how.out_uri, table, name), pa.Table.from_pylist(kept, schema=schema))
    return dict(finish(mark, counts))


@dataclass(frozen=True)
class Finder:
    """Finds the first wrong step of a sample."""

    settings: RectifySettings
    answers: Answers

    def start_of(self, row: Mapping[str, Any], spans: list[dict[str, Any]] | None) -> tuple[str, str] | str:
        """What stands before the first wrong step and that step, or why there is none.

        What the prompt holds of the answer belongs to what stands before, as the header of the step does.
        """
        if len(turns_of(row)) > 1:
            return SEVERAL_TURNS
        if spans is None:
            return NOT_LOCATED
        wrong = next((span for span in spans if span["label"] in self.settings.labels), None)
        if wrong is None:
            return NO_WRONG_STEP
        old, tokenizer = row["completion"], self.answers.tokenizer
        if (reason := self.answers.misfit(old)) is not None:
            return reason
        if wrong["turn"] != 0 or not 0 <= wrong["start"] < wrong["end"] <= len(old):
            return OUTSIDE
        text = self.answers.message(old)["content"]  # its beginning may have been mended
        shift = 0 if text == old else len(text) - len(without_ending(old, tokenizer))
        step = (max(0, wrong["start"] + shift), min(len(text), wrong["end"] + shift))
        start, end = step_body(text, step) if step[0] < step[1] else step
        body = body_of(text, tokenizer, self.answers.prompt)
        assert body is not None, "it fits the prompt"
        start = max(start, len(text) - len(body))
        return (text[:start], text[start:end]) if text[start:end].strip() else EMPTY
