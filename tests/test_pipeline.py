"""The whole path with the real components: a small world through vLLM, Ray Train and back, killed and submitted too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_demo
import yaml
from imported_run import write_imported
from processes import ROOT, kill_when, rows, run, start
from ray_head import ray_head
from recovery import recovering

from redi_ray.config.load import load_config
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.store import manifests, parquet, storage
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import completion_ids, prompt_ids

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

TINY = (*tiny_demo.TINY, "redi.arms={redi: {objective: {name: redi, alpha: 0.8}}}")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the demo in small; its generation was killed once and taken up again."""
    root = tmp_path_factory.mktemp("runs")
    arguments = ["configs/demo.yaml", *TINY, f"storage.root={root}"]
    traces = root / "demo" / "traces"
    kill_when(start("generate", *arguments), lambda: any(traces.rglob("traces/*/part-*.parquet")))
    assert not (traces / "manifest.json").exists()
    with recovering("the kill of a generation, all later stages included"):
        output = run("run", *arguments)
    assert "report:" in output
    return root / "demo"


def test_report_has_every_arm_and_the_funnel(tiny: Path):
    report = json.loads((tiny / "report" / "report.json").read_text())
    assert [arm["name"] for arm in report["arms"]] == ["base", "sft", "redi"]
    for arm in report["arms"]:
        assert (arm["num_problems"], arm["num_samples"]) == (16, 2)
        assert 0 <= arm["pass@1"] <= 1
        assert arm["sem"] is not None
    assert report["funnel"]
    assert "<script src" not in (tiny / "report" / "index.html").read_text()


def test_every_stage_has_its_manifest_and_config(tiny: Path):
    for stage in ("problems", "traces", "verified", "curated", "checkpoints/sft", "eval/redi", "report"):
        assert (tiny / stage / "manifest.json").exists(), stage
    manifest = manifests.current_manifest(str(tiny), "curated")
    assert yaml.safe_load(storage.read_bytes(f"{manifest.uri}/config.yaml"))["name"] == "demo"


def test_a_killed_generation_loses_and_doubles_no_row(tiny: Path):
    """Four samples of each problem, and four more of those that were not solved by the first."""
    traces = rows(tiny, "traces", "traces", ["trace_id", "problem_id", "sample_index", "sampling"])
    ids = [row["trace_id"] for row in traces]
    assert len(ids) == len(set(ids))
    verdicts = rows(tiny, "verified", "verified", ["trace_id", "problem_id", "sample_index", "verdict"])
    assert sorted(row["trace_id"] for row in verdicts) == sorted(ids)
    solved = {row["problem_id"] for row in verdicts if row["verdict"] == "correct" and row["sample_index"] < 4}
    expected = {f"train-{p}#{i}" for p in range(48) for i in range(4 if f"train-{p}" in solved else 8)}
    assert set(ids) == expected
    assert len({json.loads(row["sampling"])["seed"] for row in traces}) == len(ids)


def test_running_again_reuses_everything(tiny: Path):
    started = time.monotonic()
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*.safetensors")}
    output = run("run", "configs/demo.yaml", *TINY, f"storage.root={tiny.parent}")
    assert "done in" not in output
    assert output.count("reused") >= 9
    assert {path: path.stat().st_mtime_ns for path in tiny.rglob("*.safetensors")} == before
    assert time.monotonic() - started < 120


def test_the_export_is_what_vllm_and_transformers_load(tiny: Path):
    """Greedy tokens of transformers on the export; vLLM has sampled from the same folder in the evaluation."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    export = json.loads((tiny / "checkpoints" / "redi" / "manifest.json").read_text())["facts"]["export"]
    export = manifests.outward(export, str(tiny))
    assert {"model.safetensors", "config.json", "generation_config.json"} <= {p.name for p in Path(export).iterdir()}
    tokenizer, model = AutoTokenizer.from_pretrained(export), AutoModelForCausalLM.from_pretrained(export)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+1"}], tokenize=False, add_generation_prompt=True
    )
    out = model.generate(**tokenizer(text + "<think>\n", return_tensors="pt"), max_new_tokens=60, do_sample=False)
    assert "=" in tokenizer.decode(out[0])


LOCATE = (
    "steps.exact={do: locate, of: verified, locator: {kind: exact}}",
    "steps.lost={do: locate, of: verified, model: base, form: equations, locator: {kind: rollouts, samples: 2, max_tokens: 64}}",
)


@pytest.mark.long
def test_killed_while_a_model_goes_on_from_behind_steps(tiny: Path, tmp_path: Path):
    """kill -9 of the driver in the first wave and in the second: the same labels come out. A continuation stands behind the very
    tokens that training has of prompt and beginning, and belongs to one step."""
    roots = [tmp_path / name for name in ("calm", "torn")]
    for root in roots:
        shutil.copytree(tiny, root / "demo")
    commands = [("run", "configs/demo.yaml", *TINY, *LOCATE, f"storage.root={root}") for root in roots]
    run(*commands[0], "--until", "lost")
    run(*commands[0], "--until", "exact")
    waves = roots[1] / "demo/steps/lost"
    for wave in ("wave-000", "wave-001"):
        kill_when(
            start(*commands[1], "--until", "lost"),
            lambda wave=wave: any(waves.rglob(f"{wave}/traces/*/part-*.parquet")),
        )
        assert not any(waves.rglob(f"{wave}/done.json"))
    run(*commands[1], "--until", "lost")
    calm, torn = (rows(root / "demo", "steps/lost/column", "column") for root in roots)
    assert calm == torn
    told = [manifests.current_manifest(str(root / "demo"), "steps/lost/column").facts["rollouts"] for root in roots]
    assert told[0] == told[1]
    exact = rows(roots[0] / "demo", "steps/exact/column", "column")
    assert [row["spans"] is None for row in exact] == [row["spans"] is None for row in calm]

    config = load_config("configs/demo.yaml")
    model = manifests.current_manifest(str(tiny), "checkpoints/base").facts["export"]
    tokenizer, prompt = load_tokenizer(model, False), config.model.prompt
    folder = next(waves.rglob("wave-000"))
    begun = {row["problem_id"]: row["begun"] for row in read_all(folder / "problems")}
    drawn = read_all(folder / "traces")
    assert {row["problem_id"] for row in drawn} == begun.keys()
    for row in drawn:
        start_of_answer = begun[row["problem_id"]]
        assert row["completion"].startswith(start_of_answer)
        whole = prompt_ids(to_messages(row["problem"], prompt), tokenizer, prompt)
        whole += completion_ids(start_of_answer, tokenizer, prompt, finished=False)
        assert json.loads(row["sampling"])["prompt_tokens"] == len(whole)


def read_all(folder: Path) -> list[dict]:
    tables = parquet.read_tables(sorted(map(str, folder.rglob("*.parquet"))))
    return [row for table in tables for row in table.to_pylist()]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_imported(tmp_path_factory.mktemp("traces"))


def truncate(path: Path) -> str:
    """Leave the first half of a file; its name."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path.name


def test_killed_in_verify_and_train_ends_with_the_same_rows_and_weights(imported: Path, tmp_path: Path):
    """kill -9 of the driver in verification, in SFT and in stage 2, and the same command again. What Ray Train had noted for
    itself was half written, too."""
    calm, torn = f"storage.root={tmp_path / 'calm'}", f"storage.root={tmp_path / 'torn'}"
    run("train", str(imported), calm)
    folder = tmp_path / "torn" / "imported"
    for marker in (
        "verified/*/verified/*/*.parquet",
        "checkpoints/sft/*/checkpoints/*/files.json",
        "checkpoints/redi/*/checkpoints/*/files.json",
    ):
        kill_when(start("train", str(imported), torn), lambda marker=marker: any(folder.glob(marker)))
        truncated = [truncate(path) for path in folder.glob("checkpoints/*/*/ray_train/**/*") if path.is_file()]
        assert bool(truncated) == ("checkpoints" in marker), truncated
    with recovering(f"the kill of stage 2, Ray Train's {truncated} truncated"):
        run("train", str(imported), torn)

    undisturbed = tmp_path / "calm" / "imported"
    for stage, table, key in (("verified", "verified", "trace_id"), ("curated", "pairs", "pair_id")):
        assert sorted(rows(folder, stage, table), key=lambda row: row[key]) == sorted(
            rows(undisturbed, stage, table), key=lambda row: row[key]
        )
    for arm in ("sft", "redi"):
        exports = [
            Path(manifests.current_manifest(str(run), f"checkpoints/{arm}").facts["export"]) / "model.safetensors"
            for run in (undisturbed, folder)
        ]
        assert exports[0].read_bytes() == exports[1].read_bytes(), arm
        calm_lines, lines = (
            [json.loads(line) for line in (export.parent.parent / "metrics.jsonl").read_text().splitlines()]
            for export in exports
        )
        assert [line["step"] for line in lines] == list(range(len(lines)))
        measured = [line.get("dev_accuracy") for line in lines]
        assert measured == [line.get("dev_accuracy") for line in calm_lines]
        assert [index for index, value in enumerate(measured) if value is not None] == (
            [] if arm == "sft" else sorted({0, *range(9, len(lines), 10), len(lines) - 1})
        )
    held_out = {row["problem_id"] for row in rows(folder, "dev", "dev")}
    assert 10 < len(held_out) < 60
    assert not held_out & {row["problem_id"] for row in rows(folder, "verified", "verified")}


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The environment of a user who submits to a Ray with a token."""
    with ray_head() as environment:
        yield environment


def test_submitted_as_a_ray_job(cluster: dict[str, str], tmp_path: Path):
    """The demo in small by `ray job submit`, on a cluster with token authentication."""
    ray = Path(sys.executable).parent / "ray"
    submit = [
        str(ray), "job", "submit", "--working-dir", str(ROOT), "--", sys.executable, "jobs/pipeline.py",
        "--config", "configs/demo.yaml", *TINY, "generate.max_rounds=1", f"storage.root={tmp_path}",
    ]  # fmt: skip
    for _ in range(60):
        done = subprocess.run(submit, env={**os.environ, **cluster}, capture_output=True, text=True, check=False)
        if not any(told in done.stderr + done.stdout for told in ("Failed to connect", "No available agent")):
            break
        time.sleep(2)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((tmp_path / "demo" / "report" / "report.json").read_text())
    assert [arm["name"] for arm in report["arms"]] == ["base", "sft", "redi"]
