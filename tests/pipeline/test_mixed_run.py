"""A corpus of several sources through the whole line: counts by source and by kind of verification, reconciled to the last row;
the same rows under any sharding; and a run that was cut off goes on with the same output."""

from __future__ import annotations

from pathlib import Path

import pytest
from mixed_run import mixed_config, write_sources
from processes import rows

from redi_ray.config.load import parse_config
from redi_ray.pipeline.runner import Pipeline
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
    assert {row["source"] for row in rows(run, "verified", "verified")} == {"sums", "programs/contest", "questions"}
