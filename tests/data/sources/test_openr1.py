"""A data set in OpenR1-Math-Raw's schema, with every oddity, gives exactly the positives and pairs of the paper's rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from problem_sources import openr1

from redi_ray.config.answers import VerifySettings
from redi_ray.config.curation import CurateConfig
from redi_ray.config.data import OpenR1Source
from redi_ray.config.problems import ProblemsConfig
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.curate.curate import curate
from redi_ray.data.sources.problems import collect_problems
from redi_ray.data.verify.traces import verify_traces
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.store import parquet, storage

pytestmark = pytest.mark.usefixtures("ray_session")


def row(
    uuid: str, *votes: tuple[bool | None, bool | None], texts: list[str] | None = None, **changes: Any
) -> dict[str, Any]:
    """A row with one generation per (llama, math_verify) vote; generation i of `a` reads `<think>a i`."""
    generations = texts or [f"<think>{uuid} {index}" for index in range(len(votes))]
    llama, verified = [vote[0] for vote in votes], [vote[1] for vote in votes]
    return openr1(uuid, llama=llama, verified=verified, generations=generations, **changes)


YES, NO = (True, True), (False, False)
LONG = "<think>" + "x" * 30
ROWS = [
    row("plain", NO, YES, YES, NO),  # chosen 1, rejected 0
    row("disagree", (True, False), YES),  # a disagreement is incorrect: rejected 0
    row("other way", (False, True), YES),  # so is the other one
    row("missing", (None, True), (True, None), YES),  # and a missing vote: rejected 0, chosen 2
    row("all right", YES, YES),  # a positive, no pair
    row("all wrong", NO, NO),  # neither
    row(
        "long chosen", YES, YES, NO, texts=[LONG, "<think>b", "<think>c"]
    ),  # the first correct one is too long: neither
    row("long rejected", YES, NO, NO, texts=["<think>a", LONG, "<think>c"]),  # a positive, no pair
    row("p" * 60, YES, NO),  # the prompt is too long
    row("invalid", YES, NO, problem_is_valid="Incomplete"),
    row("school", YES, NO, source="cn_k12"),
]


def test_positives_and_pairs(tmp_path: Path):
    tokenizer = tmp_path / "tokenizer"
    character_tokenizer("0123456789abcdefghijklmnopqrstuvwxyz ").save_pretrained(tokenizer)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "raw.parquet")
    source = OpenR1Source(paths=[str(tmp_path / "raw.parquet")])
    collected = collect_problems(ProblemsConfig(source=source), f"{tmp_path}/problems")
    assert collected.dropped == {"problem_not_valid": 1, "source_left_out": 1}

    settings = VerifySettings(votes=["judge", "math_verify"], policy="paper", reuse_votes=True)
    shards = storage.list_files(f"{tmp_path}/problems/imported")
    verify_traces(shards, f"{tmp_path}/verified", settings, concurrency=1)

    config = CurateConfig(max_prompt_tokens=40, max_response_tokens=25)
    counts = curate(
        storage.list_files(f"{tmp_path}/verified"),
        f"{tmp_path}/curated",
        config,
        tokenizer=str(tokenizer),
        prompt=PromptSettings(prefix="<think>"),
        num_problems=9,
    )
    tables = {
        name: [r for t in parquet.read_tables(storage.list_files(f"{tmp_path}/curated/{name}")) for r in t.to_pylist()]
        for name in ("examples", "pairs")
    }
    positives = {r["problem_id"]: r["messages"][-1]["content"].removeprefix("<think>") for r in tables["examples"]}
    assert positives == {
        "plain": "plain 1",
        "disagree": "disagree 1",
        "other way": "other way 1",
        "missing": "missing 2",
        "all right": "all right 0",
        "long rejected": "a",
    }
    pairs = {r["problem_id"]: r["rejected"][0]["content"].removeprefix("<think>") for r in tables["pairs"]}
    assert pairs == {"plain": "plain 0", "disagree": "disagree 0", "other way": "other way 0", "missing": "missing 0"}
    assert counts.dropped == {"no_correct_trace": 1, "chosen_too_long": 1, "prompt_too_long": 1}
    assert counts.pairs_dropped == {"no_wrong_trace": 1, "rejected_too_long": 1}
