"""Curation follows the paper's rule whatever the sharding, counts every drop, and its output loads where it should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from redi_ray import storage
from redi_ray.config.data import CurateConfig
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.curate import CurateCounts, curate
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.schemas import VERIFIED_TRACE, trace_id

pytestmark = pytest.mark.usefixtures("ray_session")
PROMPT = PromptSettings(prefix="<think>")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    character_tokenizer("0123456789abcdefghijklmnopqrstuvwxyz ").save_pretrained(folder)
    return str(folder)


def trace(problem: str, index: int, verdict: str, text: str = "") -> dict[str, Any]:
    return {
        "problem_id": problem,
        "problem": f"p {problem}",
        "answer": "1",
        "source": "test",
        "trace_id": trace_id(problem, index),
        "sample_index": index,
        "completion": text or f"<think>{problem} {index}",
        "verdict": verdict,
        "verdict_by": {"math_verify": verdict},
    }


TRACES = [
    trace("both", 0, "wrong"), trace("both", 1, "correct"), trace("both", 2, "correct"), trace("both", 3, "wrong"),
    trace("right", 0, "correct"), trace("right", 1, "correct"),
    trace("hopeless", 0, "wrong"), trace("hopeless", 1, "no_answer"),
    trace("unsure", 0, "timeout"), trace("unsure", 1, "correct"), trace("unsure", 2, "error"),
    trace("longest", 0, "correct", "<think>" + "x" * 50), trace("longest", 1, "correct"), trace("longest", 2, "wrong"),
    trace("rambling", 0, "correct"), trace("rambling", 1, "wrong", "<think>" + "x" * 50), trace("rambling", 2, "wrong"),
    trace("edge", 0, "correct", "<think>" + "x" * 19), trace("edge", 1, "wrong", "<think>" + "x" * 20),
    trace("bare", 0, "correct", "no prefix"), trace("bare", 1, "wrong"),
    trace("p" * 40, 0, "correct"), trace("p" * 40, 1, "wrong"),
]  # fmt: skip


def run(folder: Path, tokenizer: str, shards: list[list[dict[str, Any]]], **config: Any) -> tuple[CurateCounts, dict]:
    uris = []
    for number, rows in enumerate(shards):
        uris.append(f"{folder}/in/part-{number}.parquet")
        storage.write_table(uris[-1], pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))
    settings = CurateConfig(**{"max_prompt_tokens": 20, "max_response_tokens": 20, **config})
    counts = curate(uris, f"{folder}/out", settings, tokenizer=tokenizer, prompt=PROMPT, num_problems=12)
    tables = {
        name: [
            row
            for table in storage.read_tables(storage.list_files(f"{folder}/out/{name}"))
            for row in table.to_pylist()
        ]
        for name in ("examples", "pairs", "dropped")
    }
    return counts, tables


def test_the_paper_rule_with_every_reason(tmp_path: Path, tokenizer: str):
    """20 tokens are allowed for a response, its end-of-turn token included: 19 characters fit, 20 do not."""
    counts, tables = run(tmp_path, tokenizer, [TRACES])
    assert counts.dropped == {
        "no_correct_trace": 1,  # hopeless
        "chosen_too_long": 1,  # longest: its second correct trace does not step in
        "chosen_without_prefix": 1,  # bare
        "prompt_too_long": 1,
        "no_trace": 3,  # 12 problems, 9 with traces
    }
    assert counts.pairs_dropped == {"no_wrong_trace": 2, "rejected_too_long": 2}  # right, unsure; rambling, edge
    pairs = {row["problem_id"]: row for row in tables["pairs"]}
    assert set(pairs) == {"both"}
    assert pairs["both"]["chosen"] == [{"role": "assistant", "content": "<think>both 1"}]
    assert pairs["both"]["rejected"] == [{"role": "assistant", "content": "<think>both 0"}]
    assert pairs["both"]["prompt"] == [{"role": "user", "content": "p both"}]
    examples = {row["problem_id"]: row["messages"][-1]["content"] for row in tables["examples"]}
    assert set(examples) == {"both", "right", "unsure", "rambling", "edge"}
    assert examples["unsure"] == "<think>unsure 1"
    assert counts.positives + sum(counts.dropped.values()) == counts.problems
    assert counts.pairs + sum(counts.pairs_dropped.values()) == counts.positives


def test_time_outs_are_rejected_only_when_asked_for(tmp_path: Path, tokenizer: str):
    _, tables = run(tmp_path, tokenizer, [TRACES], rejected_verdicts=["wrong", "timeout"])
    assert {row["problem_id"] for row in tables["pairs"]} == {"both", "unsure"}


def test_the_output_does_not_depend_on_the_sharding(tmp_path: Path, tokenizer: str):
    _, whole = run(tmp_path / "a", tokenizer, [TRACES])
    counts, torn = run(tmp_path / "b", tokenizer, [TRACES[i::5] for i in reversed(range(5))])
    again, _ = run(tmp_path / "b", tokenizer, [TRACES[i::5] for i in reversed(range(5))])  # all slices found done
    assert again == counts
    for name, key in (("examples", "example_id"), ("pairs", "pair_id"), ("dropped", "problem_id")):
        assert sorted(whole[name], key=lambda row: row[key]) == sorted(torn[name], key=lambda row: row[key])


def test_the_output_loads_in_datasets_with_the_columns_of_preference_trainers(tmp_path: Path, tokenizer: str):
    import datasets

    run(tmp_path, tokenizer, [TRACES])
    loaded = datasets.load_dataset("parquet", data_files=f"{tmp_path}/out/pairs/*.parquet", split="train")
    assert {"prompt", "chosen", "rejected"} <= set(loaded.column_names)
    assert loaded[0]["chosen"][0]["role"] == "assistant"
