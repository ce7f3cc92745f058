"""Named steps are held to what the sections are held to: votes, judges, probes, workers, lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from redi_ray.cli.preflight import model_problems, preflight
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


SERVED = {"base_url": "http://judge/v1", "model": "m", "api_key_env": "NOBODY_HAS_SET_THIS"}
MISSING = {"name": "kept_away", "path": "no/such/file.jsonl"}


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"do": "locate", "locator": {"kind": "judge", "model": "./no/such/judge"}},
         r"steps\.a\.locator\.model: \./no/such/judge holds no config"),
        ({"do": "locate", "locator": {"kind": "judge", "endpoint": SERVED}},
         r"steps\.a\.locator\.endpoint\.api_key_env names NOBODY_HAS_SET_THIS"),
        ({"do": "locate", "locator": {"kind": "imported", "paths": ["no/such/file.jsonl"]}},
         r"steps\.a\.locator\.paths: no/such/file\.jsonl is not there"),
        ({"do": "score", "scorer": {"name": "retrieval", "corpus": ["no/such/file.jsonl"]}},
         r"steps\.a\.scorer\.corpus: no/such/file\.jsonl is not there"),
        ({"do": "pairs", "contamination": {"files": [MISSING]}},
         r"steps\.a\.contamination\.files: no/such/file\.jsonl is not there"),
    ],
    ids=["judge", "key", "located", "corpus", "kept away"],
)  # fmt: skip
def test_what_a_step_reads_from_outside_is_looked_for_first(step: dict[str, Any], told: str) -> None:
    """Before Ray starts, not behind hours of sampling."""
    with pytest.raises(UserError, match=told):
        preflight(with_steps(a={**step, "of": "verified"}))


def test_a_corpus_without_documents_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"id": "a", "body": "b"}\n')
    scorer = {"name": "retrieval", "corpus": [str(tmp_path / "corpus.jsonl")]}
    step = {"do": "score", "of": "verified", "scorer": scorer}
    with pytest.raises(
        UserError, match=r"steps\.a\.scorer: none of the first 1 rows .*no_text, column `text`; the row has id, body"
    ):
        preflight(with_steps(a=step))
    preflight(with_steps(a={**step, "scorer": {**scorer, "text": "body"}}))


def test_problems_to_keep_away_are_looked_for_first() -> None:
    with pytest.raises(UserError, match=r"curate\.contamination\.files: no/such/file\.jsonl is not there"):
        preflight(parse_config({"name": "x", "curate": {"contamination": {"files": [MISSING]}}}))


def test_engines_of_locators_are_counted() -> None:
    """A judge's own engine that finds no room must be told before traces are paid for."""
    judge = {"kind": "judge", "model": "m", "engine": {"device": "gpu", "tensor_parallel_size": 8}}
    config = with_steps(a={"do": "locate", "of": "verified", "locator": judge})
    assert config.engines["steps.a.locator.engine"].tensor_parallel_size == 8
    lost = {"do": "locate", "of": "verified", "model": "sft", "locator": {"kind": "rollouts"}}
    raw = {"name": "x", "generate": {"kind": "vllm", "engine": {}}, "evaluate": {"benchmarks": []}}
    assert "resources.engine" not in parse_config(raw).engines
    assert "resources.engine" in parse_config({**raw, "steps": {"a": lost}}).engines


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
