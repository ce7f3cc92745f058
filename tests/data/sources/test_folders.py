"""A folder is read whole: what holds no rows is left out, and what holds rows that cannot be read is never passed over."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from redi_ray.cluster.runtime import log
from redi_ray.data.sources.folders import DataError, expand_paths, short_names

NO_ROWS = (
    "._train.parquet", ".cache/huggingface/x.jsonl", ".hidden.jsonl", "dataset_infos.json", "dataset_info.json", "state.json",
    "manifest.json", "settings.json", "README.md", "LICENSE", "x.jsonl.sha256", "_SUCCESS", "sub/manifest.json",
)  # fmt: skip
TOLD = ("_temporary/x.jsonl", "__MACOSX/x.parquet", "rejects/part-00000.parquet", "part-00001", "cache-1f.arrow")
ROWS = (
    "a.parquet", "b.jsonl", "c.jsonl.zst", "d.JSONL", "e.ndjson.gz", "f.json", "g.json.xz", "h.arrow", "y.jsonl.lz4",
    "sub/rejects/own.jsonl", "sub/x.jsonl.bz2",
)  # fmt: skip


def fill(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return str(folder)


def test_rows_are_told_from_what_lies_beside_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(log, "propagate", True)
    with caplog.at_level(logging.WARNING, logger="redi_ray"):
        found = expand_paths([fill(tmp_path, *NO_ROWS, *TOLD, *ROWS)])
    assert short_names(found) == sorted(ROWS)
    assert not any(name in caplog.text for name in NO_ROWS)
    assert all(name in caplog.text for name in TOLD)


@pytest.mark.parametrize(
    "name",
    ["x.xls", "x.orc", "x.feather", "x.jsonl.zip", "x.jsonl.zstd", "x.jsonl.br", "x.tar.gz", "x.parquet.part", "x.json.bak",
     "sub/x.pkl", "x.xlsx", "x.jl", "x.jsonl-00000-of-00008"],
)  # fmt: skip
def test_data_that_cannot_be_read_are_an_error(tmp_path: Path, name: str):
    with pytest.raises(DataError, match=rf"cannot be read \(1\): {name}\. Convert or unpack them"):
        expand_paths([fill(tmp_path, "a.parquet", name)])
    assert short_names(expand_paths([f"{tmp_path}/a.parquet"])) == ["a.parquet"]


def test_a_file_that_is_named_is_read_whatever_its_name(tmp_path: Path):
    path = fill(tmp_path, "._odd.csv") + "/._odd.csv"
    assert expand_paths([path, path]) == [path]


@pytest.mark.parametrize("name", ["metadata.json", "part-00000", "rows.txt"])
def test_a_folder_without_data_says_what_it_holds(tmp_path: Path, name: str):
    with pytest.raises(DataError, match=f"no data file in .*, only {name}; a file that is named itself is read"):
        expand_paths([fill(tmp_path, name)])
    assert expand_paths([f"{tmp_path}/{name}"]) == [f"{tmp_path}/{name}"]
    with pytest.raises(DataError, match="--traces is empty; name files or folders with JSON lines"):
        expand_paths([], "--traces")


def test_splits_that_are_read_together_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(log, "propagate", True)
    expand_paths([fill(tmp_path / "one", "train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl")])
    assert "several splits" not in caplog.text
    expand_paths([fill(tmp_path / "two", "data/train-0.jsonl", "data/test-0.jsonl")])
    assert "holds several splits (test, train), and all are read" in caplog.text
