"""A language model as verifier: what a judge says of each trace, through the samplers that draw traces.

To a sampler, a judge's prompt is a problem and what the judge says its completion, so vLLM and endpoints both serve, with
their retries. The traces to ask about are found by one task per shard of verified traces; answers come in any order over
all shards, are kept as they come (`asked`, which makes a killed run resumable to the row), and are brought into the
traces' order shard by shard (`judged`). The driver holds names of shards, no rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import ray
import ray.data

from redi_ray.cluster.runtime import log, user_error
from redi_ray.config.answers import VerifySettings
from redi_ray.config.judges import JudgeSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.columns import write_column
from redi_ray.data.sample.endpoint_sampling import endpoint_sampler
from redi_ray.data.sample.samples import REQUEST, Sampler, Sampling
from redi_ray.data.sample.sampling import vllm_sampler
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.shard_tasks import each_shard
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import JUDGEMENT, Verdict, votes_of
from redi_ray.store import parquet, storage
from redi_ray.text.judgement import judge_prompt

TRIES = 3
"""How often a trace is asked about whose failure may be the engine's."""
READ = ("problem", "answer", "completion", "extracted_answer", "votes", "verdict_by")


@contextmanager
def judge_sampler(judge: JudgeSettings, engine: EngineSettings, rows: int | None = None) -> Iterator[Sampler]:
    """What asks the judge, for the block. engine: the run's, where the judge has none of its own. rows: the most it is asked."""
    sampling = Sampling(judge.temperature, judge.top_p, judge.max_tokens, judge.seed)
    prompt = PromptSettings(system=judge.system, prefix="")
    if judge.endpoint is not None:
        yield endpoint_sampler("verify.judge.endpoint", judge.endpoint, sampling, prompt)
        return
    assert judge.model is not None
    with vllm_sampler(judge.model, judge.engine or engine, sampling, prompt, rows) as sampler:
        yield sampler


def judge_traces(
    verified_uri: str,
    out_uri: str,
    settings: VerifySettings,
    sampler: Sampler,
    rows_per_part: int = 256,
    trust_remote_code: bool = False,
    on_total: Callable[[int], None] = lambda total: None,
    on_progress: Callable[[int, int], None] = lambda judged, tokens: None,
) -> None:
    """Write `<out_uri>/judged/<shard>` (JUDGEMENT schema) for every shard of VERIFIED_TRACE rows below `verified_uri`.

    Judgements that are there are kept; call it again to continue. rows_per_part: judgements per file while they come in,
    which is also what a crash can cost, beside those in flight. `on_total` hears how many traces are to be asked about,
    `on_progress` of (judgements, tokens) as they are written. Raises the sampler's UserError, if that is what ends it.
    """
    places = Places(storage.resolve(verified_uri), storage.resolve(out_uri), trust_remote_code)
    for attempt in range(1, TRIES + 1):
        waiting = {name: rows for name, rows in each_shard(places.unfinished(), _count_open, places, settings) if rows}
        if not waiting:
            break
        if attempt == 1:
            on_total(sum(waiting.values()))
        write = partial(_write_answers, places=places, last=attempt == TRIES)
        if not (failed := _ask(list(waiting), places, settings, sampler, write, rows_per_part, on_progress)):
            break
        log.warning("the judge failed on %d traces and is asked again", failed)
    for _ in each_shard(places.unfinished(), _gather, places, settings):
        pass
    storage.delete(storage.join(places.out_uri, "asked"))


@dataclass(frozen=True)
class Places:
    """Where shards and what belongs to them lie. A shard's name is its path below `verified_uri`."""

    verified_uri: str
    out_uri: str
    trust_remote_code: bool = False
    """Run code that ships with the judge's tokenizer."""

    def unfinished(self) -> list[str]:
        """Names of the shards without judgements."""
        names = [uri.removeprefix(self.verified_uri + "/") for uri in trace_shards(self.verified_uri)]
        there = set(storage.list_files(storage.join(self.out_uri, "judged"), ".parquet"))
        return [name for name in names if self.judged(name) not in there]

    def verified(self, name: str) -> str:
        return storage.join(self.verified_uri, name)

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


def reason_not_to_ask(row: dict[str, Any], settings: VerifySettings) -> str | None:
    """Why the judge is not asked about a VERIFIED_TRACE row, or None."""
    assert settings.judge is not None
    if settings.reuse_votes and votes_of(row["votes"]).get("judge") in set(Verdict):
        return "vote_came_with_trace"
    if not row["completion"].strip() or not row["problem"].strip():
        return "no_text"
    if not (row["answer"] or "").strip():
        return "no_reference_answer"
    if settings.judge.ask == "not_correct" and votes_of(row["verdict_by"]).get("math_verify") == Verdict.CORRECT:
        return "math_verify_correct"
    return None


def _open_rows(name: str, places: Places, settings: VerifySettings) -> Iterator[dict[str, Any]]:
    """The rows of a shard that the judge has yet to be asked about."""
    known = places.answered(name)
    for batch in parquet.read_batches(places.verified(name), ["trace_id", *READ]):
        for row in batch.to_pylist():
            if row["trace_id"] not in known and reason_not_to_ask(row, settings) is None:
                yield row


def _count_open(name: str, places: Places, settings: VerifySettings) -> int:
    return sum(1 for _ in _open_rows(name, places, settings))


def _requests(batch: dict[str, Any], places: Places, settings: VerifySettings) -> Iterator[pa.Table]:
    """One shard -> REQUEST rows: the judge's prompt as the problem, the shard's name as its source."""
    judge, (name,) = settings.judge, batch["name"]
    assert judge is not None
    model, trusted = judge.model, places.trust_remote_code
    special = load_tokenizer(model, trusted).all_special_tokens if model is not None else ()
    rows = _open_rows(str(name), places, settings)
    while some := list(islice(rows, parquet.BATCH_ROWS)):
        requests = [
            {
                "problem_id": row["trace_id"],
                "problem": judge_prompt(
                    judge,
                    problem=row["problem"],
                    answer=row["answer"],
                    completion=row["completion"],
                    extracted_answer=row["extracted_answer"],
                    special_tokens=special,
                ),
                "source": str(name),
                "sample_index": 0,
            }
            for row in some
        ]
        yield pa.Table.from_pylist(requests, schema=REQUEST)


def _ask(
    names: list[str],
    places: Places,
    settings: VerifySettings,
    sampler: Sampler,
    write: partial[dict[str, list[int]]],
    rows_per_part: int,
    on_progress: Callable[[int, int], None],
) -> int:
    """Ask about what is open in these shards; on how many traces the judge failed and may be asked again."""
    shards = ray.data.from_items([{"name": name} for name in names], override_num_blocks=len(names))
    requests = shards.map_batches(partial(_requests, places=places, settings=settings), batch_size=1, num_cpus=0.5)
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


def _gather(name: str, places: Places, settings: VerifySettings) -> int:
    """Write a shard's judgements in the order of its traces; how many there are."""
    answers = places.answers(name)

    def judgements(rows: pa.Table) -> list[dict[str, Any]]:
        reasons = [(row["trace_id"], reason_not_to_ask(row, settings)) for row in rows.to_pylist()]
        return [answers[key] if reason is None else {"not_asked": reason} for key, reason in reasons]

    return write_column(places.verified(name), places.judged(name), JUDGEMENT, READ, judgements)
