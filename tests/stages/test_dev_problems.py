"""No development problem is a benchmark's, and a run without any stops before traces are paid for."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from redi_ray.config.load import load_config
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.runner import Pipeline
from redi_ray.stages import problems
from redi_ray.stages.dev_problems import dev_problems
from redi_ray.stages.run import Run
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest

pytestmark = pytest.mark.usefixtures("ray_session")

SOURCE = [
    "generate={kind: import}",
    "model.init={kind: scratch}",
    "problems.dev.share=0.3",
    "redi.train={probe: {every: 5}}",
]


def write_lines(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def text(number: int) -> str:
    return f"What is {number} plus {number}?"


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    """Overrides of a run on fifty problems with a trace each, about fifteen of them held out."""
    rows = [{"problem": text(i), "answer": str(2 * i), "completion": f"\\boxed{{{2 * i}}}"} for i in range(50)]
    path = write_lines(tmp_path / "traces.jsonl", rows)
    source = f"{{kind: files, paths: [{path}], columns: {{completion: completion}}}}"
    return [*SOURCE, f"problems.source={source}", f"storage.root={tmp_path / 'runs'}"]


def dev_of(config: list[str], *benchmarks: str) -> tuple[Manifest, list[str]]:
    run = Run.of(load_config("configs/demo.yaml", [*config, f"evaluate.benchmarks=[{', '.join(benchmarks)}]"]))
    manifest = dev_problems(run, problems.problems(run))
    rows = [row for part in parquet.read_tables(manifest.files("dev")) for row in part.to_pylist()]
    assert len(rows) == manifest.counts["out"]
    return manifest, [row["problem"] for row in rows]


def test_copies_of_benchmark_problems_are_left_out_with_a_count(config: list[str], tmp_path: Path) -> None:
    """However they are typeset, and also those that `max_problems` keeps from the evaluation."""
    all_of_them, texts = dev_of(config)
    assert all_of_them.counts["in"] == all_of_them.counts["out"] == len(texts) > 5
    held = [{"problem": f"what is  ${t[8:-1]}$", "answer": "1"} for t in texts[:3]]
    path = write_lines(tmp_path / "held.jsonl", [*held, {"problem": text(999), "answer": "1"}])
    fewer, rest = dev_of(config, f"{{name: mine, path: {path}, max_problems: 1}}")
    assert set(rest) == set(texts[3:])
    assert fewer.dropped == {"in_benchmark_mine": 3}
    other = write_lines(tmp_path / "other.jsonl", [{"problem": text(998), "answer": "1"}, held[0]])
    again, _ = dev_of(config, f"{{name: yours, path: {other}}}", f"{{name: mine, path: {path}}}")
    assert again.key == fewer.key != all_of_them.key, "the same problems remain"


def test_a_benchmark_that_cannot_be_had_is_warned_of(
    config: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("redi_ray"), "propagate", True)
    manifest, texts = dev_of(config, "{name: minerva}")
    assert manifest.counts["out"] == len(texts) > 5
    assert manifest.facts["compared_with"] == []
    assert "not compared with minerva" in caplog.text


def test_a_run_without_development_problems_ends_at_the_problems(config: list[str], tmp_path: Path) -> None:
    """All of them in a benchmark, or a share so small that none was held out."""
    _, texts = dev_of(config)
    path = write_lines(tmp_path / "all.jsonl", [{"problem": t, "answer": "1"} for t in texts])
    for change, told in (
        (f"evaluate.benchmarks=[{{name: mine, path: {path}}}]", rf"{len(texts)} were held out.*\(mine\)"),
        ("problems.dev.share=1e-9", "0 were held out"),
    ):
        pipeline = Pipeline(load_config("configs/demo.yaml", [*config, "evaluate.benchmarks=[]", change]))
        with pytest.raises(DataError, match=told):
            pipeline.traces()
        assert not storage.exists(f"{pipeline.run.uri}/traces/manifest.json")


def test_the_test_split_of_the_built_in_world_is_a_benchmark_too(tmp_path: Path) -> None:
    """Chains of two digits: dev and test problems are drawn without overlap, which the stage confirms."""
    small = "{kind: arithmetic, num_problems: 20, num_dev: 20, num_test: 50, min_digits: 2, max_digits: 2}"
    run = Run.of(load_config("configs/demo.yaml", [f"problems.source={small}", f"storage.root={tmp_path}"]))
    manifest = dev_problems(run, problems.problems(run))
    assert manifest.counts == {"in": 20, "out": 20}
    assert manifest.facts["compared_with"] == ["arithmetic"]
