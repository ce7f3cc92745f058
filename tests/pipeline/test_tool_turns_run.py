"""Sampling in turns for real, in the small world of tools: vLLM calls the calculator, what is right is imitated, and a driver is
killed between two turns."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import pytest
import yaml
from processes import kill_when, rows, start
from sandboxes import isolation

from redi_ray.config.load import load_config
from redi_ray.data.sources.tool_world import answer
from redi_ray.pipeline.runner import Pipeline
from redi_ray.store.manifests import current_manifest

SERVES = "redi_ray.tools.interpreter"
CONFIG = {
    "name": "turns",
    "problems": {
        "source": {"kind": "tool_arithmetic", "num_problems": 40, "num_test": 8, "num_dev": 8, "min_digits": 2, "max_digits": 3,
                   "largest": 12, "misconception_share": 0.3, "misconception_rate": 0.6},
    },
    "generate": {"kind": "none"},
    "model": {
        "prompt": {"prefix": "", "tool_role": "user"},
        "init": {
            "kind": "arithmetic", "corpus_size": 4000,
            "architecture": {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2, "intermediate_size": 256},
            "train": {"learning_rate": 3e-3, "batch_size": 16, "epochs": 1, "max_length": 192, "tokens_per_pack": 4096},
        },
    },
    "sft": {"train": {"learning_rate": 5e-4, "batch_size": 8, "max_steps": 2, "max_length": 192}},
    "redi": {"arms": {}},
    "steps": {
        "drawn": {
            "do": "sample", "model": "base", "samples_per_round": 6, "temperature": 1.0, "top_p": 1.0, "max_tokens": 72,
            "shard_rows": 48,
            "tools": {"names": ["calculator"], "marks": {"calculator": ["[", "]"]}, "output": "{output}", "max_turns": 4,
                      "max_turn_tokens": 24, "sandbox": {"processes": 1, "isolation": isolation()}},
        },
        "judged": {"do": "verify", "of": "drawn"},
        "right": {"do": "groups", "of": "judged", "rewards": {"correct": 1}, "least": 1, "turns": {}},
        "imitated": {"do": "train", "from": "base", "on": "right", "objective": {"name": "sft"}},
    },
    "evaluate": {"benchmarks": []},
    "resources": {
        "ray": {"num_cpus": 5}, "verify_workers": 1, "curate_workers": 1, "trainer": {"num_workers": 1},
        "engine": {"device": "cpu", "dtype": "float32", "max_model_len": 192, "batch_size": 16},
    },
}  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_a_driver_killed_between_two_turns(ray_session: None, tmp_path: Path):
    """kill -9 while a tool runs, twice: nothing that serves calls is left, and the same rows and weights come out."""
    path = tmp_path / "turns.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    calm, torn = tmp_path / "calm", tmp_path / "torn"
    Pipeline(load_config(str(path), [f"storage.root={calm}"])).make(("imitated",))
    shutil.copytree(calm, torn, ignore=shutil.ignore_patterns("drawn", "judged", "right", "imitated"))

    command, traces = (
        ("run", str(path), "--until", "imitated", f"storage.root={torn}"),
        torn / "turns/steps/drawn/traces",
    )
    at_rest = 2 if isolation() == "namespaces" else 1
    for _ in range(2):
        driver, seen = start(*command), len(list(traces.rglob("part-*.parquet")))
        ours, left = psutil.Process(driver.pid), list[psutil.Process]()

        def calling(ours: psutil.Process = ours, left: list[psutil.Process] = left, seen: int = seen) -> bool:
            """Whether one more shard is written, and a call is being run beside what serves."""
            if len(list(traces.rglob("part-*.parquet"))) == seen:
                return False
            left[:] = serving(ours)
            return len(left) > at_rest

        kill_when(driver, calling)
        _, alive = psutil.wait_procs(left, timeout=20)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
        assert not list(traces.rglob("manifest.json"))
    Pipeline(load_config(str(path), [f"storage.root={torn}"])).make(("imitated",))

    drawn, again = (
        {row["trace_id"]: row for row in rows(root / "turns", "steps/drawn/traces", "traces")} for root in (calm, torn)
    )
    assert drawn == again
    assert len(drawn) == 240
    several = [row for row in drawn.values() if row["turns"]]
    assert len(several) > 60, "most call"
    right = [row for row in rows(calm / "turns", "steps/judged/verified", "verified") if row["verdict"] == "correct"]
    assert any(row["turns"][-1]["content"] == f"\\boxed{{{answer(row['problem'])}}}" for row in right if row["turns"])
    ours, theirs = (
        current_manifest(str(root / "turns"), "checkpoints/imitated").facts["export"] for root in (calm, torn)
    )
    assert (Path(ours) / "model.safetensors").read_bytes() == (Path(theirs) / "model.safetensors").read_bytes()


def serving(driver: psutil.Process) -> list[psutil.Process]:
    """All that serves calls below a driver."""
    found = []
    for one in driver.children(recursive=True):
        try:
            if SERVES in " ".join(one.cmdline()):
                found.append(one)
        except psutil.Error:
            pass
    return found
