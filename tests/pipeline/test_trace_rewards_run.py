"""ReasonFlux-PRM's chain for real, in a small world: templates of traces are drawn and followed, steps and the whole get targets,
a head learns them by squares, and the traces that it prefers are learnt from; killed while it compares steps, and made again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from processes import kill_when, rows, start

from redi_ray.config.load import load_config
from redi_ray.data.score.step_rewards import softmax_weighted, trace_reward
from redi_ray.pipeline.runner import Pipeline
from redi_ray.store.manifests import current_manifest
from redi_ray.train.sequences import SequenceStore

SHORT = {"batch_size": 8, "max_steps": 3, "epochs": 1, "max_length": 160, "learning_rate": 1e-3, "checkpoint_every": 2}
COLUMNS = {"aligned": "value", "located": {"right": 1, "wrong": 0}, "coherent": "value"}
NEAR = {"name": "similarity", "model": "base", "form": "equations"}
STEPS = {
    "some": {"do": "select", "of": "verified", "random": {"problems": 24}},
    # In the characters that this world has; what is told of a trace is its own response.
    "templates_asked": {"do": "pose", "of": "some", "prompt": "{problem}"},
    "templates": {"do": "sample", "problems": "templates_asked", "model": "base", "samples_per_round": 1, "max_rounds": 1},
    "guided_asked": {"do": "pose", "of": "some", "guides": "templates", "prompt": "{guide}{problem}"},
    "guided": {"do": "sample", "problems": "guided_asked", "model": "base", "samples_per_round": 2, "max_rounds": 1},
    "guided_math": {"do": "verify", "of": "guided"},
    "whole": {"do": "score", "of": "some", "scorer": {"name": "pass_rate", "samples": "guided_math"}},
    "aligned": {"do": "score", "of": "some", "scorer": {**NEAR, "to": "response"}},
    "coherent": {"do": "score", "of": "some", "scorer": {**NEAR, "to": "previous"}},
    "located": {"do": "locate", "of": "some", "locator": {"kind": "exact"}, "ask": "all"},
    "targets": {"do": "score", "of": "some", "scorer": {"name": "step_rewards", "columns": COLUMNS, "trajectory": "whole"}},
    "labelled": {"do": "groups", "of": "some", "rewards": {"correct": 1, "wrong": 0, "no_answer": 0}, "spans": "targets",
                 "labels": {"step": "value", "trajectory": "value"}, "least": 1},
    "prm": {"do": "train", "from": "base", "on": "labelled", "objective": {"name": "step_mse"}, "train": {"units": "spans"}},
    "said": {"do": "score", "of": "some", "scorer": {"name": "reward", "model": "prm", "at": "steps", "form": "equations"}},
    "worth": {"do": "score", "of": "some", "scorer": {"name": "trace_reward", "column": "said", "alpha": 0.5}},
    "best": {"do": "select", "of": "some", "by": "worth", "keep": {"per_problem": 2}},
    "set": {"do": "groups", "of": "best", "rewards": {"correct": 1, "wrong": 1, "no_answer": 1}, "least": 1},
    "on_best": {"do": "train", "from": "base", "on": "set", "objective": {"name": "sft"}},
}  # fmt: skip
CONFIG = {
    "name": "traces",
    "problems": {"source": {"kind": "arithmetic", "num_problems": 40, "num_test": 8, "num_dev": 8,
                            "min_digits": 2, "max_digits": 4, "misconception_share": 0.3, "misconception_rate": 0.8}},
    "generate": {"kind": "vllm", "model": "base", "samples_per_round": 4, "max_rounds": 1, "max_tokens": 48, "shard_rows": 48},
    "model": {
        "init": {
            "kind": "arithmetic", "corpus_size": 3000,
            "architecture": {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2, "intermediate_size": 256},
            "train": {"learning_rate": 3e-3, "batch_size": 16, "epochs": 1, "max_length": 128, "tokens_per_pack": 4096},
        },
    },
    "sft": {"train": SHORT},
    "redi": {"arms": {}, "train": SHORT},
    "steps": STEPS,
    "evaluate": {"benchmarks": []},
    "resources": {
        "concurrent_steps": 2, "ray": {"num_cpus": 5}, "verify_workers": 1, "curate_workers": 1, "trainer": {"num_workers": 1},
        "engine": {"device": "cpu", "dtype": "float32", "max_model_len": 160},
    },
}  # fmt: skip
GOALS = ("on_best", "coherent")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "traces.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.fixture(scope="module")
def calm(ray_session: None, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run's folder."""
    root = tmp_path_factory.mktemp("calm")
    Pipeline(load_config(str(config), [f"storage.root={root}"])).make(GOALS)
    return root / "traces"


def column(run: Path, step: str) -> dict[str, object]:
    (name,) = {"spans", "value"} & {*rows(run, f"steps/{step}/column", "column")[0]}
    return {row["trace_id"]: row[name] for row in rows(run, f"steps/{step}/column", "column")}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_what_comes_out(calm: Path) -> None:
    some = {row["trace_id"]: row for row in rows(calm, "steps/some/verified", "verified")}
    posed = rows(calm, "steps/guided_asked/problems", "problems")
    assert {row["problem_id"] for row in posed} <= some.keys()
    assert all(row["problem"].endswith(some[row["problem_id"]]["problem"]) for row in posed)

    said = rows(calm, "steps/guided_math/verified", "verified")
    whole, targets = column(calm, "whole"), column(calm, "targets")
    for key, share in whole.items():
        verdicts = [row["verdict"] for row in said if row["problem_id"] == key and row["verdict"] != "timeout"]
        assert share == (pytest.approx(verdicts.count("correct") / len(verdicts)) if verdicts else None)
    steps = [column(calm, name) for name in COLUMNS]
    for key, spans in targets.items():
        if spans is None:
            continue
        *parts, last = spans
        assert last["label"] == "trajectory"
        assert last["value"] == pytest.approx(whole[key])
        assert some[key]["completion"][last["start"] :].startswith("</think>")
        for part in parts:
            at = [next(span for span in of[key] if span["start"] == part["start"]) for of in steps]
            three = [at[0]["value"], float(at[1]["label"] == "right"), at[2]["value"]]
            assert part["value"] == pytest.approx(float(softmax_weighted(np.array(three))), abs=1e-6)

    arrays = Path(current_manifest(str(calm), "steps/prm/sequences/groups").uri) / "arrays"
    store = SequenceStore.load(arrays)
    told = sum(len(spans) for spans in targets.values() if spans is not None)
    assert len(store.reward) == told, "a unit for each target"
    judged, worth = column(calm, "said"), column(calm, "worth")
    for key, value in worth.items():
        assert value == (
            pytest.approx(expected) if (expected := trace_reward(some[key], judged[key], 0.5)) else expected
        )
    kept = {row["trace_id"] for row in rows(calm, "steps/best/verified", "verified")}
    left = [key for key in some if key not in kept and worth[key] is not None]
    for key in left:
        better = [worth[other] for other in kept if some[other]["problem_id"] == some[key]["problem_id"]]
        assert len(better) == 2
        assert min(better) >= worth[key]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_killed_while_it_compares_steps(calm: Path, config: Path, tmp_path: Path) -> None:
    """kill -9 of the driver; what is made again is the same, number for number."""
    root = tmp_path / "torn"
    gone = ("coherent", "targets", "labelled", "prm", "said", "worth", "best", "set", "on_best")
    shutil.copytree(calm.parent, root, ignore=shutil.ignore_patterns(*gone))
    run, command = root / "traces", ("run", str(config), "--until", "on_best", f"storage.root={root}")
    kill_when(start(*command), lambda: any((run / "steps/coherent/column").glob("*/work/*/*.json")))
    Pipeline(load_config(str(config), [f"storage.root={root}"])).make(GOALS)
    for step in ("coherent", "targets", "worth"):
        assert column(run, step) == column(calm, step)
