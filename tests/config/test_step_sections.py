"""Named steps are held to what the sections are held to: votes, judges, probes, workers, lengths."""

from __future__ import annotations

from typing import Any

import pytest

from redi_ray.cli.entry import model_problems, preflight
from redi_ray.config.load import ConfigError, parse_config
from redi_ray.errors import UserError

OWN = {"do": "sample", "model": "sft"}
IMITATE = {"do": "train", "from": "sft", "on": "curated", "objective": {"name": "sft"}}


def with_steps(**steps: Any) -> Any:
    return parse_config({"name": "x", "steps": steps, "resources": {"trainer": {"num_workers": 2}}})


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"do": "verify", "of": "own", "votes": ["math_verify", "judge"]},
         r"steps\.a\.votes holds judge, but nothing casts its votes: set steps\.a\.judge"),
        ({"do": "verify", "of": "own", "votes": ["label"]}, r"steps\.a\.votes must hold math_verify"),
        ({**IMITATE, "train": {"batch_size": 1}}, r"num_workers 2 is larger than steps\.a\.train\.batch_size 1"),
    ],
)  # fmt: skip
def test_a_step_is_held_to_what_its_section_is(step: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        with_steps(own=OWN, a=step)


def test_a_probe_of_a_step_needs_development_problems() -> None:
    steps = {"a": {**IMITATE, "train": {"probe": {"every": 5}}}}
    source = {"kind": "arithmetic", "num_dev": 0}
    with pytest.raises(ConfigError, match=r"a probe is set for a, but problems\.source\.num_dev is 0"):
        parse_config({"name": "x", "steps": steps, "problems": {"source": source}})


def test_a_judge_of_a_step_must_be_there() -> None:
    judge = {"do": "verify", "of": "own", "votes": ["judge"], "judge": {"model": "./no/such/judge"}}
    with pytest.raises(UserError, match=r"steps\.a\.judge\.model: \./no/such/judge holds no config"):
        preflight(with_steps(own=OWN, a=judge))


@pytest.mark.parametrize("kind", ["judge", "step_judge"])
def test_a_judge_of_steps_must_be_there(kind: str) -> None:
    located = {"do": "locate", "of": "verified", "locator": {"kind": kind, "model": "./no/such/judge"}}
    with pytest.raises(UserError, match=r"steps\.a\.locator\.model: \./no/such/judge holds no config"):
        preflight(with_steps(a=located))


def test_words_that_the_built_in_model_cannot_write_are_told_before_ray() -> None:
    asked = {"do": "ask", "of": "verified", "at": "a"}
    exact = {"do": "locate", "of": "verified", "locator": {"kind": "exact"}}
    with pytest.raises(UserError, match=r"steps\.b\.question: behind 'Is the step .* which has no letters"):
        preflight(with_steps(a=exact, b=asked))
    judged = {"do": "locate", "of": "verified", "model": "base", "locator": {"kind": "step_judge"}}
    with pytest.raises(UserError, match=r"steps\.c\.locator\.question: .* no letters"):
        preflight(with_steps(c=judged))


def test_lengths_of_a_step_are_those_of_what_it_learns_from() -> None:
    """Not those of the run's own traces: refused where its own are too long, and only there."""
    long, short = {**OWN, "max_tokens": 5000}, {**OWN, "max_tokens": 20}
    limits = {"max_prompt_tokens": 50, "max_response_tokens": 6000}
    rest = {"own_math": {"do": "verify", "of": "own"}, "own_pairs": {"do": "pairs", "of": "own_math", **limits},
            "a": {**IMITATE, "on": "own_pairs", "train": {"max_length": 8000}}}  # fmt: skip
    assert model_problems(with_steps(own=short, **rest)) == []
    (told,) = model_problems(with_steps(own=long, **rest))
    assert told.startswith(
        "steps.a.train.max_length is 8000 and steps.own_pairs.max_prompt_tokens + steps.own.max_tokens"
    )
