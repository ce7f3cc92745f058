"""What an objective asks of its data and can never have is told before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from problem_sources import write_lines

from redi_ray.cli.entry import check_sources
from redi_ray.config.load import load_config, parse_config
from redi_ray.data.sources.folders import DataError
from redi_ray.pipeline.graph import GraphError
from redi_ray.pipeline.standard import graph_of


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"redi": {"arms": {"a": {"objective": {"name": "asymre"}}}}}, "a: asymre learns from rewards, and pairs of curated"),
        ({"steps": {"x": {"do": "train", "from": "sft", "on": "verified", "objective": {"name": "advantage"}}}},
         "x: advantage learns from rewards, and pairs of verified have none: learn from a step `groups`"),
        ({"redi": {"train": {"units": "turns"}, "arms": {"redi": {}}}},
         "redi: redi has one score per sequence, and `units: turns`"),
    ],
    ids=["arm", "step", "units"],
)  # fmt: skip
def test_rewards_and_units_that_pairs_never_have(tmp_path: Path, changes: dict[str, Any], told: str):
    raw = load_config("configs/demo.yaml", [f"storage.root={tmp_path}"]).model_dump(mode="json", exclude_unset=True)
    with pytest.raises(GraphError, match=told):
        graph_of(parse_config({**raw, **changes}))


SETS: dict[str, dict[str, Any]] = {
    "sft": {"prompt": "q", "completion": "a"}, "labelled": {"prompt": "q", "completion": "a", "label": True},
    "prefs": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "scored": {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 0},
    "rollouts": {"prompt": "q", "response": "a", "reward": 1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "objective", "told"),
    [
        ("sft", "redi", r"steps\.x: redi learns from pairs, and a set of answers has none .*take sft"),
        ("labelled", "dpo", r"steps\.x: dpo learns from pairs, and a set of labelled answers has none .*take kto"),
        ("prefs", "asymre", r"asymre learns from rewards, and a preference set has none.*columns\.score_chosen and"),
        ("sft", "advantage", r"advantage learns from rewards, and a set of answers has none.*columns\.reward"),
        ("prefs", "redi", ""), ("scored", "asymre", ""), ("rollouts", "advantage", ""), ("sft", "dph", ""),
        ("labelled", "kto", ""),
    ],
)  # fmt: skip
def test_what_a_set_lacks_is_told_by_its_first_rows(tmp_path: Path, shape: str, objective: str, told: str):
    path = write_lines(tmp_path / "set.jsonl", [SETS[shape]])
    raw = {
        "name": "x",
        "storage": {"root": str(tmp_path)},
        "steps": {
            "mine": {"do": "import", "source": {"kind": "files", "paths": [path]}},
            "x": {"do": "train", "from": "base", "on": "mine", "objective": {"name": objective}},
        },
        "model": {"init": {"kind": "scratch"}, "prompt": {"prefix": ""}},
    }
    config = parse_config(raw)
    if not told:
        check_sources(config)
        return
    with pytest.raises(DataError, match=told):
        check_sources(config)
