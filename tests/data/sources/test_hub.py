"""Data sets of the hub, here as local folders, that cannot be had as they are asked for: what is wrong and what to set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redi_ray.config.data import Columns, HubSource
from redi_ray.data.sources.readers import DataError, source_rows

SUBSETS = """---
configs:
- {config_name: main, data_files: a.jsonl}
- {config_name: more, data_files: b.jsonl}
---
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def data_set(folder: Path, *files: list[Any], card: str = "") -> str:
    """A data set of the files a.jsonl, b.jsonl, ..."""
    folder = folder / "set"
    folder.mkdir()
    for name, rows in zip("abc", files, strict=False):
        (folder / f"{name}.jsonl").write_text(
            "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
        )
    if card:
        (folder / "README.md").write_text(card)
    return str(folder)


ROW = {"problem": "p", "answer": "1"}


def test_rows_have_their_places(tmp_path: Path):
    name = data_set(tmp_path, [ROW], [ROW], card=SUBSETS)
    (row,) = source_rows(HubSource(dataset=name, subset="more"))
    assert (row.where, row.file, row.value) == (f"{name}:train:0", f"{name}:train", ROW)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "has several subsets; set problems.source.subset to one of main, more"),
        ({"subset": "none"}, "no such subset; set problems.source.subset to one of main, more"),
        ({"subset": "main", "split": "test"}, "no split 'test'; set problems.source.split to one of train"),
        ({"subset": "main", "split": "train[:1]"}, "cannot be streamed, take problems.max_problems"),
    ],
)  # fmt: skip
def test_subsets_and_splits_are_listed(tmp_path: Path, asked: dict[str, str], told: str):
    name = data_set(tmp_path, [ROW], [ROW], card=SUBSETS)
    with pytest.raises(DataError) as error:
        list(source_rows(HubSource(dataset=name, **asked)))
    assert name in str(error.value)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "later", [ROW, {"problem": "p", "gold": "1"}, '{"problem": "p", ', {"problem": 5, "answer": {"a": 1}}]
)  # fmt: skip
def test_rows_that_contradict_earlier_ones(tmp_path: Path, later: Any):
    name = data_set(tmp_path, [{"problem": "p", "answer": None}], [later])
    with pytest.raises(DataError, match=r"set:train, row 1: .*null at first and text later.*kind: files"):
        list(source_rows(HubSource(dataset=name, columns=Columns())))


def test_what_is_not_there(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name in (f"{tmp_path}/none", f"{tmp_path}/empty"):
        with pytest.raises(DataError, match=f"{name}:train: the hub's data set cannot be loaded.*kind: files"):
            list(source_rows(HubSource(dataset=name)))


def test_values_mean_what_their_types_say(tmp_path: Path):
    """Here class 0 is correct, which as a number would be a vote for wrong; and 0.1 of 32 bits is 0.1."""
    import datasets

    label, short = datasets.ClassLabel(names=["correct", "incorrect"]), datasets.Value("float32")
    features = datasets.Features({"label": label, "labels": datasets.Sequence(label), "answer": {"value": short}})
    rows = [{"label": 0, "labels": [0, 1], "answer": {"value": 0.1}}, {"label": None, "labels": None, "answer": None}]
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "set" / "train.parquet")
    named, empty = (row.value for row in source_rows(HubSource(dataset=str(tmp_path / "set"))))
    assert named == {"label": "correct", "labels": ["correct", "incorrect"], "answer": {"value": 0.1}}
    assert empty is not None
    assert empty["label"] is None
    assert not empty["labels"]
