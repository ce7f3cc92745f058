"""The first wrong step by going on from behind steps, and seeing how often that still gets to the right answer.

The search goes in waves: each asks, of every sample whose search has not ended, for continuations from behind one step.

    <uri>/rollouts/wave-000/problems/<shard>    what is asked: a sample's problem and how its answer begins
                            traces, verified    the continuations, by the machinery that samples and verifies traces
                            rates/<shard>       step by step the share of right ones; its folder is whole where
                            done.json           is there

What a wave asks follows from the rates before it, so a killed run goes on in the wave where it was. A continuation stands behind
the very tokens that training has: prompt, and the beginning of the answer as a completion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from redi_ray.cluster.runtime import log
from redi_ray.config.data import VllmTraces
from redi_ray.config.locators import RolloutLocator
from redi_ray.config.loops import LoopSettings
from redi_ray.data.locate.locator import (
    READS,
    Bar,
    Failed,
    Find,
    Labelled,
    Locator,
    Steps,
    Work,
    reason_not_to_ask,
    steps_of,
)
from redi_ray.data.locate.search import Found, Stuck, next_step
from redi_ray.data.sample.collect import Verification
from redi_ray.data.sample.generate import generate_rounds, sampling_of
from redi_ray.data.sample.samples import BEGUN, Sampler, SampleStats
from redi_ray.data.sample.sampling import vllm_sampler
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.shard_tasks import each_shard
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import PROBLEM, Verdict
from redi_ray.store import parquet, storage
from redi_ray.text.step_judgement import up_to_first_wrong
from redi_ray.text.steps import RIGHT, WRONG
from redi_ray.text.templates import without_ending
from redi_ray.text.tokens import body_of

ASKED = pa.schema([*PROBLEM, pa.field(BEGUN, pa.string(), nullable=False)])
"""A sample's problem under the id `<trace_id>@<step>`, its shard as the source, and its answer up to the end of that step."""
RATES = pa.schema(
    [
        pa.field("trace_id", pa.string(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("right", pa.int64(), nullable=False),
        pa.field("continuations", pa.int64(), nullable=False),
    ]
)
AT = "@"
TOLD = ("asked", "traces", "tokens", "prompt_tokens", "truncated")


def prepare(work: Work, bar: Bar) -> dict[str, Any]:
    """All waves, with engines of our own."""
    return run_waves(work, bar, lambda: _sampler(work))


def run_waves(work: Work, bar: Bar, make_sampler: Callable[[], AbstractContextManager[Sampler]]) -> dict[str, Any]:
    """All waves that have not been done; how many there were, what they asked and what it took. make_sampler: what goes on from
    prefixes, for as long as there are any."""
    names = [uri.removeprefix(work.samples + "/") for uri in trace_shards(work.samples)]
    total, waves = Counter[str](), 0
    with ExitStack() as stack:
        sampler: Sampler | None = None
        while True:
            mark = storage.join(_wave(work, waves), "done.json")
            if storage.exists(mark):
                bar(storage.read_json(mark)["traces"])
            else:
                if not (asked := sum(rows for _, rows in each_shard(names, _ask_shard, work, waves))):
                    break
                sampler = sampler or stack.enter_context(make_sampler())
                bar.set_total(total["asked"] + asked * _sampled(work).samples_per_round)
                storage.write_json(mark, {"prefixes": asked, **_sample(work, bar, waves, asked, sampler)})
            total.update(storage.read_json(mark))
            waves += 1
            log.info("%s: %d waves, %d continuations", work.step, waves, total["asked"])
    return {"rollouts": {"waves": waves, **{name: total[name] for name in ("prefixes", *TOLD, "rejected")}}}


def _sampled(work: Work) -> VllmTraces:
    """How continuations are drawn."""
    settings = work.settings.locator
    assert isinstance(settings, RolloutLocator)
    names = ("temperature", "top_p", "max_tokens", "seed")
    told = {name: getattr(settings, name) for name in names}
    return VllmTraces(samples_per_round=settings.samples, loops=LoopSettings(stop=False), **told)


def _sampler(work: Work) -> AbstractContextManager[Sampler]:
    assert work.model is not None
    return vllm_sampler(work.model, work.engine, sampling_of(_sampled(work)), work.prompt)


def _sample(work: Work, bar: Bar, wave: int, asked: int, sampler: Sampler) -> dict[str, int]:
    """Draw and verify a wave's continuations, and write the rates; what it took."""
    import ray

    folder = _wave(work, wave)
    verdicts = storage.join(folder, "verified")
    made = generate_rounds(
        _sampled(work),
        storage.list_files(storage.join(folder, "problems"), ".parquet"),
        asked,
        sampler,
        model=work.model or "",
        traces_uri=storage.join(folder, "traces"),
        verification=Verification(verdicts, work.verify, work.verify_workers, work.label_selector),
        on_progress=lambda added: bar(added.traces, 0 if added.resumed else added.tokens),
    )
    tally = ray.remote(num_cpus=1, max_retries=2)(_tally)
    ray.get(tally.remote(verdicts, storage.join(folder, "rates")))
    return _told(made.total)


def _told(stats: SampleStats) -> dict[str, int]:
    return {**{name: getattr(stats, name) for name in TOLD}, "rejected": stats.rejected.total()}


def _wave(work: Work, number: int) -> str:
    return storage.join(work.uri, "rollouts", f"wave-{number:03d}")


def _ask_shard(name: str, work: Work, wave: int) -> int:
    """Write what a wave asks about a shard's samples; how many rows there are, and no file for none."""
    settings, out = work.settings.locator, storage.join(_wave(work, wave), "problems", name)
    assert isinstance(settings, RolloutLocator)
    assert work.model is not None
    tokenizer = load_tokenizer(work.model, work.engine.trusts_code)
    rates, asked = _rates(work, name, wave), list[dict[str, Any]]()
    for batch in parquet.read_batches(storage.join(work.samples, name), ["trace_id", *READS]):
        for row in batch.to_pylist():
            if reason_not_to_ask(row, work.settings, ROLLOUTS) is not None:
                continue
            steps = steps_of(row, work.settings)
            if _unfit(row, steps, tokenizer, work) is not None:
                continue
            step = next_step(len(steps.spans), _is_wrong(row), rates.get(row["trace_id"], {}), settings)
            if isinstance(step, int):
                begun = steps.text[: steps.spans[step][1]]
                told = {"problem": row["problem"], "answer": row["answer"], "source": name, BEGUN: begun}
                asked.append({"problem_id": f"{row['trace_id']}{AT}{step}", **told})
    if asked:
        parquet.write_table(out, pa.Table.from_pylist(asked, schema=ASKED))
    return len(asked)


def _is_wrong(row: Mapping[str, Any]) -> bool:
    return row["verdict"] != Verdict.CORRECT


def _unfit(row: Mapping[str, Any], steps: Steps, tokenizer: Any, work: Work) -> Failed | None:
    """Why a model cannot go on from the middle of a sample, or None."""
    if row["turns"] is not None and len(row["turns"]) > 1:
        return Failed("several_turns", "a model goes on from the beginning of one answer only")
    body = body_of(steps.text, tokenizer, work.prompt)
    if body is None or not without_ending(steps.text, tokenizer).endswith(body):
        return Failed("does_not_go_on_from_the_prompt", "see model.prompt.prefix", steps.text)
    return None


def _rates(work: Work, name: str, waves: int) -> dict[str, dict[int, float | None]]:
    """Sample -> step -> share of right continuations, of the first so many waves; None where none came back."""
    found: dict[str, dict[int, float | None]] = {}
    for wave in range(waves):
        folder = _wave(work, wave)
        problems, rates = (storage.join(folder, table, name) for table in ("problems", "rates"))
        for table in parquet.read_tables([problems] if storage.exists(problems) else [], ["problem_id"]):
            for key in table["problem_id"].to_pylist():
                sample, _, step = key.rpartition(AT)
                found.setdefault(sample, {})[int(step)] = None
        for table in parquet.read_tables([rates] if storage.exists(rates) else []):
            for row in table.to_pylist():
                found[row["trace_id"]][row["step"]] = row["right"] / row["continuations"]
    return found


def _tally(verified_uri: str, out_uri: str) -> None:
    """Write `<out_uri>/<shard>` (RATES) of the continuations of every shard's samples."""
    right, all_of = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    shards = storage.list_files(verified_uri, ".parquet")
    for table in parquet.read_tables(shards, ["problem_id", "source", "verdict"]):
        keys = list(zip(table["source"].to_pylist(), table["problem_id"].to_pylist(), strict=True))
        all_of.update(keys)
        correct = pc.equal(table["verdict"], str(Verdict.CORRECT)).to_pylist()
        right.update(key for key, hit in zip(keys, correct, strict=True) if hit)
    rows: dict[str, list[dict[str, Any]]] = {}
    for source, key in sorted(all_of):
        sample, _, step = key.rpartition(AT)
        told = {"right": right[source, key], "continuations": all_of[source, key]}
        rows.setdefault(source, []).append({"trace_id": sample, "step": int(step), **told})
    for source, mine in rows.items():
        parquet.write_table(storage.join(out_uri, source), pa.Table.from_pylist(mine, schema=RATES))


def start(work: Work, name: str) -> Find:
    """Reads the rates of a shard's samples."""
    settings, model = work.settings.locator, work.model
    assert isinstance(settings, RolloutLocator)
    assert model is not None
    tokenizer = load_tokenizer(model, work.engine.trusts_code)
    waves = len(storage.list_files(storage.join(work.uri, "rollouts"), "done.json"))
    rates = _rates(work, name, waves)

    def find(row: Mapping[str, Any], steps: Steps) -> Labelled | Failed:
        if (unfit := _unfit(row, steps, tokenizer, work)) is not None:
            return unfit
        known, count = rates.get(row["trace_id"], {}), len(steps.spans)
        end = next_step(count, _is_wrong(row), known, settings)
        if isinstance(end, Stuck):
            return Failed("no_continuation", f"none came back from behind step {end.step}; see rejects of the waves")
        assert isinstance(end, Found), "all waves are done"
        labels = [RIGHT] * count if end.step is None else up_to_first_wrong([*[RIGHT] * end.step, WRONG], count)
        return Labelled(labels, [known.get(step) for step in range(count)])

    return find


ROLLOUTS = Locator(start, prepare, needs_answer=lambda settings: True)
