"""Steps on variants in a graph: what fits, what is told before anything starts, and what they are expected to cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redi_ray.cli.preflight import check_sources
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import ConfigError, parse_config
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.graph import GraphError
from redi_ray.pipeline.standard import graph_of

VARIED: dict[str, Any] = {
    "variants": {"do": "perturb", "distractor": {}, "order": {}, "originals": True},
    "own": {"do": "sample", "problems": "variants", "model": "sft"},
    "own_math": {"do": "verify", "of": "own"},
    "robust": {"do": "robustness", "of": "own_math"},
    "looks": {"do": "reflect", "of": "eval/sft"},
}
FILES = {"kind": "files", "paths": ["x.jsonl"]}


def config(steps: dict[str, Any], **sections: Any) -> ExperimentConfig:
    return parse_config({"name": "x", "steps": steps, **sections})


def test_variants_are_sampled_verified_and_held_against_their_originals() -> None:
    graph = graph_of(config(VARIED))
    assert dict(graph["variants"].inputs) == {"problems": "problems"}
    assert graph["robust"].stage == "steps/robust/robustness"
    assert dict(graph["looks"].inputs) == {"of": "eval/sft"}, "what a model said on benchmarks has verdicts, too"
    assert list(graph.steps).index("looks") > list(graph.steps).index("eval/sft")


@pytest.mark.parametrize(
    ("change", "sections", "told"),
    [
        ({"variants": {"do": "perturb", "names": {}, "order": {}}}, {}, "names cannot be changed there; what can: distractor, "),
        ({"variants": {"do": "perturb", "names": {}, "part": "test", "originals": True}},
         {"problems": {"source": FILES}, "generate": {"kind": "none"}, "model": {"init": {"kind": "pretrained", "path": "m"}}},
         "`part: test` is of the built-in worlds"),
        ({"robust": {"do": "robustness", "of": "verified"}}, {}, "answers no variants: make some by a step"),
        ({}, {"generate": {"kind": "vllm", "max_rounds": 2}}, "is sampled in rounds, the oftener the more of it failed"),
        ({"variants": {"do": "perturb", "order": {}}}, {}, "nothing to hold variants against: set its `originals: true`"),
        ({"variants": {"do": "perturb", "order": {}, "traces": "curated"}}, {}, "gives groups, and perturb takes verified"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(change: dict[str, Any], sections: dict[str, Any], told: str) -> None:
    with pytest.raises(GraphError, match=told):
        graph_of(config({**VARIED, **change}, **sections))


def test_originals_may_be_sampled_apart() -> None:
    apart = {
        "variants": {"do": "perturb", "order": {}},
        "robust": {"do": "robustness", "of": "own_math", "to": "verified"},
    }
    assert graph_of(config({**VARIED, **apart}))["robust"].inputs["to"] == "verified"


def test_imported_variants_are_looked_for_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"group_id": "1", "variant": "seed", "problem": "?", "result": 1}) + "\n"
    )
    for path, told in (
        ("rows.jsonl", "no row has a column answer; there are group_id, "),
        ("none.jsonl", "none.jsonl"),
    ):
        steps = {"variants": {"do": "perturb", "imported": {"paths": [str(tmp_path / path)]}}}
        with pytest.raises(DataError, match=told):
            check_sources(config(steps))


def test_a_frontier_is_about_later_rounds() -> None:
    """A step that samples once does not inherit it; one that says so itself is refused."""
    generate = {"kind": "vllm", "max_rounds": 4, "frontier": {}}
    graph = graph_of(config({"own": {"do": "sample", "model": "sft", "max_rounds": 1}}, generate=generate))
    assert graph["own"].sections["generate"].frontier is None
    with pytest.raises((GraphError, ConfigError), match="max_rounds is 1"):
        graph_of(config({"own": {"do": "sample", "model": "sft", "max_rounds": 1, "frontier": {}}}, generate=generate))
