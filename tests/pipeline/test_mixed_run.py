"""A corpus of several sources through the whole line: counts by source and by kind of verification, reconciled to the last row;
the same rows under any sharding; and a run that was cut off goes on with the same output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mixed_run import mixed_config, write_sources
from processes import rows

from redi_ray.config.load import parse_config
from redi_ray.pipeline.runner import Pipeline
from redi_ray.report.page import build_report
from redi_ray.store.manifests import current_manifest


@pytest.mark.timeout(300)
def test_counts_by_source_and_kind_reach_the_pairs(ray_session: None, tmp_path: Path) -> None:
    write_sources(tmp_path)
    Pipeline(parse_config(mixed_config(tmp_path, "mixed"))).make(("curated",))
    run = tmp_path / "mixed"
    mixed, verified, graded, curated = (
        current_manifest(str(run), stage) for stage in ("problems", "verified", "steps/graded/verified", "curated")
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
    ids = {row["problem_id"] for row in rows(run, "problems", "problems")}
    assert {row["problem_id"] for row in rows(run, "curated", "examples")} <= ids
    report = json.loads(Path(build_report(str(run)).json).read_text())
    (shown,) = report["sources"]
    assert shown["odd"] == []
    assert {source["name"]: source["licence"] for source in shown["sources"]} == {
        "sums": "mit", "programs": "unknown", "questions": "cc-by-4.0",
    }  # fmt: skip
    assert sum(counts["curated"]["curated"]["positives"] for counts in shown["kinds"].values()) == curated.counts["out"]
    page = (run / "report" / "index.html").read_text()
    assert "Every row is accounted for, source by source" in page
    assert {row["source"] for row in rows(run, "verified", "verified")} == {"sums", "programs/contest", "questions"}


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


def told_of(run: Path) -> list[str]:
    """What came out, in whatever order."""
    tables = (("problems", "problems"), ("verified", "verified"), ("steps/graded/verified", "verified"),
              ("curated", "examples"), ("curated", "pairs"))  # fmt: skip
    found = [repr((name, {k: v for k, v in row.items() if k != "tests"})) for name, table in tables
             for row in rows(run, name, table)]  # fmt: skip
    counts = [repr(current_manifest(str(run), name).facts["by_source"]) for name in ("verified", "curated")]
    return sorted(found) + counts
