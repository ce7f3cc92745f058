"""The share of tests that a sample passes is known where all were run, and asked for only where that is so."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from redi_ray.config.load import ConfigError, parse_config
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.scorers import PassedScorer
from redi_ray.data.score import SCORERS
from redi_ray.data.score.scorer import Asked
from redi_ray.schemas import TESTED

CONFIG: dict[str, Any] = {
    "name": "code",
    "problems": {"source": {"kind": "files", "paths": ["x.jsonl"], "columns": {"tests": "io"}}},
    "verify": {"tests": {"run_all": True}},
    "model": {"init": {"kind": "pretrained", "path": "a/b"}},
    "steps": {"share": {"do": "score", "of": "verified", "scorer": {"name": "passed"}}},
    "generate": {"kind": "vllm", "model": "a/b"},
}


def test_the_share_is_of_all_tests_and_null_where_some_were_not_run():
    told = [
        {"total": 4, "run": 4, "passed": 3, "seconds": 0.1, "failures": []},
        {"total": 4, "run": 2, "passed": 1, "seconds": 0.1, "failures": []},
        {"total": 4, "run": 0, "passed": 0, "seconds": 0.0, "failures": []},
        None,
    ]
    values = SCORERS["passed"].start(PassedScorer(name="passed"), Asked(PromptSettings()))
    rows = pa.table([pa.array(told, TESTED.type)], schema=pa.schema([TESTED]))
    assert [row["value"] for row in values(rows)] == [0.75, None, None, None]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"verify": {}}, r"set verify\.tests\.run_all: true"),
        ({"verify": {"tests": None}}, r"set verify\.tests\.run_all: true"),
        (
            {"problems": {"source": {"kind": "files", "paths": ["x.jsonl"]}}},
            r"name their column, problems\.source\.columns\.tests",
        ),
        ({"steps": {}, "evaluate": {"score": {"name": "passed"}}}, "benchmarks have no tests"),
        ({"verify": {"votes": ["checks"]}}, "nothing else can judge them"),
    ],
)
def test_where_it_cannot_be_known_is_told_before_anything_starts(changes: dict[str, Any], told: str):
    parse_config(CONFIG)
    with pytest.raises(ConfigError, match=told):
        parse_config(CONFIG | changes)


def test_tests_may_be_the_only_ones_to_vote():
    parse_config(CONFIG | {"verify": {"votes": ["tests"], "tests": {"run_all": True}}})
    with pytest.raises(ConfigError, match="nothing else can judge them"):
        parse_config(CONFIG | {"steps": {}, "verify": {"votes": ["tests"], "tests": None}})
