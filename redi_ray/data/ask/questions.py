"""Labelled steps of samples as problems: a question each, answered by one of two words.

<uri>/asked/<shard>       what the samples of a shard ask, by a task for each
      problems/<shard>    PROBLEM: each question once, where it came first; its answer is that of most samples
      counts/<shard>      written last of a shard's task

One task reads ids and answers of all that is asked, some 200 bytes a question; texts are copied a few rows at a time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from redi_ray.config.step_judges import AskSettings, ProblemPart
from redi_ray.data.columns import beside, check_grain
from redi_ray.data.shard_tasks import each_shard
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import PROBLEM, turns_of
from redi_ray.store import parquet, storage
from redi_ray.text.step_verdicts import step_question
from redi_ray.text.thoughts import without_tags

STEPS, OUT, SAMPLES = "steps", "out", "samples"
LABEL, OF_SAMPLES = "label_", "samples/"
"""Begin names of counts: steps that are not asked about by their label; samples without any step, by reason."""
DUPLICATE, UNDECIDED, EMPTY, OUTSIDE = "duplicate", "undecided", "empty_step", "step_outside_its_text"
"""Why a step gives no problem: the same question came before; as many samples say Yes as No; and what does not fit its text."""


@dataclass(frozen=True)
class Asking:
    """How, the same for every shard."""

    samples: str
    """Folder of the verified shards."""
    column: str
    """Folder of the labelled steps' shards, by the same names."""
    out_uri: str
    settings: AskSettings
    tokenizer: str
    """The base model's folder: control tokens of its are broken up."""
    trust_remote_code: bool = False


def in_part(part: ProblemPart, problem_id: str) -> bool:
    """Whether a problem belongs to a part: its place in [0, 1) is a hash of the seed and its id."""
    digest = hashlib.blake2b(f"{part.seed}/{problem_id}".encode(), digest_size=8).digest()
    return part.above <= int.from_bytes(digest) / 2**64 < part.up_to


def ask(names: list[str], how: Asking) -> Counter[str]:
    """Write `problems` for the shards of these names; the counts: `steps = out + sum(all others but those of samples)`.

    A shard that is done is only counted. Raises ColumnError where the column is not of these samples, or at another grain.
    """
    import ray

    for name in names[:1]:
        check_grain(storage.join(how.column, name), "span")
    counts: Counter[str] = Counter()
    for _, found in each_shard(names, ask_shard, how):
        counts.update(found)
    keep = ray.remote(num_cpus=1, max_retries=2)(_keep_each_once)
    kept: dict[str, int] = ray.get(keep.remote(sorted(names), how.out_uri))
    counts.update(kept)
    left_out = sum(number for name, number in counts.items() if not name.startswith((STEPS, OUT, SAMPLES)))
    assert counts[STEPS] == counts[OUT] + left_out, counts
    return counts


def ask_shard(name: str, how: Asking) -> dict[str, int]:
    """What a shard's samples ask; counts."""
    mark = storage.join(how.out_uri, "counts", name.removesuffix(".parquet") + ".json")
    if storage.exists(mark):
        return storage.read_json(mark)
    special = load_tokenizer(how.tokenizer, how.trust_remote_code).all_special_tokens
    counts, asked = Counter[str](), list[dict[str, Any]]()
    read = [*PROBLEM.names, "completion", "turns"]
    for rows, (column,) in beside(storage.join(how.samples, name), [storage.join(how.column, name)], read):
        for row, spans in zip(rows.to_pylist(), column["spans"].to_pylist(), strict=True):
            counts[SAMPLES] += 1
            if not in_part(how.settings.part, row["problem_id"]):
                counts[OF_SAMPLES + "of_another_part"] += 1
            elif not spans:
                counts[OF_SAMPLES + "not_located"] += 1
            else:
                asked += _of_sample(row, spans, how.settings, special, counts)
    if asked:
        parquet.write_table(storage.join(how.out_uri, "asked", name), pa.Table.from_pylist(asked, schema=PROBLEM))
    storage.write_json(mark, dict(sorted(counts.items())))
    return dict(counts)


def _of_sample(
    row: Mapping[str, Any], spans: list[dict[str, Any]], settings: AskSettings, special: list[str], counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """A row of PROBLEM for each step that is asked about."""
    turns, (yes, no) = turns_of(row), settings.question.answers
    counts[STEPS] += len(spans)
    texts = [turns[s["turn"]]["content"][s["start"] : s["end"]] if 0 <= s["turn"] < len(turns) else "" for s in spans]
    for at, (span, text) in enumerate(zip(spans, texts, strict=True)):
        label = span["label"]
        if len(text) != span["end"] - span["start"]:
            counts[OUTSIDE] += 1
        elif label not in settings.right and label not in settings.wrong:
            counts[f"{LABEL}{label}"] += 1
        elif not without_tags(text).strip():
            counts[EMPTY] += 1
        else:
            asked = step_question(settings.question, row["problem"], texts, at, special)
            key = hashlib.blake2b(asked.encode(errors="replace"), digest_size=8).hexdigest()
            answer = yes if label in settings.right else no
            yield {
                "problem_id": f"{row['problem_id']}@{key}",
                "problem": asked,
                "answer": answer,
                "source": row["source"],
            }


def _keep_each_once(names: list[str], out_uri: str) -> dict[str, int]:
    """Write `problems` of what is asked: the first of equal questions, with the answer that most of them have."""
    said: dict[str, Counter[str]] = {}
    places = [storage.join(out_uri, "asked", name) for name in names]
    there = [(name, place) for name, place in zip(names, places, strict=True) if storage.exists(place)]
    for _, place in there:
        for batch in parquet.read_batches(place, ["problem_id", "answer"]):
            for key, answer in zip(batch["problem_id"].to_pylist(), batch["answer"].to_pylist(), strict=True):
                said.setdefault(key, Counter())[answer] += 1
    counts, written = Counter[str](), set[str]()
    counts[DUPLICATE] = sum(found.total() - 1 for found in said.values())
    for name, place in there:
        with parquet.table_writer(storage.join(out_uri, "problems", name), PROBLEM) as write:
            for batch in parquet.read_batches(place):
                kept = []
                for row in batch.to_pylist():
                    key, answers = row["problem_id"], said[row["problem_id"]].most_common()
                    if key in written:
                        continue
                    written.add(key)
                    if len(answers) > 1 and answers[0][1] == answers[1][1]:
                        counts[UNDECIDED] += 1
                        continue
                    kept.append({**row, "answer": answers[0][0]})
                    counts[OUT] += 1
                    counts[f"{OUT}/{answers[0][0]}"] += 1
                write(pa.Table.from_pylist(kept, schema=PROBLEM))
    counts[f"{STEPS}/contradicted"] = sum(len(found) > 1 for found in said.values())
    return {name: number for name, number in counts.items() if number}
