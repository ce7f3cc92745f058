"""Real engines on CPU: loops are stopped without touching anything else, and engines that are killed lose nothing."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import torch
from recovery import tell_recovery
from transformers import AutoModelForCausalLM

from redi_ray.config.loops import LoopSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.config.student import Architecture
from redi_ray.data.sample.collect import collect
from redi_ray.data.sample.engine_block import finish_reason
from redi_ray.data.sample.samples import Requests, SampleStats, Sampling, SamplingError, explode
from redi_ray.data.sample.sampling import vllm_sampler
from redi_ray.data.sample.survey import trace_shards
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer, end_of_turn_ids, load_tokenizer
from redi_ray.schemas import PROBLEM
from redi_ray.store import parquet, storage
from redi_ray.text.loops import token_loop

pytestmark = pytest.mark.timeout(1500)

LOOPS = LoopSettings(stop=False, min_repeats=4, min_tokens=48, max_period=32)
PROBLEMS, SAMPLES = 24, 4
LONG = ("long-0", "long-1")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random model with sharp opinions: some of its completions end, many fall into a loop."""
    folder = tmp_path_factory.mktemp("teacher")
    tokenizer = character_tokenizer("0123456789+-*= \nabcdefghijklmnopqrstuvwxyz")
    size = Architecture(
        hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=1, intermediate_size=128, max_position_embeddings=512
    )
    save_scratch_model(size, tokenizer, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6.0)
    model.save_pretrained(folder)
    return str(folder)


def requests() -> Requests:
    """Samples of short problems, and one each of two that no engine takes, for their length."""
    texts = {f"p{n}": f"{n} + {n} * 3 = " for n in range(PROBLEMS)}
    table = explode(to_problems(texts), range(SAMPLES))
    return Requests.of_table(pa.concat_tables([table, explode(to_problems({x: "9 + " * 99 for x in LONG}), range(1))]))


def to_problems(texts: dict[str, str]) -> pa.Table:
    rows = [{"problem_id": x, "problem": text, "answer": "1", "source": "test"} for x, text in texts.items()]
    return pa.Table.from_pylist(rows, schema=PROBLEM)


def sample(
    teacher: str,
    out: Path,
    *,
    loops: LoopSettings = LOOPS,
    on_progress: Callable[[SampleStats], None] = lambda added: None,
    **engine: Any,
) -> tuple[SampleStats, dict[str, dict[str, Any]]]:
    """The stats, and the traces by id. Batches of 8, of which the engine takes one at a time, so that a run has a middle."""
    sampling = Sampling(0.05, 1.0, 160, 5, loops=loops)  # nearly greedy: a random model then repeats itself
    defaults = {"concurrency": 1, "batch_size": 8, "max_concurrent_batches": 2, "engine_kwargs": {"max_num_seqs": 8}}
    settings = EngineSettings(device="cpu", dtype="float32", max_model_len=256, **{**defaults, **engine})
    with vllm_sampler(teacher, settings, sampling, PromptSettings()) as sampler:
        stats = collect(
            requests(),
            sampler,
            model="teacher",
            sampling=sampling,
            out_uri=str(out),
            shard_rows=8,
            on_progress=on_progress,
        )
    return stats, read(out)


def read(out: Path) -> dict[str, dict[str, Any]]:
    rows = [row for table in parquet.read_tables(trace_shards(str(out))) for row in table.to_pylist()]
    assert len({row["trace_id"] for row in rows}) == len(rows), "a trace is there twice"
    return {row["trace_id"]: row for row in rows}


def engines() -> list[psutil.Process]:
    """The processes of the engines that this test's Ray has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::EngineActor"):
                found.append(process)
        except psutil.Error:
            continue
    return found


class KillFirst:
    """`on_progress` that kills the engines, as the kernel would, when the first shard is there."""

    def __init__(self) -> None:
        self.killed, self.at = 0, 0.0

    def __call__(self, added: SampleStats) -> None:
        if added.traces and not added.resumed and not self.killed:
            for process in engines():
                process.send_signal(signal.SIGKILL)
                self.killed, self.at = self.killed + 1, time.monotonic()


@pytest.fixture(scope="module")
def undisturbed(ray_session: None, teacher: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """All traces of a run in which nothing happened, loops not stopped."""
    folder = tmp_path_factory.mktemp("calm")
    stats, traces = sample(teacher, folder)
    assert (stats.asked, stats.traces) == (PROBLEMS * SAMPLES + 2, PROBLEMS * SAMPLES)
    assert stats.rejected == {"refused_by_engine": 2}
    (rejects,) = (rows.to_pylist() for rows in parquet.read_tables(storage.list_files(str(folder / "rejects"))))
    assert {row["where"] for row in rejects} == {f"{x}#0" for x in LONG}
    assert all("256" in row["detail"] for row in rejects), rejects
    assert stats.tokens == sum(trace["num_tokens"] for trace in traces.values())
    return traces


@pytest.mark.long
def test_finish_reasons_and_seeds(undisturbed: dict[str, dict[str, Any]]):
    """Only a completion that has its full length was cut off or looped, and the samples of a problem differ."""
    for trace in undisturbed.values():
        assert (trace["num_tokens"] == 160) == (trace["finish_reason"] in ("length", "loop")), trace
    assert {trace["finish_reason"] for trace in undisturbed.values()} == {"stop", "length", "loop"}
    assert len({trace["completion"] for trace in undisturbed.values()}) > PROBLEMS
    assert len({json.loads(trace["sampling"])["seed"] for trace in undisturbed.values()}) == len(undisturbed)


@pytest.mark.long
def test_loops_are_stopped_and_nothing_else_changes(
    undisturbed: dict[str, dict[str, Any]], teacher: str, tmp_path: Path
):
    """With the stop on, in a pool that may grow to two engines: what did not loop is the same to the letter, and what did
    is the beginning of what it was, ended at the first look (every 64 tokens) that found the loop."""
    stats, traces = sample(
        teacher,
        tmp_path,
        loops=LoopSettings(stop=True, min_repeats=4, min_tokens=48, max_period=32),
        concurrency=(1, 2),
    )
    tokenizer = load_tokenizer(teacher)
    assert traces.keys() == undisturbed.keys()
    early = 0
    for identity, trace in traces.items():
        before = undisturbed[identity]
        if trace["finish_reason"] == "loop" and trace["num_tokens"] < 160:
            early += 1
            assert trace["num_tokens"] in (64, 128)
            assert before["completion"].startswith(trace["completion"])
            body = trace["completion"].removeprefix("<think>\n")
            assert token_loop(tokenizer(body, add_special_tokens=False)["input_ids"], LOOPS)
        else:
            assert (trace["completion"], trace["finish_reason"]) == (before["completion"], before["finish_reason"])
    assert early > 4
    assert stats.loops == sum(trace["finish_reason"] == "loop" for trace in traces.values()) >= early


@pytest.mark.long
def test_killed_engines_lose_and_change_nothing(undisturbed: dict[str, dict[str, Any]], teacher: str, tmp_path: Path):
    """kill -9 of the engine. Without restarts the run ends, with what it has; with them it goes on by itself."""
    kill = KillFirst()
    with pytest.raises(SamplingError, match="Finished shards are kept"):
        sample(teacher, tmp_path, max_restarts=0, on_progress=kill)
    assert kill.killed
    kept = len(read(tmp_path))
    assert 0 < kept < len(undisturbed)

    kill = KillFirst()
    stats, traces = sample(teacher, tmp_path, on_progress=kill)
    tell_recovery("the kill of an engine", since=kill.at)
    assert kill.killed
    assert (stats.resumed, stats.traces, stats.rejected.total()) == (kept, len(undisturbed), 2)
    assert {key: trace["completion"] for key, trace in traces.items()} == {
        key: trace["completion"] for key, trace in undisturbed.items()
    }


def test_finish_reason_is_read_from_the_tokens(teacher: str):
    """The end of turn is the last token or it is not there; a loop counts where the text did not end."""
    ends = end_of_turn_ids(teacher)
    end = min(ends)
    assert finish_reason([7, 8, 9, end], ends, LOOPS) == "stop"
    assert finish_reason([7, 8] * 40 + [end], ends, LOOPS) == "stop"
    assert finish_reason([7, 8] * 40, ends, LOOPS) == "loop"
    assert finish_reason(list(range(100, 180)), ends, LOOPS) == "length"
    assert finish_reason([], ends, LOOPS) == "length"
