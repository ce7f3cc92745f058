"""The stage publishes what reconciles, is reused under its key, and compares with all of a benchmark, not its subset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from redi_ray.config.load import load_config
from redi_ray.modeling.tokenizer import train_bpe_tokenizer
from redi_ray.schemas import PROBLEM, VERIFIED_TRACE
from redi_ray.stages.data import curated
from redi_ray.stages.run import Run
from redi_ray.store import parquet
from redi_ray.store.manifests import Manifest

TEXTS = ["What is the sum of 2 and 3 eggs?", "how many legs have nine hens and a cow", "Find 2+3", "What is left?"]
DEV = "Find a number that is larger than all of its divisors."


def published(folder: Path) -> tuple[Manifest, Manifest, Manifest]:
    """Finished stages `problems`, `verified` and the base model, as the pipeline hands them on."""
    tables: dict[str, tuple[list[dict[str, Any]], pa.Schema]] = {
        "problems": ([], PROBLEM),
        "dev": ([{"problem_id": "d", "problem": DEV}], PROBLEM),
        "verified": (
            [
                {
                    "problem_id": f"p{number}",
                    "problem": text,
                    "trace_id": f"p{number}#{index}",
                    "sample_index": index,
                    "completion": f"<think>\n{index}</think>",
                    "verdict": verdict,
                    "verdict_by": [],
                }
                for number, text in enumerate([*TEXTS, DEV.upper()])
                for index, verdict in enumerate(("correct", "wrong"))
            ],
            VERIFIED_TRACE,
        ),
    }
    for name, (rows, schema) in tables.items():
        parquet.write_table(f"{folder}/in/{name}/part-0.parquet", pa.Table.from_pylist(rows, schema=schema))
    train_bpe_tokenizer(TEXTS, 300).save_pretrained(folder / "model")
    base = Manifest("checkpoints/base", "b", "", {}, {}, facts={"export": str(folder / "model")})
    problems = Manifest("problems", "p", f"{folder}/in", {}, {}, counts={"out": 6})
    verified = Manifest("verified", "v", f"{folder}/in", {}, {}, facts={"verdicts": {}})
    return problems, verified, base


def run_of(folder: Path, *texts: str) -> Run:
    """A run whose benchmark `mine` holds these problems and evaluates one of them."""
    rows = [{"problem": text, "answer": "5"} for text in texts]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    benchmark = f"evaluate.benchmarks=[{{name: mine, path: {folder}/mine.jsonl, max_problems: 1}}]"
    contamination = "curate={contamination: {}, difficulty: {}}"
    return Run.of(load_config("configs/demo.yaml", [benchmark, contamination, f"storage.root={folder}/runs"]))


@pytest.mark.usefixtures("ray_session")
def test_the_manifest_reconciles_and_hides_no_part_of_a_benchmark(tmp_path: Path):
    inputs = published(tmp_path)
    run = run_of(tmp_path, "How many legs have nine hens and a cow?", "find 2 + 3")
    manifest = curated(run, *inputs)
    assert manifest.counts == {"in": 6, "out": 2, "positives": 2, "pairs": 2}
    assert manifest.dropped == {
        "contaminated": 3,
        "no_trace": 1,
    }  # both of the benchmark's, and the development problem
    assert manifest.facts["pass_rates"] == {"0.5": 5}
    assert manifest.facts["traces"] == 10
    details = [row["detail"] for table in parquet.read_tables(manifest.files("dropped")) for row in table.to_pylist()]
    assert {detail.partition(":")[0] for detail in details} == {"mine-0", "mine-1", "d"}
    assert curated(run, *inputs).key == manifest.key
    assert curated(run_of(tmp_path, "find 2 + 3"), *inputs).key != manifest.key  # the benchmark is another one
