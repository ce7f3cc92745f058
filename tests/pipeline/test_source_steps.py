"""Several sources in one graph, before anything runs: what cannot be mixed, graded or read is told, and a plan counts it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from mixed_run import mixed_config, write_sources

from redi_ray.cli.preflight_sources import check_problems
from redi_ray.config.load import ConfigError, parse_config
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.graph import GraphError
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import states
from redi_ray.plan.assumptions import DEFAULTS, Assumptions
from redi_ray.plan.errors import PlanError
from redi_ray.plan.sample import sample_data
from redi_ray.plan.varied import told_of_source
from redi_ray.plan.workload import Workload
from redi_ray.stages.run import Run


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Any]:
    write_sources(tmp_path)
    return mixed_config(tmp_path, "mixed")


def having(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copied = copy.deepcopy(config)
    *parents, leaf = path.split(".")
    node = copied
    for name in parents:
        node = node[name]
    node[leaf] = value
    return copied


def test_the_line_goes_by_the_mixture_and_curation_by_the_grades(written: dict[str, Any]) -> None:
    graph = graph_of(parse_config(written))
    assert {name: graph[name].kind for name in ("sums", "problems", "graded")} == {
        "sums": "problems", "problems": "mix", "graded": "grade",
    }  # fmt: skip
    assert graph["curated"].inputs["of"] == "graded"
    assert graph["verified"].inputs["problems"] == "problems"


def test_the_key_of_pairs_is_of_the_verdicts_that_they_are_made_of(written: dict[str, Any]) -> None:
    def key(config: dict[str, Any]) -> str | None:
        parsed = parse_config(config)
        return {s.step.name: s.key for s in states(graph_of(parsed), Run.of(parsed))}["curated"]

    assert key(written) is not None
    assert key(having(written, "curate.of", "verified")) != key(written)
    assert key(having(written, "steps.graded.right", 60)) != key(written)
    assert key(having(written, "steps.sums.licence", "cc0")) == key(written)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("problems.source.of", ["sums", "nothing"], "nothing` is no source: .*what would fit: sums, programs, questions"),
        ("problems.source.of", ["graded"], "graded` is no source"),
        ("problems.source.weights", {"sums": 0, "programs": 0, "questions": 0}, "sums, programs, questions weighs nothing"),
        ("steps.graded.by", "sums", "gives problems, and grade takes column; what would fit: length"),
        ("steps.graded.wrong", 50.0, r"wrong \(50\) must lie below right"),
        ("steps.programs.source.columns", {"problem": "task", "completion": "code"}, "set source.columns.tests"),
        ("steps.sums.source.columns", {"problem": "question", "answer": "gold"},
         "steps.sums.source holds no traces: set steps.sums.source.columns.completion"),
        ("verify", {"votes": ["math_verify", "label"]}, "nothing casts its votes"),
        ("curate.of", "length", "`curate.of: length` gives column, and pairs takes verified"),
        ("steps.length.of", "graded", "cannot come from its own output"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(written: dict[str, Any], path: str, value: Any, told: str) -> None:
    changed = having(written, path, value)
    if path == "problems.source.of":
        changed["problems"]["source"].pop("weights")
    with pytest.raises((ConfigError, GraphError), match=told):
        graph_of(parse_config(changed))


def test_a_column_of_other_samples_grades_nothing(written: dict[str, Any]) -> None:
    written["steps"] |= {
        "own": {"do": "sample", "problems": "sums", "model": "base"},
        "own_math": {"do": "verify", "of": "own"},
        "own_length": {"do": "score", "of": "own_math", "scorer": {"name": "length"}},
    }
    assert graph_of(parse_config(written))["own_math"].inputs["problems"] == "sums"
    with pytest.raises(GraphError, match="own_length` is a column of own_math, which has other samples"):
        graph_of(parse_config(having(written, "steps.graded.by", "own_length")))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"problem": "qestion"},
            r"steps.sums: none of its first 40 rows is a problem \(40 no_problem\).*`qestion` is missing",
        ),
        (
            {"answer": "god"},
            r"steps.sums: none of .*40 no_answer.*`god` is missing or null; the row has n, question, gold",
        ),
    ],
)
def test_columns_that_are_not_there_are_told_before_anything_runs(
    written: dict[str, Any], columns: dict[str, str], told: str
) -> None:
    check_problems(parse_config(written))
    written["steps"]["sums"]["source"]["columns"] |= columns
    with pytest.raises(DataError, match=told):
        check_problems(parse_config(written))


def test_a_source_that_is_not_there_is_told_by_its_field(written: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"steps\.sums\.source\.paths"):
        check_problems(parse_config(having(written, "steps.sums.source.paths", ["/no/such/file.jsonl"])))


def test_a_plan_counts_the_mixture(written: dict[str, Any]) -> None:
    sample = sample_data(parse_config(written), 100)
    known = {one.name: one.value for one in sample.told}
    assert sample.sources == {"sums": 40, "programs": 12, "questions": 24}
    assert known["problems"] == 50
    assert known["traces_per_problem"] == 2
    assert "20 of sums, 10 of programs, 20 of questions" in sample.note


def test_a_plan_tells_which_source_is_short(written: dict[str, Any]) -> None:
    short = parse_config(having(written, "problems.source.size", 1000))
    with pytest.raises(PlanError, match="sums has 40 of the 400 problems that its share asks for"):
        sample_data(short, 100)
    less = having(written, "problems.source", {**written["problems"]["source"], "size": 1000, "when_short": "less"})
    known = {one.name: one.value for one in sample_data(parse_config(less), 100).told}
    assert known["problems"] == 76


def test_another_mixture_is_sampled_and_verified_with_its_own_tests_and_sources(written: dict[str, Any]) -> None:
    written["steps"] |= {
        "code": {"do": "mix", "of": ["programs", "sums"], "weights": {"programs": 1, "sums": 1}, "size": 20},
        "own": {"do": "sample", "problems": "code", "model": "base"},
        "own_math": {"do": "verify", "of": "own"},
        "own_length": {"do": "score", "of": "own_math", "scorer": {"name": "length"}},
        "own_graded": {"do": "grade", "of": "own_math", "by": "own_length", "right": 1.0},
        "own_hard": {"do": "select", "of": "own_graded", "difficulty": {"max_rate": 0.5}},
        "own_pairs": {"do": "pairs", "of": "own_hard"},
    }
    config = parse_config(written)
    graph = graph_of(config)
    for name in ("own_math", "own_graded", "own_hard", "own_pairs"):
        assert graph[name].inputs["problems"] == "code", name
    told = told_of_source(graph, graph["code"], Workload(config, sample_data(config, 100), Assumptions(DEFAULTS)))
    assert told == "20 of programs, sums"
