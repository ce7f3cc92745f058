"""Reward models for real, in a small world: trained on pairs and on labelled steps, exported, asked about samples of other
problems; killed while they score, and made again."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest
import yaml
from processes import kill_when, rows, start
from safetensors.torch import load_file

from redi_ray.config.load import load_config
from redi_ray.pipeline.runner import Pipeline
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import current_manifest
from redi_ray.train.sequences import SequenceStore

SHORT = {"batch_size": 8, "max_steps": 4, "epochs": 1, "max_length": 128, "learning_rate": 1e-3, "checkpoint_every": 2}
CONFIG = {
    "name": "rewards",
    "problems": {"source": {"kind": "arithmetic", "num_problems": 40, "num_test": 8, "num_dev": 8,
                            "min_digits": 2, "max_digits": 3,
                            "misconception_share": 0.3, "misconception_rate": 0.8}},
    "generate": {"kind": "vllm", "model": "base", "samples_per_round": 6, "max_rounds": 1, "max_tokens": 40, "shard_rows": 48},
    "model": {
        "init": {
            "kind": "arithmetic", "corpus_size": 3000,
            "architecture": {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2, "intermediate_size": 256},
            "train": {"learning_rate": 3e-3, "batch_size": 16, "epochs": 1, "max_length": 128, "tokens_per_pack": 4096},
        },
    },
    "sft": {"train": SHORT},
    "redi": {"arms": {}, "train": SHORT},
    "steps": {
        "seen": {"do": "select", "of": "verified", "random": {"problems": 28}},
        "held": {"do": "select", "of": "verified", "random": {"problems": 28, "rest": True}},
        "some": {"do": "pairs", "of": "seen"},
        "rm": {"do": "train", "from": "base", "on": "some", "objective": {"name": "bradley_terry", "head_learning_rate": 3}},
        "located": {"do": "locate", "of": "seen", "locator": {"kind": "exact"}, "ask": "all"},
        "labelled": {"do": "groups", "of": "seen", "spans": "located", "labels": {"right": 1, "wrong": 0}, "least": 1},
        "prm": {"do": "train", "from": "rm", "on": "labelled", "objective": {"name": "step_bce"}, "train": {"units": "spans"}},
        "value": {"do": "score", "of": "held", "scorer": {"name": "reward", "model": "rm"}},
        "by_step": {"do": "score", "of": "held",
                    "scorer": {"name": "reward", "model": "prm", "at": "steps", "form": "equations"}},
    },
    "evaluate": {"models": ["base"], "num_samples": 4, "ks": [1, 2, 4], "temperature": 1.0, "max_tokens": 40,
                 "score": {"name": "reward", "model": "rm"}, "rank_by": {"name": "reward", "model": "prm"},
                 "guided": {"model": "prm", "keep": 2, "candidates": 2, "step_end": "\n", "max_steps": 6, "max_step_tokens": 12,
                            "form": "equations"}},
    "resources": {
        "concurrent_steps": 2, "ray": {"num_cpus": 5}, "verify_workers": 1, "curate_workers": 1, "trainer": {"num_workers": 1},
        "engine": {"device": "cpu", "dtype": "float32", "max_model_len": 128},
    },
}  # fmt: skip
GOALS, SCORES = ("value", "by_step"), "eval/base"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "rewards.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.fixture(scope="module")
def calm(ray_session: None, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run's folder."""
    root = tmp_path_factory.mktemp("calm")
    Pipeline(load_config(str(config), [f"storage.root={root}"])).make([*GOALS, SCORES])
    return root / "rewards"


def column(run: Path, step: str) -> list[dict]:
    return rows(run, f"steps/{step}/column", "column")


def export(run: Path, model: str) -> Path:
    return Path(current_manifest(str(run), f"checkpoints/{model}").facts["export"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_comes_out(calm: Path) -> None:
    held, seen = (rows(calm, f"steps/{step}/verified", "verified") for step in ("held", "seen"))
    assert not {row["problem_id"] for row in seen} & {row["problem_id"] for row in held}
    value = {row["trace_id"]: row["value"] for row in column(calm, "value")}
    assert list(value) == [row["trace_id"] for row in held]
    told = current_manifest(str(calm), "steps/value/column").facts["against_verdicts"]
    assert told["right"] + told["wrong"] == sum(row["verdict"] in ("correct", "wrong") for row in held)
    assert told["calibration"] is None or min(value.values()) >= 0, "values of pairs are no probabilities"

    config = json.loads((export(calm, "rm") / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForSequenceClassification"]
    assert config["redi_reward"] == {"objective": "bradley_terry", "link": "identity", "at": "last"}
    heads = [load_file(export(calm, model) / WEIGHTS)["score.weight"] for model in ("rm", "prm")]
    assert heads[0].abs().max() > 0
    assert not heads[0].equal(heads[1])

    steps = {row["trace_id"]: row["spans"] for row in column(calm, "by_step")}
    for row in held:
        spans = steps[row["trace_id"]]
        assert "".join(row["completion"][span["start"] : span["end"]] for span in spans) == row["completion"]
        assert all(0 <= span["value"] <= 1 and span["label"] in ("right", "wrong") for span in spans)
    arrays = Path(current_manifest(str(calm), "steps/prm/sequences/groups").uri) / "arrays"
    store = SequenceStore.load(arrays)
    assert store.weights.sum() == store.unit_offsets[-1], "a step is read at one token"
    assert set(store.reward.tolist()) == {0.0, 1.0}


def numbers(run: Path, field: str) -> dict[str, float]:
    """Of an evaluation's samples, as a reward model has them."""
    folder = f"{current_manifest(str(run), SCORES).uri}/{field}/column"
    tables = parquet.read_tables(storage.list_files(folder, ".parquet"))
    return {row["trace_id"]: row["value"] for table in tables for row in table.to_pylist()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_evaluation_chooses_by_a_reward_model(calm: Path) -> None:
    """The best of all samples of a problem is the one with the highest number, and the other mean is told, too."""
    manifest = current_manifest(str(calm), SCORES)
    verified = rows(calm, SCORES, "verified")
    by_prm, by_rm = numbers(calm, "rank_by"), numbers(calm, "score")
    assert by_prm.keys() == by_rm.keys() == {row["trace_id"] for row in verified}
    assert all(0 <= value <= 1 for value in by_prm.values()), "of steps: the chance that it is right"
    best: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for row in verified:
        best[row["problem_id"]].append((by_prm[row["trace_id"]], row["verdict"] == "correct"))
    top = {key: [right for value, right in found if value == max(found)[0]] for key, found in best.items()}
    (told,) = json.loads(Path(manifest.uri, "report.json").read_text())["benchmarks"]
    assert told["ranked"]["at_k"]["4"]["best"] == pytest.approx(fmean(map(fmean, top.values())))
    assert told["score"]["mean"] == pytest.approx(fmean(by_rm.values()), rel=1e-6)
    assert manifest.inputs["rank_by"] == current_manifest(str(calm), "checkpoints/prm").key


def guided(run: Path, table: str) -> list[dict]:
    """Rows of a search's table, models by where they lie in the run."""
    files = storage.list_files(f"{current_manifest(str(run), SCORES).uri}/guided/{table}", ".parquet")
    found = [row for part in parquet.read_tables(files) for row in part.to_pylist()]
    return [row | ({"model": row["model"].removeprefix(str(run))} if "model" in row else {}) for row in found]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_reward_model_guides_a_search(calm: Path) -> None:
    """Each draw goes on from a beginning that was kept, and ends where steps end; what is told is what lies there."""
    (told,) = json.loads(Path(current_manifest(str(calm), SCORES).uri, "report.json").read_text())["benchmarks"]
    answers, verified = guided(calm, "answers"), guided(calm, "verified")
    values = {row["trace_id"]: row["value"] for row in guided(calm, "values")}
    assert len({row["problem_id"] for row in answers}) == 8
    assert max(row["sample_index"] for row in answers) < 2
    folder = Path(current_manifest(str(calm), SCORES).uri, "guided")
    drawn, before = 0, {None}
    for step in sorted(folder.glob("step-*")):
        asked = {row["problem_id"]: row["begun"] for row in rows_of(step, "asked")}
        assert set(asked.values()) <= before
        before = {row["text"] for row in rows_of(step, "beams.parquet")}
        for row in rows_of(step, "traces"):
            begun = asked[row["problem_id"]] or "<think>\n"
            said = row["completion"].removeprefix(begun)
            assert row["completion"].startswith(begun)
            assert "\n" not in said[:-1], "one step"
            assert row["finish_reason"] == "stop" or said.endswith("\n") or row["num_tokens"] == 12
            drawn += row["num_tokens"]
    assert told["guided"]["tokens"] == pytest.approx(drawn / 8)
    best = [row["verdict"] == "correct" for row in verified if row["sample_index"] == 0]
    assert told["guided"]["best"] == pytest.approx(fmean(best))
    assert all(value is None or 0 <= value <= 1 for value in values.values())
    assert told["guided"]["equal"].keys() == {"any", "majority", "best", "weighted"}


def rows_of(step: Path, name: str) -> list[dict]:
    files = storage.list_files(str(step / name), ".parquet")
    return [row for found in parquet.read_tables(files) for row in found.to_pylist()]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_killed_in_a_guided_search(calm: Path, config: Path, tmp_path: Path) -> None:
    """kill -9 of the driver while a step is drawn, and while what it drew is judged; answers and numbers are the same."""
    torn = tmp_path / "rewards"
    shutil.copytree(calm, torn)
    shutil.rmtree(torn / "eval")
    run = ("run", str(config), "--until", SCORES, f"storage.root={tmp_path}")
    for pattern in ("step-001/asked/*.parquet", "step-002/candidates/*.parquet"):
        kill_when(start(*run), lambda pattern=pattern: any(torn.glob(f"eval/base/*/guided/{pattern}")))
        assert not any(torn.glob("eval/base/*/report.json")), f"{pattern}: killed behind its end"
    Pipeline(load_config(str(config), [f"storage.root={tmp_path}"])).make([SCORES])
    for table in ("answers", "values"):
        assert guided(torn, table) == guided(calm, table)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_killed_while_it_scores_and_while_a_head_is_trained(calm: Path, config: Path, tmp_path: Path) -> None:
    """kill -9 of the driver; what is made again is the same, number for number."""
    root = tmp_path / "torn"
    shutil.copytree(calm.parent, root, ignore=shutil.ignore_patterns("prm", *GOALS))
    run, command = root / "rewards", ("run", str(config), "--until", "by_step", f"storage.root={root}")
    kill_when(start(*command), lambda: any((run / "checkpoints/prm").rglob("step-*/*")))
    kill_when(start(*command), lambda: any((run / "steps/by_step/column").glob("*/work/*/*.json")))
    Pipeline(load_config(str(config), [f"storage.root={root}"])).make(GOALS)
    for step in GOALS:
        assert column(run, step) == column(calm, step)
    assert (export(run, "prm") / WEIGHTS).read_bytes() == (export(calm, "prm") / WEIGHTS).read_bytes()
