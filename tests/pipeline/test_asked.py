"""What an objective asks of its data and can never have is told before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from problem_sources import write_lines

from redi_ray.cli.preflight import check_sources
from redi_ray.config.load import ConfigError, load_config, parse_config
from redi_ray.data.sources.folders import DataError
from redi_ray.pipeline.graph import GraphError
from redi_ray.pipeline.standard import graph_of

GROUPS = {"do": "groups", "of": "verified"}
EXACT = {"do": "locate", "of": "verified", "locator": {"kind": "exact"}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"redi": {"arms": {"a": {"objective": {"name": "asymre"}}}}}, "a: asymre learns from rewards, and pairs of curated"),
        ({"steps": {"x": {"do": "train", "from": "sft", "on": "verified", "objective": {"name": "advantage"}}}},
         "x: advantage learns from rewards, and pairs of verified have none: learn from a step `groups`"),
        ({"redi": {"train": {"units": "turns"}, "arms": {"redi": {}}}},
         "redi: redi has one score per sequence, and `units: turns`"),
        ({"steps": {"g": GROUPS, "x": {"do": "train", "from": "sft", "on": "g", "objective": {"name": "asymre"},
                                       "train": {"units": "spans"}}}},
         "x: `units: spans` makes a score of each span, and g has none: name a column of spans"),
        ({"steps": {"g": {**GROUPS, "rewards": {"right": 1}}}},
         r"steps\.g\.rewards: there is no 'right'\. It is one of correct, wrong, no_answer"),
        ({"steps": {"own": {"do": "sample", "model": "sft"}, "own_math": {"do": "verify", "of": "own"},
                    "x": {"do": "train", "from": "sft", "on": "own_math", "objective": {"name": "redi"}},
                    "length": {"do": "score", "of": "own_math@1", "scorer": {"name": "length"}},
                    "g": {**GROUPS, "of": "own_math", "scores": {"length": 1}}},
          "repeat": {"steps": ["own", "own_math", "x"], "times": 2, "carry": {"sft": "x"}}},
         "g: `scores: length` is a column of own_math@1, which has other samples than own_math@2"),
        ({"steps": {"g": GROUPS, "x": {"do": "train", "from": "sft", "on": "g", "objective": {"name": "bradley_terry"}}}},
         "x: bradley_terry learns from pairs, and the groups of g are all samples of a problem: set `both_sides: true`"),
        ({"steps": {"g": {**GROUPS, "rewards": {"correct": 1, "wrong": -1}},
                    "x": {"do": "train", "from": "sft", "on": "g", "objective": {"name": "step_bce"}}}},
         "x: step_bce learns rewards between 0 and 1, and `rewards` of g has -1: write 1 for what is right"),
        ({"steps": {"at": EXACT, "g": {**GROUPS, "spans": "at", "labels": {"right": 1, "worng": 0}}}},
         "g: `labels` names worng, and `at` labels its spans right, wrong"),
        ({"steps": {"parts": {"do": "score", "of": "verified", "scorer": {"name": "self_verification"}},
                    "g": {**GROUPS, "spans": "parts", "span_factors": {"V+ of wrong": 2}}}},
         r"g: `span_factors` names V\+ of wrong, and `parts` labels its spans R\+, R-"),
        ({"steps": {"g": {**GROUPS, "rewards": {"correct": 1, "wrong": 0.5}, "both_sides": True, "per_side": 1},
                    "x": {"do": "train", "from": "sft", "on": "g", "objective": {"name": "dpo"}}}},
         "x: dpo holds right samples against wrong ones, and all members of g are on one side"),
        ({"steps": {"s": {"do": "score", "of": "verified", "scorer": {"name": "pass_rate", "samples": "verified"}}}},
         "s: `scorer.samples: verified` answers no problems that were made of samples"),
        ({"generate": {"kind": "vllm", "model": "some/teacher"},
          "steps": {"l": {"do": "logps", "of": "verified", "model": "base"},
                    "g": {**GROUPS, "token_columns": {"sampler_logps": "l"}}}},
         "g: `token_columns.sampler_logps: l` has the log-probs of base, and the samples are those of some/teacher"),
        ({"steps": {"own": {"do": "sample", "model": "sft"}, "math": {"do": "verify", "of": "own"},
                    "l": {"do": "logps", "of": "math", "model": "sft"},
                    "g": {**GROUPS, "of": "math", "per_side": 1, "token_columns": {"sampler_logps": "l"}},
                    "x": {"do": "train", "from": "sft", "on": "g", "objective": {"name": "oreal", "baseline": "none"}}}},
         "x: oreal with `baseline: none` takes rewards for advantages, and those of g are none: set `rewards: {corr"),
        ({"steps": {"own": {"do": "sample", "model": "sft"}, "math": {"do": "verify", "of": "own"},
                    "l": {"do": "logps", "of": "math", "model": "sft"},
                    "g": {**GROUPS, "of": "math", "per_side": 1, "token_columns": {"sampler_logps": "l"}},
                    "x": {"do": "train", "from": "sft", "on": "g", "objective": {"name": "nft"}}}},
         "x: nft takes a problem's share of right samples from its group, and g picks members .`per_side`"),
        ({"steps": {"g": {**GROUPS, "rewards": {"correct": 1, "wrong": 0}, "advantages": "group_mean"},
                    "x": {"do": "train", "from": "sft", "on": "g", "objective": {"name": "advantage"}}}},
         "x: advantage with `baseline: leave_one_out` takes a group's mean from its rewards, and those of g are advantages"),
        ({"steps": {"g": {**GROUPS, "both_sides": True, "per_side": 1},
                    "rm": {"do": "train", "from": "sft", "on": "g", "objective": {"name": "bradley_terry"}},
                    "by": {"do": "score", "of": "verified", "scorer": {"name": "reward", "model": "rm", "at": "steps"}},
                    "h": {**GROUPS, "spans": "by", "labels": {"right": 1, "wrong": 0}}}},
         "h: `labels` asks for labels, and the spans of `by` have numbers alone"),
    ],
    ids=["arm", "step", "units", "spans", "verdict", "round", "pairs", "shares", "labels", "factors", "one side", "posed",
         "sampler", "advantages", "picked", "twice", "ranks"],
)  # fmt: skip
def test_what_data_never_have_is_told_by_the_graph(tmp_path: Path, changes: dict[str, Any], told: str):
    raw = load_config("configs/demo.yaml", [f"storage.root={tmp_path}"]).model_dump(mode="json", exclude_unset=True)
    with pytest.raises((GraphError, ConfigError), match=told):
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


@pytest.mark.parametrize(
    "step",
    [
        {"do": "score", "scorer": {"name": "imported", "value": "score"}},
        {"do": "locate", "locator": {"kind": "imported", "first_error": "score"}},
    ],
    ids=["score", "locate"],
)
def test_numbers_of_a_column_are_looked_at_first(tmp_path: Path, step: dict[str, Any]):
    """Before hours of sampling, not behind them."""
    raw = load_config("configs/demo.yaml", [f"storage.root={tmp_path}"]).model_dump(mode="json", exclude_unset=True)
    (kind,) = step.keys() - {"do"}
    whole = {**step, "of": "verified", kind: {**step[kind], "paths": [f"{tmp_path}/scores.csv"]}}
    config = parse_config({**raw, "steps": {"mine": whole}})
    with pytest.raises(DataError, match=rf"steps\.mine\.{kind}\.paths: .*scores\.csv is not there"):
        check_sources(config)
    (tmp_path / "scores.csv").write_text("trace_id,value\na#0,0.5\n")
    with pytest.raises(
        DataError, match=rf"steps\.mine\.{kind}: none of the first 1 rows .* column `score`: missing or null"
    ):
        check_sources(config)
    (tmp_path / "scores.csv").write_text("trace_id,score\na#0,0.5\n")
    check_sources(config)
