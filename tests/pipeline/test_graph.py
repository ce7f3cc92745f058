"""Steps fit together before anything starts: what does not is told by name, with what would fit."""

from __future__ import annotations

import re
from typing import Any

import pytest

from redi_ray.config.load import ConfigError, load_config, parse_config
from redi_ray.config.yaml_text import read_yaml
from redi_ray.pipeline.graph import Graph, GraphError, Step
from redi_ray.pipeline.standard import graph_of, models_named, scored_models, step_named

SFT2 = {"do": "train", "from": "sft", "on": "hard", "objective": {"name": "sft"}}
STEPS = """
steps:
  hard: {do: select, of: verified, difficulty: {max_rate: 0.75}}
  sft2: {do: train, from: sft, on: hard, objective: {name: sft}, train: {learning_rate: 1e-5}}
  own: {do: sample, model: sft2, samples_per_round: 6}
  own_math: {do: verify, of: own}
  own_pairs: {do: pairs, of: own_math, pairs_per_problem: 2}
  nca: {do: train, from: sft2, on: own_pairs, objective: {name: dpo}}
  soup: {do: merge, of: {sft2: 0.4, nca: 0.6}}
repeat: {steps: [own, own_math, own_pairs, nca], times: 3, carry: {sft2: nca}}
evaluate: {benchmarks: [{name: arithmetic}], models: [base, sft, sft2, nca@1, soup]}
"""


def graph(text: str = STEPS, **changes: Any) -> Graph:
    raw = read_yaml(text) | {"name": "x"}
    for name, value in changes.items():
        raw[name] = raw.get(name, {}) | value if isinstance(value, dict) else value
    return graph_of(parse_config(raw))


def test_the_standard_line_is_what_the_sections_mean() -> None:
    found = graph_of(load_config("configs/demo.yaml"))
    assert [(step.name, step.kind) for step in found] == [
        ("problems", "problems"), ("base", "base"), ("traces", "sample"), ("verified", "verify"), ("curated", "pairs"),
        ("sft", "train"), ("alpha0", "train"), ("redi", "train"),
        *((f"eval/{model}", "evaluate") for model in ("base", "sft", "alpha0", "redi")),
    ]  # fmt: skip
    assert dict(found["redi"].inputs) == {"start": "sft", "groups": "curated", "base": "base"}


def test_named_steps_and_rounds() -> None:
    """A round takes what the one before has made; elsewhere a name means its last round."""
    found = graph()
    assert found["nca@1"].inputs["start"] == "sft2"
    assert found["own@2"].inputs["model"] == found["nca@2"].inputs["start"] == "nca@1"
    assert found["own_pairs@3"].inputs["of"] == "own_math@3"
    assert dict(found["soup"].inputs) == {"sft2": "sft2", "nca@3": "nca@3"}
    assert found["own@1"].sections["generate"].samples_per_round == 6
    assert found["own_pairs@1"].sections["curate"].pairs_per_problem == 2
    assert found["sft2"].settings.settings.learning_rate == 1e-5
    assert found["sft2"].inputs["groups"] == "sft2-pairs", "verified traces are curated on the way"
    assert {step.inputs["model"] for step in found if step.gives == "scores"} == {
        "base",
        "sft",
        "sft2",
        "nca@1",
        "soup",
    }
    needed = [step.name for step in found.needed_for(["own_math@1"])]
    assert needed[-1] == "own_math@1"
    assert "nca@1" not in needed


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"steps": {"own": {"do": "sample", "model": "sft3"}}},
            r"own@1: `model: sft3` is no step; did you mean sft\?; what would fit: base, sft, redi, sft2\n",
        ),
        (
            {"steps": {"own_math": {"do": "verify", "of": "verified"}}},
            r"own_math@1: `of: verified` gives verified, and verify takes traces; what would fit: traces, own@1",
        ),
        ({"steps": {"sft2": {"do": "merge", "of": {"soup": 1}}}}, "own output; use `repeat`"),
        ({"steps": {"sft": {"do": "merge", "of": {"base": 1}}}}, "steps.sft: the name is that of the section `sft`; give"),
        ({"steps": {"redi": {"do": "verify", "of": "traces"}}}, "steps.redi: the name is that of the arm redi.arms.redi"),
        ({"steps": {"dev": {"do": "sample", "model": "sft"}}}, "steps.dev: the name is that of the run's own dev"),
        ({"steps": {"sft2-pairs": {"do": "merge", "of": {"base": 1}}}},
         "two steps have this name, one of kind pairs that steps.sft2 needs and one of kind merge"),
        ({"steps": {"sft2": {**SFT2, "on": "sft"}}},
         "sft2: `on: sft` gives model, and train takes groups or verified; what would fit: verified, curated, hard$"),
        ({"steps": {"sft2": {**SFT2, "on": "verified@1"}}}, "sft2: `on: verified@1` is no step; did you mean verified?"),
        ({"steps": {"sft2": {**SFT2, "on": "hard@1"}}}, "sft2: `on: hard@1` is no step; did you mean hard?"),
        ({"steps": {"sft2": {**SFT2, "from": "hard"}}}, "sft2: `from: hard` gives verified, and train takes model"),
        ({"steps": {"soup": {"do": "merge", "of": {"sft": 1, "traces": 1}}}},
         "soup: `of: traces` gives traces, and merge takes model"),
        ({"repeat": {"steps": ["own", "own_maths"]}}, "repeat: own_maths.* is no repeated step"),
        ({"repeat": {"carry": {"sft": "nca"}}}, r"`carry` replaces sft, which none of .* takes.* they take .*sft2"),
        ({"repeat": {"carry": {"sft2": "soup"}}}, "repeat: soup is no repeated step"),
        ({"evaluate": {"models": ["sft4"]}}, "eval/sft4: `model: sft4` is no step"),
        ({"steps": {"a": {"do": "merge", "of": {"c": 1}}, "b": {"do": "merge", "of": {"a": 1}},
                    "c": {"do": "merge", "of": {"b": 1}}}}, "a <- c <- b <- a: .*own output; use `repeat`"),
        ({"steps": {"mid": {"do": "merge", "of": {"nca": 1}}, "own": {"do": "sample", "model": "mid"}}},
         "own@1 <- mid <- nca@3.*made between two of them belongs to `repeat.steps`"),
        ({"repeat": {"steps": ["own", "own", "own_math", "own_pairs", "nca"]}}, "repeat: `steps` names own twice"),
        ({"repeat": {"carry": {"sft2": "nca", "own_pairs": "own_pairs"}}},
         "repeat: `carry` replaces own_pairs, which each round makes itself"),
        ({"evaluate": {"models": ["nca", "sft", "nca@3"]}}, "evaluate.models: nca, nca@3 name one model; leave one"),
    ],
    ids=["unknown", "type", "circle", "name", "arm", "sometimes", "made", "on", "no round", "round of a step", "from", "merge",
         "round", "idle", "carried", "scored", "direction", "between rounds", "twice", "own", "one model"],
)  # fmt: skip
def test_wrong_graphs_are_refused_by_name(change: dict[str, Any], told: str) -> None:
    with pytest.raises(GraphError, match=told):
        graph(**change)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"do": "sample", "model": "sft", "samples_per_rond": 3},
         r"steps\.x\.samples_per_rond: unknown key\. Did you mean `samples_per_round`\? Valid keys: do, problems, model"),
        ({"do": "sample", "model": "sft", "kind": "endpoint"},
         r"steps\.x: kind: a step samples from a model of the graph, with vLLM; an endpoint belongs to `generate`"),
        ({"do": "verify", "of": "traces", "judge": {"modle": "x"}},
         r"steps\.x\.judge\.modle: unknown key\. Did you mean `model`"),
        ({"do": "train", "frm": "sft", "on": "curated", "objective": {"name": "dpo"}},
         r"steps\.x\.from: it must be set\n.*steps\.x\.frm: unknown key\. Did you mean `from`\? Valid keys: do, from, on"),
        ({"do": "train", "from": "sft", "on": "curated", "objective": {"name": "dpo"}, "train": {"epoch": 1}},
         r"steps\.x\.train\.epoch: unknown key\. Did you mean `epochs`"),
        (3, r"steps\.x: it must be a section, .*got 3"),
        ({"of": "sft"}, "steps.x: it needs `do`, one of .*merge, mix, model, openings, .*rectify, .*sample"),
        ({"do": "train", "from": "sft", "on": "curated", "objective": {"name": "dpo"}, "train": {"epochs": 0}},
         "steps.x.train: .*epochs must be >= 1"),
        ({"do": "merge", "of": {"sft": 0}}, "must add up to more than 0"),
        ({"do": "merge", "of": {"sft": 1, "base": float("nan")}}, r"steps\.x\.of\.base: Input should be a finite number"),
        ({"do": "merge", "of": {"sft": float("inf")}}, r"steps\.x\.of\.sft: Input should be a finite number"),
        ({"do": "fly"}, r"steps\.x\.do: there is no 'fly'\. It is one of .*merge, mix, model, openings, .*rectify, .*sample"),
        ({"do": "select", "of": "verified", "difficulty": {"buckets": [{"up_to": 1}]}}, "belong to a step `pairs`"),
    ],
)  # fmt: skip
def test_settings_of_a_step_are_checked_like_any_section(step: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        graph("{}", steps={"x": step})
    assert re.search(told, str(error.value)), error.value


def test_a_step_nobody_makes_and_two_of_one_name() -> None:
    with pytest.raises(GraphError) as error:
        Graph([Step("a", "verify", {"of": "b"}), Step("a", "problems"), Step("c", "verify", {"of": "a"})])
    assert [
        line for line in ("a: two steps have this name", "a: `of: b` is no step") if line not in str(error.value)
    ] == []


def test_what_a_training_learns_from_is_what_stands_there_in_its_round() -> None:
    """A round of verified traces is curated on the way, as a name without its round is."""
    steps = {
        "own": {"do": "sample", "model": "sft"},
        "judged": {"do": "verify", "of": "own"},
        "a": {**SFT2, "on": "verified"},
        "b": {**SFT2, "on": "judged@1"},
    }
    repeat = {"steps": ["own", "judged", "a"], "times": 2, "carry": {"sft": "a", "verified": "judged"}}
    found = graph_of(parse_config({"name": "x", "steps": steps, "repeat": repeat}))
    assert found["a@1-pairs"].inputs["of"] == "verified"
    assert found["a@2-pairs"].inputs["of"] == found["b-pairs"].inputs["of"] == "judged@1"


def test_what_others_begin_with_is_kept_in_float32() -> None:
    """An arm's export is narrower on a GPU, and a training that goes on from it would begin with rounded weights."""
    on = {"do": "train", "from": "redi", "on": "curated", "objective": {"name": "dpo"}}
    alone, begun = graph("{}"), graph("{}", steps={"more": on})
    assert [found["redi"].settings.starts_others for found in (alone, begun)] == [False, True]
    assert graph("{}", steps={"soup": {"do": "merge", "of": {"sft": 1, "redi": 1}}})["redi"].settings.starts_others
    assert alone["sft"].settings.starts_others


def test_nothing_to_score_is_told_by_what_lacks() -> None:
    for lacking in ("models", "benchmarks"):
        config = parse_config({"name": "x", "evaluate": {lacking: []}})
        with pytest.raises(GraphError, match=rf"evaluate\.{lacking} is empty"):
            scored_models(config, graph_of(config))


def test_a_bare_name_means_the_last_round() -> None:
    raw = read_yaml(STEPS) | {"name": "x"}
    config = parse_config(raw)
    found = graph_of(config)
    assert [step_named(found, name) for name in ("own", "own@1", "soup")] == ["own@3", "own@1", "soup"]
    assert models_named(config, found, ["nca", "nca@2", "sft"]) == ["nca@3", "nca@2", "sft"]
    with pytest.raises(GraphError, match=r"no step named own@4; did you mean own@\d\?"):
        step_named(found, "own@4")
    with pytest.raises(GraphError, match="no step named eval/nca"):  # whose first round alone is scored
        step_named(found, "eval/nca")
