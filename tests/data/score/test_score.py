"""What scorers say of samples, and what an imported column makes of the rows that are none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.scorers import Scorer as Settings
from redi_ray.data.score import SCORERS
from redi_ray.data.score.retrieval import Index
from redi_ray.data.score.scorer import Asked
from redi_ray.data.sources.chats import read_completion
from redi_ray.data.sources.readers import DataError
from redi_ray.schemas import TRACE
from redi_ray.text.retrieval import ndcg, precision

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


def test_a_rule_finds_second_attempts(test_data: Path) -> None:
    """mint_multiturn: 718 samples propose a solution again after a first that was wrong, 67 of them end right; 425 were right at
    once."""
    rows, ended = [], []
    with gzip.open(test_data / "steps_turns_rewards/mint_multiturn.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            answer = read_completion(row["messages"])
            rows.append({"trace_id": str(len(rows)), "completion": answer.text, "turns": answer.turns})
            ended.append(row["success"])
    settings = TypeAdapter(Settings).validate_python({"name": "rule", "pattern": "<solution>", "spans": True})
    values = SCORERS["rule"].start(settings, Asked(PromptSettings()))(
        pa.Table.from_pylist(rows, schema=TRACE.remove_metadata())
    )
    attempts = [len({span["turn"] for span in value["spans"]}) for value in values]
    assert sum(number >= 2 for number in attempts) == 718
    assert sum(right for number, right in zip(attempts, ended, strict=True) if number >= 2) == 67
    assert sum(right for number, right in zip(attempts, ended, strict=True) if number == 1) == 425


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


def found(tmp_path: Path, rows: list[dict[str, Any]], **settings: Any) -> tuple[list[float | None], dict[str, Any]]:
    """What a retrieval scorer says of these rows, and of its corpus."""
    read = TypeAdapter(Settings).validate_python({"name": "retrieval", **settings})
    asked = Asked(PromptSettings(), work=f"{tmp_path}/work")
    told = SCORERS["retrieval"].prepare(read, asked)
    table = pa.Table.from_pylist(rows, schema=TRACE.remove_metadata())
    made = SCORERS["retrieval"].start(read, asked)(table)
    told["labels"] = [row["label"] for row in made]
    return [row["value"] for row in made], told


def test_queries_are_worth_what_they_find(tmp_path: Path) -> None:
    """By BM25 in a corpus from files, whose unusable rows are told; -2 for another form, null where nothing should be found."""
    corpus = tmp_path / "corpus.jsonl"
    documents = [("d1", "a red racing wheel"), ("d2", "a blue wheel"), ("d3", "a headset"), ("", "no id"), ("d4", "")]
    corpus.write_text("".join(json.dumps({"id": name or None, "text": text}) + "\n" for name, text in documents))
    outputs = [
        ('<think>.</think><answer>{"query": "red wheels, racing"}</answer>', "d1"),
        ('<think>.</think><answer>{"query": "wheel"}</answer>', '["d1", "d3"]'),
        ('<think>.</think><answer>{"query": "piano"}</answer>', "d1"),
        ("wheel", "d1"),
        ('<think>.</think><answer>{"query": "wheel"}</answer>', None),
    ]
    rows = [{"trace_id": f"q#{n}", "completion": text, "answer": answer} for n, (text, answer) in enumerate(outputs)]
    values, told = found(tmp_path, rows, corpus=[str(corpus)], k=10)
    ranks = [1 / (1 + 1 / np.log2(3)), 1 / np.log2(3) / (1 + 1 / np.log2(3))]
    assert values[0] == 1.1
    assert values[1] in [pytest.approx(0.1 + rank) for rank in ranks]
    assert values[2:] == [0.0, -2.0, None]
    assert told["corpus"] == {"documents": 3, "rejected": {"no_id": 1, "no_text": 1}}
    assert told["labels"] == ["found", "found", "nothing_found", "bad_format", "nothing_wanted"]
    bare, _ = found(tmp_path, rows, corpus=[str(corpus)], k=10, bad_format=0, bonus=0)
    assert bare == [1.0, pytest.approx(values[1] - 0.1), 0.0, 0.0, None]
    plain, _ = found(tmp_path, rows[3:4], corpus=[str(corpus)], format=False, measure="reciprocal_rank")
    assert plain[0] in (1.0, 0.5)
    corpus.write_text('{"id": 1, "text": "x y"}\n{"id": 1, "text": "z"}\n')
    with pytest.raises(DataError, match="1 is the id of several documents"):
        found(tmp_path, rows, corpus=[str(corpus)])
    corpus.write_text('{"id": "142.0", "text": "wheel"}\n{"id": "1e5", "text": "headset"}\n')
    named = [{**rows[1], "trace_id": f"q#{name}", "answer": name} for name in ("142.0", '["142.0", "1e5"]', '"142.0"')]
    values, _ = found(tmp_path, named, corpus=[str(corpus)], measure="recall", bonus=0)
    assert values == [1.0, 0.5, 1.0], "an id that looks like a number is that id"
    corpus.write_text('{"id": 1, "text": "the of"}\n')
    with pytest.raises(DataError, match="no document has a word to search for"):
        found(tmp_path, rows, corpus=[str(corpus)])


def test_our_search_on_a_real_corpus(tmp_path: Path, real_set: Any) -> None:
    """P@30 and NDCG@10 of plain BM25 (k1 0.9, b 0.4) over CACM lie where another plain implementation's do."""
    rows = real_set("cacm")
    corpus = tmp_path / "cacm.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows if row["kind"] == "doc"))
    texts = {row["id"]: row["text"] for row in rows if row["kind"] == "query"}
    judged = [row for row in rows if row["kind"] == "qrels"]
    read = TypeAdapter(Settings).validate_python({"name": "retrieval", "corpus": [str(corpus)], "k1": 0.9, "b": 0.4})
    asked = Asked(PromptSettings(), work=f"{tmp_path}/work")
    SCORERS["retrieval"].prepare(read, asked)
    index = Index.load(f"{asked.work}/index")
    ranked = [index.search(texts[row["id"]], 30) for row in judged]
    shipped = [[name for name in row["relevant"] if "-0" not in name] for row in judged]
    assert fmean(map(precision, ranked, shipped, [30] * len(judged))) == pytest.approx(0.171, abs=0.003)
    assert fmean(map(ndcg, ranked, shipped, [10] * len(judged))) == pytest.approx(0.41, abs=0.01)
