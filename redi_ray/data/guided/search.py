"""Beam search over steps: all problems take one step at a time, and what is said of the steps decides which beginnings go on.

    <uri>/step-000/asked/<shard>       beginnings that grow (ASKED)
                   traces              with one more step each, several of each, by the machinery that samples traces
                   candidates/<shard>  the different ones, in order (VERIFIED_TRACE, without a verdict)
                   scored/...          what is said of them: `column/<shard>` beside the candidates, a span for each step
                   beams.parquet       what is kept of every problem (BEAM)
                   done.json           written last: counts
          answers/<shard>              in the end: what is kept, as TRACE, the best of a problem first
          values/<shard>               beside these, the number that orders them (SCORE)

What is drawn follows from what was kept before, so a killed search goes on in the step where it was, and its answers are the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from redi_ray.cluster.runtime import log
from redi_ray.config.guided import GuidedSettings
from redi_ray.data.columns import beside
from redi_ray.data.guided.beams import Beam, cut_off, go_on
from redi_ray.data.sample.collect import collect
from redi_ray.data.sample.samples import BEGUN, Requests, Sampler, SampleStats, Sampling
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.sources.ids import IdSet
from redi_ray.errors import UserError
from redi_ray.schemas import PROBLEM, SCORE, TRACE, VERIFIED_TRACE, Verdict, trace_id
from redi_ray.store import parquet, storage

ASKED = pa.schema([*PROBLEM, pa.field(BEGUN, pa.string())])
"""A problem under the id `<problem_id>@<step>.<place>`, its own id as the source, and an answer's beginning, null for none."""
BEAM = pa.schema(
    [
        *PROBLEM,
        pa.field("text", pa.string()),
        pa.field("values", pa.list_(pa.float64())),
        pa.field("tokens", pa.int64()),
        pa.field("ended", pa.string()),
    ]
)
AT = "@"
SHARD_ROWS = 512
Engines = Callable[[Sampling, int], AbstractContextManager[Sampler]]
"""What draws steps, for a block: how they are drawn, and how many at the most."""
JudgeSteps = Callable[[str, str], str]
"""Of samples below the first folder writes below the second what is said of their steps, a span for each with a number at the
last one, and says in which folder that lies; Ray must be connected."""


class SearchError(UserError):
    """A search that nothing guides; the message says why."""


@dataclass(frozen=True)
class Search:
    """How, the same for every step; it travels to tasks."""

    settings: GuidedSettings
    uri: str
    model: str
    """Of the answers."""
    sampling: Sampling
    """Of an answer; its `max_tokens` is the longest one."""

    @property
    def step(self) -> Sampling:
        """Of a step."""
        drawn, own = self.sampling, self.settings
        return Sampling(drawn.temperature, drawn.top_p, own.max_step_tokens, drawn.seed, stop=(own.step_end,))

    def folder(self, number: int) -> str:
        return storage.join(self.uri, f"step-{number:03d}")


def guided_search(
    problems: pa.Table,
    search: Search,
    engines: Engines,
    judge: JudgeSteps,
    on_progress: Callable[[SampleStats], None] = lambda added: None,
) -> dict[str, int]:
    """Search answers of all problems (PROBLEM schema), or go on; what it took: `steps` (of the longest answer), `drawn`,
    `tokens`, `judged` (different ones), `rejected`.

    on_progress: hears of what is asked, and of what is drawn. Raises SearchError where nothing is said of any step, and what
    engines and the judge raise.
    """
    total = dict.fromkeys(("drawn", "tokens", "judged", "rejected"), 0)
    number, left = 0, 1
    while left:
        mark = storage.join(search.folder(number), "done.json")
        if not storage.exists(mark):
            if number == 0:
                _write_beams(search.folder(0), "start.parquet", [(row, [Beam()]) for row in problems.to_pylist()])
            storage.write_json(mark, _take_step(search, number, engines, judge, on_progress))
        told = storage.read_json(mark)
        total = {name: value + told[name] for name, value in total.items()}
        number, left = number + 1, told["growing"]
        log.info("guided search: step %d, %d beginnings grow on, %d whole answers", number, left, told["whole"])
    _in_task(_write_answers, search, number - 1)
    return {"steps": number, **total}


def _in_task(function: Callable[..., Any], *arguments: Any) -> Any:
    import ray

    task = ray.remote(num_cpus=1, max_retries=2)(function)
    try:
        return ray.get(task.remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def _take_step(
    search: Search, number: int, engines: Engines, judge: JudgeSteps, on_progress: Callable[[SampleStats], None]
) -> dict[str, int]:
    """Draw, judge and choose; the counts."""
    folder, own = search.folder(number), search.settings
    asked = _in_task(_ask, search, number)
    each = own.candidates * (1 if number else own.keep)
    shards = storage.list_files(storage.join(folder, "asked"), ".parquet")
    requests = Requests.of_problems(shards, asked, range(each), IdSet())
    on_progress(SampleStats(asked=requests.asked))
    with engines(search.step, requests.asked) as sampler:
        made = collect(
            requests,
            sampler,
            model=search.model,
            sampling=search.step,
            out_uri=storage.join(folder, "traces"),
            shard_rows=SHARD_ROWS,
            on_progress=on_progress,
        )
    told = {"drawn": made.traces, "tokens": made.tokens, "rejected": made.rejected.total()}
    if not made.traces and not number:
        raise SearchError(
            f"evaluate.guided: no engine draws a first step ({dict(made.rejected)}); see {folder}/traces/rejects. Run the "
            "command again to ask once more"
        )
    judged = _in_task(_gather, search, number)
    candidates, scored = storage.join(folder, "candidates"), storage.join(folder, "scored")
    column = judge(candidates, scored) if judged else ""
    return {**told, "judged": judged, **_in_task(_choose, search, number, column)}


def _ask(search: Search, number: int) -> int:
    """Write the beginnings that grow; how many there are."""
    rows = []
    for row, beams in _beams_before(search, number):
        growing = [beam for beam in beams if not beam.ended]
        for place, beam in enumerate(growing):
            key = f"{row['problem_id']}{AT}{number}.{place}"
            rows.append({**row, "problem_id": key, "source": row["problem_id"], BEGUN: beam.text})
    for at in range(0, len(rows), SHARD_ROWS):
        shard = storage.join(search.folder(number), "asked", f"part-{at // SHARD_ROWS:05d}.parquet")
        parquet.write_table(shard, pa.Table.from_pylist(rows[at : at + SHARD_ROWS], schema=ASKED))
    return len(rows)


def _gather(search: Search, number: int) -> int:
    """Write the different candidates in an order that nothing but they decides; how many there are."""
    folder = search.folder(number)
    order = {key: at for at, (key, _) in enumerate(_asked(folder))}
    read = [name for name in TRACE.names if name not in ("votes", "turns", "sampling")]
    shards = trace_shards(storage.join(folder, "traces"))
    drawn = [row for table in parquet.read_tables(shards, read) for row in table.to_pylist()]
    drawn.sort(key=lambda row: (order[row["problem_id"]], row["sample_index"]))
    first: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in drawn:
        first.setdefault((row["problem_id"], row["completion"], row["finish_reason"]), row)
    rows = [{**row, "verdict": Verdict.NO_ANSWER.value, "verdict_by": []} for row in first.values()]
    for at in range(0, len(rows), SHARD_ROWS):
        shard = storage.join(folder, "candidates", f"part-{at // SHARD_ROWS:05d}.parquet")
        parquet.write_table(shard, pa.Table.from_pylist(rows[at : at + SHARD_ROWS], schema=VERIFIED_TRACE))
    return len(rows)


def _choose(search: Search, number: int, column: str) -> dict[str, int]:
    """Write what is kept; how many answers are whole, and how many grow on. Raises SearchError where nothing was said."""
    folder, own = search.folder(number), search.settings
    drawn: dict[str, list[tuple[dict[str, Any], int, float | None]]] = {}
    known = 0
    for shard in storage.list_files(storage.join(folder, "candidates"), ".parquet"):
        scores = storage.join(column, shard.rpartition("/")[2])
        read = ["problem_id", "completion", "finish_reason", "num_tokens"]
        for rows, (spans,) in beside(shard, [scores], read):
            for row, steps in zip(rows.to_pylist(), spans["spans"].to_pylist(), strict=True):
                value = steps[-1]["value"] if steps else None
                known += value is not None
                drawn.setdefault(row["problem_id"], []).append((row, len(steps or [None]), value))
    if drawn and not known:
        raise SearchError(
            f"evaluate.guided: nothing is said of any of the steps drawn at step {number + 1}; why not is told in {folder}/scored"
        )
    kept = []
    for row, beams in _beams_before(search, number):
        growing = [beam for beam in beams if not beam.ended]
        keys = [f"{row['problem_id']}{AT}{number}.{place}" for place in range(len(growing))]
        more = [
            [
                beam.grown(made["completion"], made["finish_reason"], made["num_tokens"], steps, value)
                for made, steps, value in drawn.get(key, ())
            ]
            for beam, key in zip(growing, keys, strict=True)
        ]
        found = go_on(beams, more, own, search.sampling.max_tokens)
        kept.append((row, cut_off(found, own.value) if number + 1 == own.max_steps else found))
    _write_beams(folder, "beams.parquet", kept)
    every = [beam for _, beams in kept for beam in beams]
    return {
        "whole": sum(beam.ended is not None for beam in every),
        "growing": sum(beam.ended is None for beam in every),
    }


def _write_answers(search: Search, last: int) -> None:
    """What is kept in the end, as traces, and the numbers beside them."""
    rows, values = [], []
    for row, beams in _read_beams(storage.join(search.folder(last), "beams.parquet")):
        for place, beam in enumerate(beam for beam in beams if beam.text is not None):
            key, score = trace_id(row["problem_id"], place), beam.score(search.settings.value)
            told = {
                "completion": beam.text,
                "finish_reason": beam.ended,
                "num_tokens": beam.tokens,
                "model": search.model,
            }
            rows.append({**row, "trace_id": key, "sample_index": place, **told})
            values.append({"trace_id": key, "value": score if abs(score) != float("inf") else None})
    for at in range(0, len(rows), SHARD_ROWS):
        for table, made, schema in (("answers", rows, TRACE), ("values", values, SCORE)):
            shard = storage.join(search.uri, table, f"part-{at // SHARD_ROWS:05d}.parquet")
            parquet.write_table(shard, pa.Table.from_pylist(made[at : at + SHARD_ROWS], schema=schema))


def tokens_drawn(uri: str, steps: int) -> dict[str, int]:
    """Problem -> tokens that a search of so many steps has drawn for it."""
    found: dict[str, int] = {}
    for number in range(steps):
        shards = trace_shards(storage.join(uri, f"step-{number:03d}", "traces"))
        for table in parquet.read_tables(shards, ["source", "num_tokens"]):
            for problem, tokens in zip(table["source"].to_pylist(), table["num_tokens"].to_pylist(), strict=True):
                found[problem] = found.get(problem, 0) + tokens
    return found


def _asked(folder: str) -> Iterator[tuple[str, str]]:
    shards = storage.list_files(storage.join(folder, "asked"), ".parquet")
    for table in parquet.read_tables(shards, ["problem_id", "source"]):
        yield from zip(table["problem_id"].to_pylist(), table["source"].to_pylist(), strict=True)


Kept = tuple[dict[str, Any], Sequence[Beam]]
"""A problem (PROBLEM), and its beams."""


def _beams_before(search: Search, number: int) -> Iterator[Kept]:
    """Of every problem what is there before a step."""
    place = (search.folder(number - 1), "beams.parquet") if number else (search.folder(0), "start.parquet")
    return _read_beams(storage.join(*place))


def _write_beams(folder: str, name: str, kept: Sequence[Kept]) -> None:
    rows = [
        {**row, "text": beam.text, "values": list(beam.values), "tokens": beam.tokens, "ended": beam.ended}
        for row, beams in kept
        for beam in beams
    ]
    parquet.write_table(storage.join(folder, name), pa.Table.from_pylist(rows, schema=BEAM))


def _read_beams(uri: str) -> Iterator[Kept]:
    found: dict[str, tuple[dict[str, Any], list[Beam]]] = {}
    for batch in parquet.read_batches(uri):
        for row in batch.to_pylist():
            beam = Beam(row["text"], tuple(row["values"]), row["tokens"], row["ended"])
            problem = {name: row[name] for name in PROBLEM.names}
            found.setdefault(row["problem_id"], (problem, []))[1].append(beam)
    yield from found.values()
