"""What scorers say of samples, and what an imported column makes of the rows that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.scorers import Scorer as Settings
from redi_ray.data.score import SCORERS
from redi_ray.data.score.scorer import Asked
from redi_ray.data.sources.readers import DataError
from redi_ray.schemas import TRACE

TURNS = [
    {"role": "assistant", "content": "call 1"},
    {"role": "tool", "content": "call 22"},
    {"role": "assistant", "content": "so \\boxed{2}"},
]
ROWS = [
    {"trace_id": "a#0", "completion": "<think>it is 1</think> \\boxed{1}"},
    {"trace_id": "a#1", "completion": "so \\boxed{2}", "turns": TURNS},
    {"trace_id": "b#0", "completion": ""},
]


def scored(tmp_path: Path, asked: Asked | None = None, **settings: Any) -> tuple[list[Any], dict[str, Any]]:
    """The values of ROWS, and what preparing told."""
    read = TypeAdapter(Settings).validate_python(settings)
    scorer, asked = SCORERS[read.name], asked or Asked(PromptSettings(prefix="<think>"), work=f"{tmp_path}/work")
    told = scorer.prepare(read, asked)
    values = scorer.start(read, asked)(pa.Table.from_pylist(ROWS, schema=TRACE.remove_metadata()))
    return [value for row in values for value in row.values()], told


def test_lengths_are_of_the_models_own_turns(tmp_path: Path, bpe_tokenizer: str) -> None:
    assert scored(tmp_path, name="length")[0] == [len(ROWS[0]["completion"]), len("call 1") + len("so \\boxed{2}"), 0]
    asked = Asked(PromptSettings(), tokenizer=bpe_tokenizer)
    tokens, _ = scored(tmp_path, asked, name="length", unit="tokens")
    assert 0 < tokens[1] < len("call 1so \\boxed{2}")
    assert tokens[2] == 0


def test_rules(tmp_path: Path) -> None:
    """On the answer; spans are characters of every turn of the model's own, and of none of a tool's."""
    assert scored(tmp_path, name="rule", pattern=r"\d\D+$", value=0.5)[0] == [0.5, 0.5, 0.0]
    assert scored(tmp_path, name="rule", format={"think": True, "one_box": True})[0] == [1.0, 0.0, 0.0]
    spans, _ = scored(tmp_path, name="rule", pattern="call", spans=True, value=-1)
    assert spans == [[], [{"turn": 0, "start": 0, "end": 4, "label": "match", "value": -1}], []]
    for wrong in ({}, {"pattern": "a", "format": {}}, {"pattern": "("}, {"format": {}, "spans": True}):
        with pytest.raises(ValidationError):
            scored(tmp_path, name="rule", **wrong)


def test_numbers_from_files(tmp_path: Path) -> None:
    """By id, in any order; every row is accounted for, and two numbers for one sample are refused."""
    path = tmp_path / "scores.jsonl"
    rows = [{"trace_id": "x#9", "r": 3}, {"trace_id": "a#1", "r": True}, {"trace_id": "a#1", "r": 1}, {"r": 1},
            {"trace_id": "a#0", "r": "high"}, {"trace_id": "b#0", "r": -0.25}, {"trace_id": "c#0", "r": None}]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n")
    values, told = scored(tmp_path, name="imported", paths=[str(path)], value="r")
    assert values == [None, 1.0, -0.25]
    assert told == {
        "files": {
            "rows": 8, "numbers": 3, "same_again": 1, "rejected": {"no_trace_id": 1, "no_number": 2, "unreadable_row": 1}
        }
    }  # fmt: skip
    with path.open("a") as file:
        file.write(json.dumps({"trace_id": "x#9", "r": 4}))
    with pytest.raises(DataError, match=r"1 rows say otherwise .* such as x#9: 3 and 4"):
        scored(tmp_path, name="imported", paths=[str(path)], value="r")
    with pytest.raises(DataError, match=r"no row has an id and a number\n.*no_number: scores.jsonl:1"):
        scored(tmp_path, name="imported", paths=[str(path)], value="reward")
    (tmp_path / "scores.csv").write_text("trace_id,r\na#1,1\nb#0,-0.25\n")
    assert scored(tmp_path, name="imported", paths=[f"{tmp_path}/scores.csv"], value="r")[0] == [None, 1.0, -0.25]
