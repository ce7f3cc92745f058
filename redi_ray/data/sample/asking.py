"""Asking a language model about samples, through the samplers that draw them: what it says becomes a column of JUDGEMENT rows.

To a sampler, a question is a problem and what the model says its completion, so vLLM and endpoints both serve, with their
retries. The samples to ask about are found by one task per shard; answers come in any order over all shards, are kept as they
come (`asked`, which makes a killed run resumable to the row), and are brought into the samples' order shard by shard (`judged`).
The driver holds names of shards, no rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol

import pyarrow as pa

from redi_ray.cluster.runtime import log, user_error
from redi_ray.config.judges import JudgeSettings
from redi_ray.config.locators import StepJudge
from redi_ray.config.paraphrase import Rewriter
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.columns import write_column
from redi_ray.data.sample.endpoint_sampling import endpoint_sampler
from redi_ray.data.sample.samples import BEGUN, REQUEST, Sampler, Sampling
from redi_ray.data.sample.sampling import vllm_sampler
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.shard_tasks import each_shard
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import JUDGEMENT
from redi_ray.store import parquet, storage

TRIES = 3
"""How often a sample is asked about whose failure may be the engine's."""


class Questions(Protocol):
    """Which samples a model is asked about, and what. It travels to every task."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the samples."""
        ...

    def not_asked(self, row: Mapping[str, Any]) -> str | None:
        """Why the model is not asked about a sample, or None."""
        ...

    def prompt(self, row: Mapping[str, Any], special_tokens: Collection[str]) -> str:
        """The user message. special_tokens: the model's own, where its tokenizer is at hand."""
        ...


@contextmanager
def asking(
    field: str, asked: JudgeSettings | StepJudge | Rewriter, engine: EngineSettings, rows: int | None = None
) -> Iterator[Sampler]:
    """What asks the model, for the block. field: where the settings stand in the config. engine: the run's, where they have none
    of their own. rows: the most that is asked."""
    sampling = Sampling(asked.temperature, asked.top_p, asked.max_tokens, asked.seed)
    prompt = PromptSettings(system=asked.system, prefix="")
    if asked.endpoint is not None:
        yield endpoint_sampler(f"{field}.endpoint", asked.endpoint, sampling, prompt)
        return
    assert asked.model is not None
    with vllm_sampler(asked.model, asked.engine or engine, sampling, prompt, rows) as sampler:
        yield sampler


def ask_about(
    samples_uri: str,
    out_uri: str,
    questions: Questions,
    sampler: Sampler,
    *,
    tokenizer: str | None = None,
    trust_remote_code: bool = False,
    begun: Callable[[Mapping[str, Any]], str] | None = None,
    rows_per_part: int = 256,
    on_total: Callable[[int], None] = lambda total: None,
    on_progress: Callable[[int, int], None] = lambda judged, tokens: None,
) -> None:
    """Write `<out_uri>/judged/<shard>` (JUDGEMENT schema) for every shard of samples below `samples_uri`.

    What is there is kept; call it again to continue. tokenizer: the folder of the model that is asked, where it is at hand.
    begun: row -> how its answer begins, forced prefix included, where the model is to go on from there (engines of ours alone).
    rows_per_part: answers per file while they come in, which is also what a crash can cost, beside those in flight. `on_total`
    hears how many samples are to be asked about, `on_progress` of (answers, tokens) as they are written. Raises the sampler's
    UserError, if that is what ends it.
    """
    places = Places(storage.resolve(samples_uri), storage.resolve(out_uri), tokenizer, trust_remote_code, begun)
    for attempt in range(1, TRIES + 1):
        waiting = {name: rows for name, rows in each_shard(places.unfinished(), _count_open, places, questions) if rows}
        if not waiting:
            break
        if attempt == 1:
            on_total(sum(waiting.values()))
        write = partial(_write_answers, places=places, last=attempt == TRIES)
        if not (failed := _ask(list(waiting), places, questions, sampler, write, rows_per_part, on_progress)):
            break
        log.warning("the judge failed on %d traces and is asked again", failed)
    for _ in each_shard(places.unfinished(), _gather, places, questions):
        pass
    storage.delete(storage.join(places.out_uri, "asked"))


@dataclass(frozen=True)
class Places:
    """Where shards and what belongs to them lie. A shard's name is its path below `samples_uri`."""

    samples_uri: str
    out_uri: str
    tokenizer: str | None = None
    """The folder of the model that is asked."""
    trust_remote_code: bool = False
    """Run code that ships with its tokenizer."""
    begun: Callable[[Mapping[str, Any]], str] | None = None
    """Row -> how the answer begins."""

    def unfinished(self) -> list[str]:
        """Names of the shards without judgements."""
        names = [uri.removeprefix(self.samples_uri + "/") for uri in trace_shards(self.samples_uri)]
        there = set(storage.list_files(storage.join(self.out_uri, "judged"), ".parquet"))
        return [name for name in names if self.judged(name) not in there]

    def samples(self, name: str) -> str:
        return storage.join(self.samples_uri, name)

    def judged(self, name: str) -> str:
        return storage.join(self.out_uri, "judged", name)

    def asked(self, name: str) -> str:
        """The folder of a shard's answers as they came."""
        return storage.join(self.out_uri, "asked", name.removesuffix(".parquet"))

    def answered(self, name: str) -> set[str]:
        """The traces that have been asked about so far."""
        parts = storage.list_files(self.asked(name), ".parquet")
        return {key for table in parquet.read_tables(parts, ["trace_id"]) for key in table["trace_id"].to_pylist()}

    def answers(self, name: str) -> dict[str, dict[str, Any]]:
        """Trace id -> JUDGEMENT row, of what has been asked so far."""
        parts = storage.list_files(self.asked(name), ".parquet")
        return {row["trace_id"]: row for table in parquet.read_tables(parts) for row in table.to_pylist()}


def _open_rows(name: str, places: Places, questions: Questions) -> Iterator[dict[str, Any]]:
    """The rows of a shard that the model has yet to be asked about."""
    known = places.answered(name)
    for batch in parquet.read_batches(places.samples(name), ["trace_id", *questions.reads]):
        for row in batch.to_pylist():
            if row["trace_id"] not in known and questions.not_asked(row) is None:
                yield row


def _count_open(name: str, places: Places, questions: Questions) -> int:
    return sum(1 for _ in _open_rows(name, places, questions))


def _requests(batch: dict[str, Any], places: Places, questions: Questions) -> Iterator[pa.Table]:
    """One shard -> REQUEST rows, with `begun` where answers go on: the question as problem, the shard's name as its source."""
    (name,) = batch["name"]
    model, trusted = places.tokenizer, places.trust_remote_code
    special = load_tokenizer(model, trusted).all_special_tokens if model is not None else ()
    rows, begun = _open_rows(str(name), places, questions), places.begun
    schema = REQUEST if begun is None else REQUEST.append(pa.field(BEGUN, pa.string()))
    while some := list(islice(rows, parquet.BATCH_ROWS)):
        requests = [
            {
                "problem_id": row["trace_id"],
                "problem": questions.prompt(row, special),
                "source": str(name),
                "sample_index": 0,
                **({} if begun is None else {BEGUN: begun(row)}),
            }
            for row in some
        ]
        yield pa.Table.from_pylist(requests, schema=schema)


def _ask(
    names: list[str],
    places: Places,
    questions: Questions,
    sampler: Sampler,
    write: partial[dict[str, list[int]]],
    rows_per_part: int,
    on_progress: Callable[[int, int], None],
) -> int:
    """Ask about what is open in these shards; on how many samples the model failed and may be asked again."""
    import ray.data

    shards = ray.data.from_items([{"name": name} for name in names], override_num_blocks=len(names))
    requests = shards.map_batches(partial(_requests, places=places, questions=questions), batch_size=1, num_cpus=0.5)
    written = sampler(requests).map_batches(write, batch_size=rows_per_part, batch_format="pyarrow", num_cpus=0.5)
    written.context.raise_original_map_exception = True  # or a UserError would arrive as text
    failed = 0
    try:
        for row in written.iter_rows():
            on_progress(row["judged"], row["tokens"])
            failed += row["failed"]
    except ray.exceptions.RayTaskError as error:
        if (told := user_error(error)) is not None:
            raise told from None
        raise
    return failed


def _write_answers(batch: pa.Table, places: Places, last: bool) -> dict[str, list[int]]:
    """Write a batch of COMPLETION rows as JUDGEMENT rows, one file per shard that they are about."""
    shards: dict[str, list[dict[str, Any]]] = {}
    for row in batch.to_pylist():
        if row["failure"] and row["retry"] and not last:
            continue
        told = {name: row[name] for name in ("finish_reason", "num_tokens", "prompt_tokens")}
        failure = f"{row['failure']}: {row['detail']}" if row["failure"] else None
        judgement = {"trace_id": row["problem_id"], "output": row["completion"], "failure": failure, **told}
        shards.setdefault(row["source"], []).append(judgement)
    for name, rows in shards.items():
        ids = "\n".join(sorted(row["trace_id"] for row in rows))
        # named by its content, so that a task that Ray runs again writes its own file again
        part = storage.join(places.asked(name), f"part-{hashlib.sha256(ids.encode()).hexdigest()[:20]}.parquet")
        parquet.write_table(part, pa.Table.from_pylist(rows, schema=JUDGEMENT))
    written = [row for rows in shards.values() for row in rows]
    tokens = sum(row["num_tokens"] or 0 for row in written)
    return {"judged": [len(written)], "tokens": [tokens], "failed": [batch.num_rows - len(written)]}


def _gather(name: str, places: Places, questions: Questions) -> int:
    """Write a shard's judgements in the order of its samples; how many there are."""
    answers = places.answers(name)

    def judgements(rows: pa.Table) -> list[dict[str, Any]]:
        reasons = [(row["trace_id"], questions.not_asked(row)) for row in rows.to_pylist()]
        return [answers[key] if reason is None else {"not_asked": reason} for key, reason in reasons]

    return write_column(places.samples(name), places.judged(name), JUDGEMENT, questions.reads, judgements)
