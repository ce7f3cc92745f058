"""Difficulty by a named model's pass rate, cut down while that model is sampled: the same samples, the same selection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from imported_run import write_imported
from processes import kill_when, rows, run, start

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

STEPS = {
    "rated": {"do": "sample", "model": "sft", "samples_per_round": 4, "max_rounds": 1, "max_tokens": 24, "shard_rows": 8},
    "rated_math": {"do": "verify", "of": "rated"},
    "hard": {"do": "select", "of": "verified", "by": "rated_math", "difficulty": {"max_rate": 0.9}},
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_imported(tmp_path_factory.mktemp("traces"), num_problems=40)
    raw = yaml.safe_load(path.read_text())
    raw["problems"].pop("dev")
    raw |= {"steps": STEPS, "sft": {"train": {"batch_size": 16, "max_steps": 20, "learning_rate": 3e-3}}}
    raw["redi"] = {"arms": {}}
    heads = {"hidden_size": 64, "num_layers": 2, "num_heads": 2}  # that vLLM knows on a CPU
    raw["model"]["init"]["architecture"] = heads
    engine = {"device": "cpu", "dtype": "float32", "max_model_len": 128, "batch_size": 8, "max_concurrent_batches": 1}
    raw["resources"] = {"engine": engine, "trainer": {"num_workers": 1}}
    path.write_text(yaml.safe_dump(raw))
    return path


def by_id(root: Path, stage: str, table: str) -> dict[str, dict[str, Any]]:
    """The rows, whatever their order: a shard holds what was finished together."""
    found = rows(root / "imported", stage, table)
    made = {row["trace_id"]: row for row in found}
    assert not [row["model"] for row in found if "/" in (row["model"] or "")], (
        "the name of a step, wherever the run lies"
    )
    assert len(made) == len(found), "no sample is there twice"
    return made


def test_killed_while_the_named_model_is_sampled(config: Path, tmp_path: Path) -> None:
    """kill -9 of the driver when some shards are there and others are not."""
    calm, torn = tmp_path / "calm", tmp_path / "torn"
    run("run", str(config), "--until", "hard", f"storage.root={calm}")
    command = ("run", str(config), "--until", "hard", f"storage.root={torn}")
    folder = torn / "imported" / "steps" / "rated" / "traces"
    kill_when(start(*command), lambda: any(folder.rglob("*.parquet")))
    assert not (folder / "manifest.json").exists()
    there = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    run(*command)
    assert 0 < len(there) < len(list(folder.rglob("*.parquet")))
    assert {path: path.stat().st_mtime_ns for path in there} == there, "shards that were there are not made again"
    for stage, table in (
        ("steps/rated/traces", "traces"),
        ("steps/rated_math/verified", "verified"),
        ("steps/hard/verified", "verified"),
    ):
        assert by_id(torn, stage, table) == by_id(calm, stage, table), stage
    assert len(by_id(calm, "steps/rated/traces", "traces")) == 160
