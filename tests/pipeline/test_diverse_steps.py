"""A selection of problems that differ in a graph: its inputs, what is told before anything starts, and a run in which it stands
beside its control."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from processes import rows

from redi_ray.cli.preflight import preflight
from redi_ray.config.load import parse_config
from redi_ray.errors import UserError
from redi_ray.pipeline.graph import GraphError
from redi_ray.pipeline.runner import Pipeline
from redi_ray.pipeline.standard import graph_of
from redi_ray.store.manifests import current_manifest

STEPS: dict[str, Any] = {
    "spread": {"do": "select", "of": "verified", "diverse": {"problems": 6, "by": "farthest", "seed": 5}},
    "chance": {"do": "select", "of": "verified", "random": {"like": "spread", "seed": 5}},
    "again": {"do": "select", "of": "verified", "diverse": {"like": "chance"}},
}


def test_what_it_takes_and_what_does_not_fit() -> None:
    graph = graph_of(parse_config({"name": "x", "steps": STEPS}))
    assert dict(graph["spread"].inputs) == {"of": "verified"}
    assert dict(graph["again"].inputs) == {"of": "verified", "like": "chance"}
    with pytest.raises(GraphError, match="`like: base` gives model, and select takes verified"):
        graph_of(
            parse_config(
                {"name": "x", "steps": {"spread": {"do": "select", "of": "verified", "diverse": {"like": "base"}}}}
            )
        )


def test_a_folder_without_a_model_is_told_first(tmp_path: Path) -> None:
    diverse = {"problems": 3, "embedder": {"name": "model", "path": str(tmp_path)}}
    config = parse_config({"name": "x", "steps": {"spread": {"do": "select", "of": "verified", "diverse": diverse}}})
    with pytest.raises(UserError, match=r"steps\.spread\.diverse\.embedder\.path: .* holds no config\.json"):
        preflight(config)


@pytest.mark.slow
def test_selected_problems_and_their_control(ray_session: None, tmp_path: Path) -> None:
    """Ten problems of one kind, and five others: each of these is among the six; the control has as many."""
    texts = [f"A shop sold {n} eggs, then {n + 2} more. How many?" for n in range(10)]
    texts += ["Ropes are cut.", "Two lamps shine.", "Boats sink slowly.", "Tents leak.", "Nine flutes play."]
    lines = [
        json.dumps({"problem": text, "answer": "3", "completion": f"<think>so</think>\\boxed{{{3 + wrong}}}"})
        for text in texts
        for wrong in (0, 1)
    ]
    (tmp_path / "traces.jsonl").write_text("\n".join(lines))
    columns = {"problem": "problem", "answer": "answer", "completion": "completion"}
    config = parse_config(
        {
            "name": "spread",
            "storage": {"root": str(tmp_path)},
            "problems": {"source": {"kind": "files", "paths": [str(tmp_path / "traces.jsonl")], "columns": columns}},
            "generate": {"kind": "import"},
            "model": {"init": {"kind": "pretrained", "path": "nobody/asks"}},
            "steps": STEPS,
            "redi": {"arms": {}},
            "evaluate": {"benchmarks": []},
            "resources": {"verify_workers": 1, "curate_workers": 1},
        }
    )
    Pipeline(config).make(("again",))
    run = tmp_path / "spread"
    kept = {name: rows(run, f"steps/{name}/verified", "verified") for name in STEPS}
    assert {name: len({row["problem_id"] for row in found}) for name, found in kept.items()} == dict.fromkeys(STEPS, 6)
    assert set(texts[10:]) <= {row["problem"] for row in kept["spread"]}
    made = current_manifest(str(run), "steps/spread/verified")
    assert made.dropped == {"not_diverse": 18}
    assert made.counts == {"in": 30, "out": 12}
    told = made.facts["diversity"]
    assert told["selected"]["mean_nearest"] > told["random"]["mean_nearest"]
