"""Distillation for real, in a small world: a larger teacher scores a student's own answers, once for all that learn from them,
with other settings too; killed while it scores, the same bytes come."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from processes import kill_when, rows, start
from small_world import SHORT, small_world

from redi_ray.config.load import load_config
from redi_ray.modeling.soft_columns import SoftFormat, is_soft, unpack
from redi_ray.pipeline.runner import Pipeline
from redi_ray.store.manifests import current_manifest
from redi_ray.train.monitors import read_metrics
from redi_ray.train.sequences import SequenceStore

LARGER = {"hidden_size": 96, "num_layers": 2, "num_heads": 3, "num_kv_heads": 3, "intermediate_size": 256, "seed": 1}
TRAIN = {**SHORT, "max_steps": 150, "batch_size": 16, "learning_rate": 3e-3, "tokens_per_pack": 4096}
STEPS = {
    "teacher": {"do": "model", "init": {"kind": "arithmetic", "corpus_size": 2400, "architecture": LARGER, "train": TRAIN}},
    "soft": {"do": "soft_targets", "of": "verified", "model": "teacher", "top_k": 6},
    "says": {"do": "logps", "of": "verified", "model": "teacher"},
    "said": {"do": "logps", "of": "verified"},
    "every": {"do": "groups", "of": "verified", "rewards": {"correct": 1, "wrong": 1, "no_answer": 1}, "least": 1,
              "token_columns": {"soft_targets": "soft", "teacher_logps": "says", "sampler_logps": "said"}},
    "pairs": {"do": "groups", "of": "verified", "both_sides": True, "per_side": 1,
              "token_columns": {"soft_targets": {"column": "soft", "side": "chosen"}}},
    "kd": {"do": "train", "from": "base", "on": "every", "objective": {"name": "forward_kl"}},
    "gkd": {"do": "train", "from": "base", "on": "every", "objective": {"name": "js", "top_k": 3}},
    "opd": {"do": "train", "from": "base", "on": "every", "objective": {"name": "on_policy_distillation"}},
    "soft_redi": {"do": "train", "from": "sft", "on": "pairs", "objective": {"name": "soft_redi"}},
}  # fmt: skip
CONFIG = small_world("soft", STEPS, concurrent_steps=2)
CONFIG["generate"] |= {"logprobs": True}
ARMS = ("kd", "gkd", "opd", "soft_redi")
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "soft.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.fixture(scope="module")
def calm(ray_session: None, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run's root."""
    root = tmp_path_factory.mktemp("calm")
    Pipeline(load_config(str(config), [f"storage.root={root}"])).make(ARMS)
    return root


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_what_comes_out(calm: Path):
    """One column, made once, beside the tokens of every arm; arms learn, the larger model's size being its own."""
    run = calm / "soft"
    column, teacher = (current_manifest(str(run), name) for name in ("steps/soft/column", "checkpoints/teacher"))
    assert teacher.facts["parameters"] > current_manifest(str(run), "checkpoints/base").facts["parameters"]
    samples = rows(run, "verified", "verified")
    assert column.counts == {"in": len(samples), "out": len(samples)}
    assert column.facts["grain"] == "distribution"
    values = {row["trace_id"]: row["values"] for row in rows(run, "steps/soft/column", "column")}
    of_text = {(row["problem_id"], row["completion"]): values[row["trace_id"]] for row in samples}
    groups = sorted(rows(run, "steps/every/groups", "groups"), key=lambda row: row["group_id"])
    store = SequenceStore.load(Path(current_manifest(str(run), "steps/opd/sequences/groups").uri) / "arrays")
    form = store.columns["soft_targets"].dtype
    assert is_soft(store.columns["soft_targets"])
    assert form == SoftFormat(6, 16).dtype
    for number, group in enumerate(groups):
        for sequence, member in zip(store.sequences_of_group(number), group["members"], strict=True):
            own = store.columns["soft_targets"][store.span(sequence)][store.prompt_lengths[sequence] :]
            assert own.tobytes() == of_text[group["problem_id"], member["turns"][0]["content"]]
            ids, logps = unpack(own)
            drawn = store.tokens[store.span(sequence)][store.prompt_lengths[sequence] :]
            said = store.columns["teacher_logps"][store.span(sequence)][store.prompt_lengths[sequence] :]
            at, place = np.nonzero(ids == drawn[:, None])
            np.testing.assert_allclose(logps[at, place], said[at], rtol=2e-3, atol=1e-3)
    assert len(list((run / "steps/soft/column").glob("*/manifest.json"))) == 1
    for arm in ARMS:
        metrics = read_metrics(Path(current_manifest(str(run), f"checkpoints/{arm}").uri) / "metrics.jsonl")
        assert all(np.isfinite(one["loss"]) for one in metrics)
        if arm != "opd":
            assert all(one["divergence"] > 0 for one in metrics), arm


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_other_settings_of_an_arm_make_no_column_anew(calm: Path, config: Path, tmp_path: Path):
    """As a search asks: another temperature, fewer of the kept tokens."""
    root = Path(shutil.copytree(calm, tmp_path / "again"))
    changes = ["steps.kd.objective.temperature=2", "steps.kd.objective.top_k=2", f"storage.root={root}"]
    made = root / "soft/steps/soft/column"
    before = {file: file.stat().st_mtime_ns for file in made.rglob("*.parquet")}
    Pipeline(load_config(str(config), changes)).make(("kd",))
    assert {file: file.stat().st_mtime_ns for file in made.rglob("*.parquet")} == before
    assert len(list((root / "soft/checkpoints/kd").glob("*/manifest.json"))) == 2


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_killed_while_the_teacher_scores(calm: Path, config: Path, tmp_path: Path):
    """kill -9 of the driver; the same bytes of the column, the same weights of what learns from it."""
    shutil.copytree(calm, tmp_path / "torn", ignore=shutil.ignore_patterns(*ARMS, "every", "pairs"))
    run, calmly = tmp_path / "torn/soft", calm / "soft"
    shutil.rmtree(run / "steps/soft")
    command = ("run", str(config), "--until", "kd", f"storage.root={tmp_path / 'torn'}")
    kill_when(start(*command), lambda: any((run / "steps/soft/column").rglob("work/**/*.json")))
    assert not list((run / "steps/soft/column").glob("*/manifest.json")), "it was cut off"
    Pipeline(load_config(str(config), [f"storage.root={tmp_path / 'torn'}"])).make(ARMS)
    ours, theirs = (current_manifest(str(where), "steps/soft/column") for where in (run, calmly))
    assert [Path(file).read_bytes() for file in ours.files("column")] == [
        Path(file).read_bytes() for file in theirs.files("column")
    ]
    for arm in ARMS:
        made, expected = (current_manifest(str(where), f"checkpoints/{arm}").facts["export"] for where in (run, calmly))
        assert (Path(made) / WEIGHTS).read_bytes() == (Path(expected) / WEIGHTS).read_bytes()
