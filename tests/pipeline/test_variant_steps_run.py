"""Variants for real, in a small world: made, held against right traces, sampled by vLLM, verified, compared with their originals;
what samples say of looking back, of the line's own and of an evaluation; and a run that was cut off in between goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from processes import rows
from small_world import small_world

from redi_ray.config.load import parse_config
from redi_ray.data.sources.world import answer
from redi_ray.pipeline.runner import Pipeline
from redi_ray.report.page import build_report
from redi_ray.store.manifests import current_manifest

STEPS = {
    "variants": {
        "do": "perturb",
        "distractor": {},
        "order": {},
        "numbers": {},
        "originals": True,
        "traces": "verified",
    },
    "own": {"do": "sample", "problems": "variants", "model": "base", "samples_per_round": 2, "max_rounds": 1},
    "own_math": {"do": "verify", "of": "own"},
    "robust": {"do": "robustness", "of": "own_math"},
    "looks": {"do": "reflect", "of": "verified", "behaviours": {"thinks": ["<think>"], "box": [r"\\boxed"]}},
    "looks_evaluated": {"do": "reflect", "of": "eval/base"},
}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_variants_go_through_the_whole_graph(ray_session: None, tmp_path: Path) -> None:
    written = small_world("varied", STEPS, concurrent_steps=1)
    written["generate"] |= {"max_rounds": 3, "samples_per_round": 2, "frontier": {"samples": 1.0}}
    written["evaluate"] = {"models": ["base"], "num_samples": 2, "ks": [1], "max_tokens": 40}
    config = parse_config({**written, "storage": {"root": str(tmp_path)}})
    run = tmp_path / "varied"
    Pipeline(config).make(("variants",))
    made = current_manifest(str(run), "steps/variants/problems")
    (run / "steps/variants/problems" / made.key / "manifest.json").unlink()  # as if it had been killed at its end
    Pipeline(config).make(("robust", "looks", "looks_evaluated"))
    variants = rows(run, "steps/variants/problems", "problems")
    assert all(answer(row["problem"]) == row["answer"] for row in variants)
    assert len(variants) == made.counts["out"] == current_manifest(str(run), "steps/variants/problems").counts["out"]
    robust = current_manifest(str(run), "steps/robust/robustness")
    assert robust.counts["in"] == 2 * len(variants)
    assert set(robust.facts["by"]) == {"distractor", "order", "numbers"}
    paired = rows(run, "steps/robust/robustness", "robustness")
    assert len(paired) == len(variants) - made.facts["originals"]
    looks = current_manifest(str(run), "steps/looks/reflection")
    verified = rows(run, "verified", "verified")
    boxed = sum("\\boxed" in row["completion"] for row in verified)
    assert looks.counts["in"] == len(verified)
    assert looks.facts["behaviours"]["box"]["samples"] == boxed
    assert current_manifest(str(run), "steps/looks_evaluated/reflection").counts["in"] == 2 * 8
    rounds = current_manifest(str(run), "traces").facts["rounds"]
    assert rounds[0]["problems"] == 40
    assert all(one["asked"] <= 40 for one in rounds[1:])
    assert [one["pairs"] for one in rounds] == sorted(one["pairs"] for one in rounds)
    report = json.loads(Path(build_report(str(run)).json).read_text())
    assert [row["name"] for row in report["robustness"]] == ["robust"]
    assert [row["name"] for row in report["variants"]] == ["variants"]
    assert {row["name"] for row in report["reflections"]} == {"looks", "looks_evaluated"}
