"""A corpus of several sources through the whole line: counts by source and by kind of verification, reconciled to the last row;
the same rows under any sharding; and a run that was cut off goes on with the same output."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from mixed_run import mixed_config, write_sources
from processes import kill_when, rows, run, start
from small_world import small_world

from redi_ray.config.load import parse_config
from redi_ray.config.worlds import ArithmeticSource
from redi_ray.data.sources.world import answer, build_world
from redi_ray.pipeline.runner import Pipeline
from redi_ray.report.page import build_report
from redi_ray.store.manifests import current_manifest


@pytest.mark.timeout(300)
def test_counts_by_source_and_kind_reach_the_pairs(ray_session: None, tmp_path: Path) -> None:
    write_sources(tmp_path)
    Pipeline(parse_config(mixed_config(tmp_path, "mixed"))).make(("curated",))
    where = tmp_path / "mixed"
    mixed, verified, graded, curated = (
        current_manifest(str(where), stage) for stage in ("problems", "verified", "steps/graded/verified", "curated")
    )
    assert {name: told["out"] for name, told in mixed.facts["sources"].items()} == {
        "sums": 20, "programs": 10, "questions": 20
    }  # fmt: skip
    assert mixed.counts == {"in": 76, "out": 50}
    assert verified.facts["by_source"] == {
        "programs": {"tests": {"correct": 10, "wrong": 10}},
        "questions": {"neither": {"gold_unparseable": 40}},
        "sums": {"reference": {"correct": 20, "wrong": 20}},
    }
    assert graded.facts["by_source"]["questions"] == {"neither": {"correct": 20, "wrong": 20}}
    assert graded.facts["verdicts"]["correct"] == 50
    told = [counts for kinds in curated.facts["by_source"].values() for counts in kinds.values()]
    assert sum(one["problems"] for one in told) == curated.counts["in"] == 50
    assert sum(one["positives"] for one in told) == curated.counts["positives"]
    assert sum(one["pairs"] for one in told) == curated.counts["pairs"]
    assert all(one["problems"] == one["positives"] + sum(one["dropped"].values()) for one in told)
    ids = {row["problem_id"] for row in rows(where, "problems", "problems")}
    assert {row["problem_id"] for row in rows(where, "curated", "examples")} <= ids
    report = json.loads(Path(build_report(str(where)).json).read_text())
    (shown,) = report["sources"]
    assert shown["odd"] == []
    assert {source["name"]: source["licence"] for source in shown["sources"]} == {
        "sums": "mit", "programs": "unknown", "questions": "cc-by-4.0",
    }  # fmt: skip
    assert sum(counts["curated"]["curated"]["positives"] for counts in shown["kinds"].values()) == curated.counts["out"]
    page = (where / "report" / "index.html").read_text()
    assert "Every row is accounted for, source by source" in page
    assert {row["source"] for row in rows(where, "verified", "verified")} == {"sums", "programs/contest", "questions"}


@pytest.mark.timeout(300)
def test_the_same_problems_whatever_the_files_and_whatever_was_cut_off(ray_session: None, tmp_path: Path) -> None:
    """In one file each and in three; and as if the second run had been killed while it drew, graded and curated."""
    runs = {}
    for name, files in (("one", 1), ("three", 3)):
        write_sources(tmp_path, files)
        epochs = {"programs": 2}
        config = parse_config(mixed_config(tmp_path, name, files=files, size=60, epochs=epochs, weights={
            "sums": 2, "programs": 2, "questions": 2}))  # fmt: skip
        Pipeline(config).make(("curated",))
        runs[name] = told_of(tmp_path / name)
        if name == "three":
            for stage in ("problems", "verified", "steps/graded/verified", "curated"):
                made = current_manifest(str(tmp_path / name), stage)
                Path(made.uri, "manifest.json").unlink()
                for shard in sorted(Path(made.uri).glob("*/**/*.parquet"))[::2]:
                    if "work" not in shard.parts and stage != "curated":
                        shard.unlink()
            Pipeline(config).make(("curated",))
            assert told_of(tmp_path / name) == runs["three"]
    assert runs["one"] == runs["three"]
    assert sum("~again" in row["problem_id"] for row in rows(tmp_path / "one", "problems", "problems")) == 8
    assert sum("~again" in row["problem_id"] for row in rows(tmp_path / "one", "curated", "examples")) == 8


@pytest.mark.long
@pytest.mark.timeout(900)
def test_killed_while_it_draws_verifies_and_curates(tmp_path: Path) -> None:
    """kill -9 of the driver three times, each time once the first of a step's files is there; the rows of a run left alone."""
    write_sources(tmp_path, 3)
    command = {}
    for name in ("calm", "torn"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(mixed_config(tmp_path, name, files=3)))
        command[name] = ("run", str(tmp_path / f"{name}.yaml"), "--until", "curated")
    run(*command["calm"])
    for stage, finished in (("problems", "verified"), ("verified", "steps/graded/verified"), ("curated", "curated")):
        folder = tmp_path / "torn" / stage
        kill_when(start(*command["torn"]), lambda folder=folder: any(folder.rglob("*.parquet")))
        assert not list((tmp_path / "torn" / finished).rglob("manifest.json")), f"it was killed at {stage}"
    run(*command["torn"])
    assert told_of(tmp_path / "torn") == told_of(tmp_path / "calm")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_model_of_the_run_is_asked_a_named_mixture(ray_session: None, tmp_path: Path) -> None:
    """vLLM samples the run's own base model on problems of two files, a few of them twice, and a model learns from that."""
    for name, digits in (("short", 2), ("long", 4)):
        made = build_world(
            ArithmeticSource(num_problems=16, num_test=8, num_dev=8, max_digits=digits, min_digits=digits, seed=digits)
        ).train
        lines = [json.dumps({"problem": problem, "answer": str(answer(problem))}) for problem in made]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    source = {name: {"do": "problems", "licence": "mit", "source": {"kind": "files", "paths": [str(tmp_path / f"{name}.jsonl")]}}
              for name in ("short", "long")}  # fmt: skip
    steps = {
        **source,
        "both": {"do": "mix", "of": ["short", "long"], "weights": {"short": 5, "long": 3}, "size": 32, "epochs": {"short": 2}},
        "own": {"do": "sample", "problems": "both", "model": "base", "samples_per_round": 3, "max_rounds": 1},
        "own_math": {"do": "verify", "of": "own"},
        "all": {"do": "groups", "of": "own_math", "least": 1, "rewards": {"correct": 1, "wrong": 1, "no_answer": 1}},
        "learnt": {"do": "train", "from": "base", "on": "all", "objective": {"name": "sft"}},
    }  # fmt: skip
    config = parse_config({**small_world("asked", steps, concurrent_steps=1), "storage": {"root": str(tmp_path)}})
    Pipeline(config).make(("learnt",))
    where = tmp_path / "asked"
    problems, verified = (
        rows(where, "steps/both/problems", "problems"),
        rows(where, "steps/own_math/verified", "verified"),
    )
    assert Counter(row["source"] for row in problems) == {"short": 20, "long": 12}
    assert sum("~again2" in row["problem_id"] for row in problems) == 4
    assert Counter(row["problem_id"] for row in verified) == {row["problem_id"]: 3 for row in problems}
    told = current_manifest(str(where), "steps/own_math/verified").facts["by_source"]
    assert {name: sum(kinds["reference"].values()) for name, kinds in told.items()} == {"short": 60, "long": 36}
    again = {row["problem_id"] for row in problems if "~again2" in row["problem_id"]}
    texts = {(row["problem_id"], row["sample_index"]): row["completion"] for row in verified}
    assert any(texts[one, k] != texts[one.removesuffix("~again2"), k] for one in again for k in range(3)), (
        "what comes again has samples of its own"
    )
    assert current_manifest(str(where), "checkpoints/learnt").facts["status"] == "done"


def told_of(where: Path) -> list[str]:
    """What came out, in whatever order."""
    tables = (("problems", "problems"), ("verified", "verified"), ("steps/graded/verified", "verified"),
              ("curated", "examples"), ("curated", "pairs"))  # fmt: skip
    found = [repr((name, {k: v for k, v in row.items() if k != "tests"})) for name, table in tables
             for row in rows(where, name, table)]  # fmt: skip
    counts = [repr(current_manifest(str(where), name).facts["by_source"]) for name in ("verified", "curated")]
    return sorted(found) + counts
