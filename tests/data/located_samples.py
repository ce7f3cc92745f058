"""Samples of the built-in world that a locator is asked about, and the labels that it gives them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from redi_ray.config.answers import VerifySettings
from redi_ray.config.locators import LocateStep
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.columns import beside, check_grain
from redi_ray.data.locate.locate import counted, locate_samples
from redi_ray.data.locate.locator import Work
from redi_ray.data.sources.world import answer
from redi_ray.schemas import VERIFIED_TRACE
from redi_ray.store import parquet
from redi_ray.text.boxes import extract_boxed

R, N, W, U = "right", "neutral", "wrong", "unseen"


def work_of(folder: Path, locator: dict[str, Any], model: str | None = None, **settings: Any) -> Work:
    step = LocateStep.model_validate({"do": "locate", "of": "verified", "locator": locator, "model": model, **settings})
    return Work(
        settings=step.settings,
        samples=str(folder / "verified"),
        uri=str(folder / "out"),
        prompt=PromptSettings(),
        verify=VerifySettings(processes=1),
        engine=EngineSettings(),
        model=model,
    )


def samples(folder: Path, texts: list[tuple[str, str]], shards: int = 2, **columns: Any) -> list[dict[str, Any]]:
    """Verified traces of the built-in world, written to shards."""
    rows = [
        {
            "problem_id": f"p{number}", "problem": problem, "answer": answer(problem), "trace_id": f"p{number}#0",
            "sample_index": 0, "completion": text, "finish_reason": "stop", "verdict_by": [],
            "verdict": "correct" if extract_boxed(text) == answer(problem) else "wrong", **columns,
        }
        for number, (problem, text) in enumerate(texts)
    ]  # fmt: skip
    for shard in range(shards):
        table = pa.Table.from_pylist(rows[shard::shards], schema=VERIFIED_TRACE)
        parquet.write_table(str(folder / f"verified/round-000/part-{shard}.parquet"), table)
    return [row for shard in range(shards) for row in rows[shard::shards]]


def labels_in(folder: Path) -> list[list[str] | None]:
    """Of every sample, in the order of the shards; spans are checked against the texts on the way."""
    found = []
    for shard in sorted((folder / "verified").glob("*/*.parquet")):
        column = str(folder / "out/column" / shard.relative_to(folder / "verified"))
        check_grain(column, "span")
        for rows, (spans,) in beside(str(shard), [column], ["completion"]):
            for text, steps in zip(rows["completion"].to_pylist(), spans["spans"].to_pylist(), strict=True):
                if steps is not None:
                    assert "".join(text[step["start"] : step["end"]] for step in steps) == text
                    assert {step["turn"] for step in steps} == {0}
                found.append(steps and [step["label"] for step in steps])
    return found


def located(work: Work) -> tuple[Counter[str], dict[str, Any]]:
    counts, told = locate_samples(work)
    left_out = sum(counted(counts, "not_asked/").values()) + sum(counted(counts, "failed/").values())
    assert counts["samples"] == counts["located"] + left_out
    assert counts["steps"] == sum(counted(counts, "label/").values())
    return counts, told
