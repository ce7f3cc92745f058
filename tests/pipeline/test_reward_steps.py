"""Reward models in the graph: where they fit, and what is said, before Ray, where they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redi_ray.cli.preflight import check_sources
from redi_ray.config.load import ConfigError, parse_config
from redi_ray.data.score.reward import look_at_head
from redi_ray.errors import UserError
from redi_ray.pipeline.graph import GraphError
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import states
from redi_ray.stages.run import Run

SCORER = {"name": "reward", "model": "rm"}
STEPS: dict[str, Any] = {
    "rm": {"do": "train", "from": "sft", "on": "curated", "objective": {"name": "bradley_terry"}},
    "value": {"do": "score", "of": "verified", "scorer": SCORER},
    "located": {"do": "locate", "of": "verified", "locator": {"kind": "exact"}, "ask": "all"},
    "labelled": {"do": "groups", "of": "verified", "spans": "located", "labels": {"right": 1, "wrong": 0}, "least": 1},
    "prm": {"do": "train", "from": "rm", "on": "labelled", "objective": {"name": "step_bce"}, "train": {"units": "spans"}},
}  # fmt: skip


def config(**steps: Any) -> Any:
    return parse_config({
        "name": "x",
        "problems": {"source": {"kind": "arithmetic", "num_problems": 4}},
        "model": {"init": {"kind": "arithmetic"}},
        "steps": {**STEPS, **steps},
        "evaluate": {"benchmarks": [{"name": "arithmetic"}]},
        "resources": {"engine": {"device": "cpu"}},
    })  # fmt: skip


def test_a_reward_model_is_scored_with_and_not_evaluated() -> None:
    graph = graph_of(config())
    assert dict(graph["value"].inputs) == {"of": "verified", "reward": "rm"}
    assert not {"eval/rm", "eval/prm"} & graph.steps.keys()
    assert "eval/sft" in graph.steps


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({"own": {"do": "sample", "model": "rm"}}, "`model: rm` is a reward model"),
        ({"more": {"do": "train", "from": "prm", "on": "curated", "objective": {"name": "dpo"}}}, "`from: prm` is a reward"),
        ({"soup": {"do": "merge", "of": {"sft": 1, "rm": 1}}}, "`of: rm` is a reward model"),
        ({"value": {**STEPS["value"], "scorer": {**SCORER, "model": "sft"}}}, "`scorer.model: sft` is a language model.*rm, prm"),
        ({"value": {**STEPS["value"], "scorer": {**SCORER, "model": "rn"}}}, "`scorer.model: rn` is no step; what would fit"),
        ({"rm": {**STEPS["rm"], "train": {"probe": {"every": 5}}}}, "a probe asks for answers"),
        ({"labelled": {**STEPS["labelled"], "labels": None}}, r"labels: \{right: 1, wrong: 0\}"),
        ({"prm": {**STEPS["prm"], "on": "curated"}}, "step_bce learns from rewards"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(steps: dict[str, Any], said: str) -> None:
    with pytest.raises((GraphError, ConfigError), match=said):
        graph_of(config(**steps))


def evaluated(model: str, **steps: Any) -> Any:
    return parse_config(config(**steps).model_dump(mode="json") | {
        "evaluate": {"models": ["sft"], "benchmarks": [{"name": "arithmetic"}], "rank_by": {**SCORER, "model": model}}
    })  # fmt: skip


def test_an_evaluation_chooses_by_a_reward_model(tmp_path: Path) -> None:
    """It is one of its inputs, so that another one makes its scores anew; what is none is refused."""
    graph = graph_of(evaluated("rm"))
    assert dict(graph["eval/sft"].inputs) == {"model": "sft", "problems": "problems", "rank_by": "rm"}

    def key(made: Any) -> str | None:
        return next(s.key for s in states(graph_of(made), Run.of(made)) if s.step.name == "eval/sft")

    other = {**STEPS["rm"], "objective": {"name": "bradley_terry", "margin": 1}}
    assert len({key(evaluated("rm")), key(evaluated("prm")), key(evaluated("rm", rm=other))}) == 3
    for name, said in (
        ("sft", r"eval/sft: `evaluate.rank_by.model: sft` is a language model.*rm, prm"),
        ("rn", r"eval/sft: `evaluate.rank_by.model: rn` is no step; what would fit: .*rm, prm"),
    ):
        with pytest.raises(GraphError, match=said):
            graph_of(evaluated(name))
    with pytest.raises(UserError, match=r"evaluate\.rank_by\.model: .* holds no model"):
        check_sources(evaluated(f"{tmp_path}/nothing"))


def test_arms_are_no_reward_models() -> None:
    with pytest.raises(ConfigError, match="bradley_terry trains a reward model"):
        parse_config({"name": "x", "redi": {"arms": {"rm": {"objective": {"name": "bradley_terry"}}}}})


def test_scores_are_made_anew_exactly_when_they_would_differ() -> None:
    """By what trained the model, and by what is asked of it."""

    def key(**steps: Any) -> str | None:
        made = config(**steps)
        return next(s.key for s in states(graph_of(made), Run.of(made)) if s.step.name == "value")

    other = {"rm": {**STEPS["rm"], "objective": {"name": "bradley_terry", "margin": 1}}}
    at = {"value": {**STEPS["value"], "scorer": {**SCORER, "at": "steps"}}}
    assert len({key(), key(**other), key(**at)}) == 3


def test_a_folder_must_hold_one_label(tmp_path: Path) -> None:
    for told, said in (
        (None, "holds no model"),
        ({"architectures": ["Qwen2ForCausalLM"]}, "no scalar head"),
        ({"architectures": ["Qwen2ForSequenceClassification"]}, "2 labels"),
    ):
        if told is not None:
            (tmp_path / "config.json").write_text(json.dumps(told))
        with pytest.raises(UserError, match=said):
            look_at_head(str(tmp_path), "steps.value.scorer.model")
    one = {"architectures": ["Qwen2ForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    (tmp_path / "config.json").write_text(json.dumps(one))
    look_at_head(str(tmp_path), "steps.value.scorer.model")
