"""Rectifying, contrasting and weighing tokens as named steps: refused by name where they do not fit, and run for real."""

from __future__ import annotations

from typing import Any

import pytest

from redi_ray.config.load import ConfigError, parse_config
from redi_ray.pipeline.graph import Graph, GraphError
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import states
from redi_ray.stages.run import Run

SPANS = {"do": "locate", "of": "own_math", "locator": {"kind": "exact"}}
RECTIFY = {"do": "rectify", "of": "own_math", "at": "marked", "model": "sft", "samples_per_round": 5, "max_rounds": 1}
CONTRAST = {"do": "contrast", "of": "own_math", "right": "sft", "wrong": "wrongly"}
CRITICAL = {"do": "critical", "of": "own_math", "column": "critical", "model": "sft", "samples_per_round": 8}
STEPS: dict[str, Any] = {
    "own": {"do": "sample", "model": "sft"},
    "own_math": {"do": "verify", "of": "own"},
    "marked": SPANS,
    "steps": RECTIFY,
    "step_dpo": {"do": "train", "from": "sft", "on": "steps", "objective": {"name": "dpo"}},
    "often": {"do": "groups", "of": "own_math", "rewards": {"wrong": 1}, "least": 1, "frequent_answers": 0.5},
    "wrongly": {"do": "train", "from": "base", "on": "often", "objective": {"name": "sft"}},
    "critical": CONTRAST,
    "weighed": {"do": "pairs", "of": "own_math", "weights": {"column": "critical"}},
    "cdpo": {"do": "train", "from": "sft", "on": "weighed", "objective": {"name": "dpo"}},
    "judged": CRITICAL,
    "rollouts": {"do": "groups", "of": "own_math", "weights": {"column": "critical", "side": "both"}},
    "logps": {"do": "logps", "of": "own", "model": "sft"},
    "sampled": {"do": "groups", "of": "own_math", "token_columns": {"sampler_logps": "logps"}},
    "topr": {"do": "train", "from": "sft", "on": "sampled", "objective": {"name": "topr"}},
    "kept": {"do": "sample", "model": "sft", "logprobs": True},
    "kept_math": {"do": "verify", "of": "kept"},
    "some": {"do": "select", "of": "kept_math", "random": {"problems": 3}},
    "stored": {"do": "logps", "of": "some"},
    "scored": {"do": "logps", "of": "some", "model": "sft"},
    "agree": {"do": "check", "of": "some", "column": "stored", "to": "scored"},
    "grouped": {"do": "groups", "of": "own_math", "least": 1},
    "asked": {"do": "examine", "of": "grouped"},
    "said": {"do": "sample", "problems": "asked", "model": "sft"},
    "said_math": {"do": "verify", "of": "said"},
    "texts": {"do": "self_verify", "of": "grouped", "checks": "said_math"},
    "verifying": {"do": "train", "from": "sft", "on": "texts", "objective": {"name": "sft", "kl_vocabulary": 0.1},
                  "train": {"outside_spans": 1}},
}  # fmt: skip


def config(**steps: Any) -> Any:
    raw = {"name": "x", "problems": {"source": {"kind": "arithmetic"}}, "model": {"init": {"kind": "arithmetic"}}}
    return parse_config({**raw, "generate": {"kind": "vllm", "model": "base"}, "steps": STEPS | steps})


def graph(**steps: Any) -> Graph:
    return graph_of(config(**steps))


def test_a_rectifying_step_brings_what_it_needs():
    """It samples on and verifies as any step does, with settings of its own; a training reads its pairs as they are."""
    found = graph()
    assert found["steps-starts"].inputs == {"of": "own_math", "at": "marked", "base": "base"}
    assert found["steps-samples"].inputs == {"problems": "steps-starts", "model": "sft"}
    assert found["steps-samples"].sections["generate"].samples_per_round == 5
    assert found["steps-verified"].inputs == {"of": "steps-samples"}
    assert found["steps"].inputs == {"of": "steps-starts", "right": "steps-verified"}
    assert (found["steps"].gives, found["critical"].gives) == ("groups", "column")
    assert found["steps"].settings.form == "equations", "as the wrong step was found"
    assert found["step_dpo"].inputs["groups"] == "steps"
    assert found["judged-starts"].inputs == {"of": "own_math", "base": "base"}
    assert found["judged-samples"].sections["generate"].max_rounds == 1, "every token has as many continuations"
    assert found["judged"].inputs == {
        "of": "judged-starts", "right": "judged-verified", "column": "critical", "base": "base"
    }  # fmt: skip
    assert found["weighed"].inputs["weights"] == found["rollouts"].inputs["weights"] == "critical"
    assert found["logps"].inputs == {"of": "own", "model": "sft", "base": "base"}
    assert found["stored"].inputs == {"of": "some", "stored": "kept", "base": "base"}, "as they were drawn"
    assert found["agree"].inputs == {"of": "some", "column": "stored", "to": "scored"}
    assert found["sampled"].inputs == {"of": "own_math", "tokens sampler_logps": "logps", "base": "base"}


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ({"steps": {**RECTIFY, "at": "critical"}}, "steps: `at: critical` is a column at grain token, and span is needed"),
        ({"steps": {**RECTIFY, "of": "verified"}}, "`at: marked` is a column of own_math, which has other samples than verified"),
        ({"steps": {**RECTIFY, "model": "own"}}, "steps: `model: own` gives traces, and rectify takes model"),
        ({"steps": {**RECTIFY, "at": "markt"}}, "steps: `at: markt` is no step; did you mean marked"),
        ({"steps": {**RECTIFY, "at": "long"}, "long": {"do": "score", "of": "own_math", "scorer": {"name": "length"}}},
         "steps: `at: long` is a column at grain row, and span is needed there"),
        ({"weighed": {**STEPS["weighed"], "weights": {"column": "marked"}}},
         "weighed: `weights.column: marked` is a column at grain span, and token is needed there"),
        ({"weighed": {**STEPS["weighed"], "of": "verified"}}, "which has other samples than verified"),
        ({"rollouts": {**STEPS["rollouts"], "weights": {"column": "own"}}},
         "rollouts: `weights.column: own` gives traces, and groups takes column"),
        ({"critical": {**CONTRAST, "of": "own"}}, "critical: `of: own` gives traces, and contrast takes verified"),
        ({"steps-samples": STEPS["own"]}, "two steps have this name"),
        ({"judged": {**CRITICAL, "column": "marked"}}, "judged: `column: marked` is a column at grain span, and token is needed"),
        ({"judged": {**CRITICAL, "of": "verified"}}, "judged: `column: critical` is a column of own_math, which has other"),
        ({"steps": {**RECTIFY, "labels": ["wrong", "bad"]}}, "steps: `labels` names bad, and `marked` labels its spans right"),
        ({"weighed": {**STEPS["weighed"], "weights": {"column": "critical", "side": "both"}},
          "cdpo": {**STEPS["cdpo"], "objective": {"name": "sft"}}},
         "cdpo: sft learns from the positives of weighed, whose tokens are not weighed"),
        ({"logps": {**STEPS["logps"], "model": "base"}},
         "sampled: `token_columns.sampler_logps: logps` has the log-probs of base, and the samples are those of sft"),
        ({"logps": {**STEPS["logps"], "of": "traces"}},
         "`token_columns.sampler_logps: logps` is a column of traces, which has other samples than own_math"),
        ({"sampled": {**STEPS["sampled"], "token_columns": {"sampler_logps": "marked"}}},
         "sampled: `token_columns.sampler_logps: marked` is a column at grain span, and token is needed there"),
        ({"kept": STEPS["own"]},
         "stored: no log-probs were stored of kept, .*: set `steps.kept.logprobs: true`, or name in `model`"),
        ({"stored": {"do": "logps", "of": "verified"}, "agree": STEPS["own"]}, "of traces, .* set `generate.logprobs: true`"),
        ({"agree": {**STEPS["agree"], "to": "logps"}},
         "agree: `to: logps` is a column of own, which has other samples than some"),
        ({"verifying": {**STEPS["verifying"], "train": {}}},
         "verifying: the spans of texts are the wrong attempts, .*outside_spans: 1"),
        ({"texts": {**STEPS["texts"], "checks": "own_math"}},
         "texts: `checks: own_math` verifies no samples of grouped: make it of a"),
        ({"texts": {**STEPS["texts"], "of": "often"}}, "texts: `checks: said_math` verifies no samples of often"),
        ({"agree": {**STEPS["agree"], "column": "marked"}}, "agree: `column: marked` is a column at grain span, and token"),
        ({"topr": {**STEPS["topr"], "on": "rollouts"}}, "topr: topr reads sampler_logps of each token, and rollouts has none"),
        ({"topr": {**STEPS["topr"], "objective": {"name": "oreal", "token_rewards": True}}},
         "topr: oreal reads reward_mean of each token, and sampled has none"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(steps: dict[str, Any], told: str):
    with pytest.raises(GraphError, match=told):
        graph(**steps)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({**RECTIFY, "samples_per_rund": 3}, r"steps\.x\.samples_per_rund"),
        ({**RECTIFY, "kind": "endpoint"}, "a step samples from a model of the graph"),
        ({**RECTIFY, "max_pairs": 0}, "max_pairs"),
        ({**RECTIFY, "tools": {"python": {}}}, "goes on in the turn that went wrong, without tools"),
        ({**CRITICAL, "max_rounds": 2}, "in one round; set samples_per_round"),
        ({**CRITICAL, "max_sample": 3}, r"steps\.x\.max_sample"),
        ({**CONTRAST, "beta": 0}, "beta"),
        ({**CONTRAST, "verdicts": []}, "name at least one verdict"),
        ({**STEPS["weighed"], "weights": {"column": "critical", "use": "square"}}, "use"),
    ],
)
def test_settings_that_are_wrong_are_told_with_their_place(step: dict[str, Any], told: str):
    with pytest.raises((ConfigError, GraphError), match=told):
        graph(x=step)


def keys(**steps: Any) -> dict[str, str | None]:
    made = config(**steps)
    return {state.step.name: state.key for state in states(graph_of(made), Run.of(made))}


@pytest.mark.parametrize(
    ("name", "change", "anew"),
    [
        ("steps", {"max_pairs": 3}, {"steps", "step_dpo"}),
        ("steps", {"form": "sentences"}, {"steps", "step_dpo"}),
        ("steps", {"labels": ["wrong"]}, {"steps-starts", "steps-samples", "steps-verified", "steps", "step_dpo"}),
        (
            "steps",
            {"verdicts": ["no_answer"]},
            {"steps-starts", "steps-samples", "steps-verified", "steps", "step_dpo"},
        ),
        ("steps", {"samples_per_round": 6}, {"steps-samples", "steps-verified", "steps", "step_dpo"}),
        ("critical", {"beta": 0.5}, {"critical", "weighed", "cdpo", "rollouts", "judged"}),
        ("critical", {"verdicts": ["wrong", "no_answer"]}, {"critical", "weighed", "cdpo", "rollouts", "judged"}),
        ("judged", {"later": 1}, {"judged"}),
        ("judged", {"max_samples": 9}, {"judged-starts", "judged-samples", "judged-verified", "judged"}),
        ("judged", {"temperature": 0.3}, {"judged-samples", "judged-verified", "judged"}),
        ("weighed", {"weights": {"column": "critical", "use": "value"}}, {"weighed", "cdpo"}),
        ("weighed", {"weights": {"column": "critical", "side": "both"}}, {"weighed", "cdpo"}),
        ("often", {"frequent_answers": 0.6}, {"often", "wrongly", "critical", "weighed", "cdpo", "rollouts", "judged"}),
    ],
)
def test_a_setting_makes_anew_what_it_decides_and_nothing_else(name: str, change: dict[str, Any], anew: set[str]):
    before, after = keys(), keys(**{name: STEPS[name] | change})
    assert None not in before.values()
    found = {step for step in before if before[step] != after[step]}
    assert {step for step in found if not step.startswith("eval/")} == anew
