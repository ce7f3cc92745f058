"""Where imported sets come from, files, S3 or the hub, and what is told of a wrong one before anything starts."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from problem_sources import write_lines

from redi_ray.config.data import FileSet, HubSet
from redi_ray.config.imports import ImportSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sources.import_sets import _import_rows, look
from redi_ray.data.sources.readers import DataError
from redi_ray.stages.problems import content_of_source
from redi_ray.store import parquet, storage

PLAIN = PromptSettings(prefix="")


def test_files_of_all_sorts_are_one_set(tmp_path: Path):
    rows = [{"prompt": f"q{n}", "chosen": "a, b\n", "rejected": 'say "b"'} for n in range(4)]
    with gzip.open(tmp_path / "a.csv.gz", "wt", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerow(rows[0])
    pq.write_table(pa.Table.from_pylist(rows[1:2]), tmp_path / "b.parquet")
    (tmp_path / "c.json").write_text(json.dumps(rows[2:3]))
    write_lines(tmp_path / "d.jsonl", rows[3:])
    settings = ImportSettings(source=FileSet(paths=[str(tmp_path)]))
    _import_rows(settings, PLAIN, f"{tmp_path}/out", "steps.x")
    found = [
        row for table in parquet.read_tables(storage.list_files(f"{tmp_path}/out/pairs")) for row in table.to_pylist()
    ]
    assert sorted(row["prompt"][0]["content"] for row in found) == ["q0", "q1", "q2", "q3"]
    assert {(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in found} == {("a, b\n", 'say "b"')}


def test_a_set_on_s3_counts_as_another_when_it_is_replaced(bucket: str, tmp_path: Path):
    place = f"{bucket}/{tmp_path.name}/set.jsonl"
    settings, found = ImportSettings(source=FileSet(paths=[place])), []
    for answer in ("a", "c"):
        row = {"prompt": "q", "chosen": answer, "rejected": "b"}
        storage.write_bytes(place, gzip.compress(json.dumps(row).encode()))
        counts = _import_rows(settings, PLAIN, f"{bucket}/{tmp_path.name}/out", "steps.x")
        assert counts.tables == {"pairs": 1}
        found.append(content_of_source(settings.source))
    assert found[0] != found[1]


def test_a_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    write_lines(tmp_path / "set" / "a.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}])
    settings = ImportSettings(source=HubSet(dataset=str(tmp_path / "set")))
    counts = _import_rows(settings, PLAIN, f"{tmp_path}/out", "steps.x")
    assert counts.tables == {"pairs": 1}
    with pytest.raises(DataError, match=r"set steps\.x\.source\.split to one of train"):
        look(
            settings.model_copy(update={"source": HubSet(dataset=str(tmp_path / "set"), split="test")}),
            PLAIN,
            "steps.x",
        )


@pytest.mark.parametrize(
    ("rows", "settings", "told"),
    [
        ([{"a": "q", "b": "c"}], {}, r"steps\.x: the columns a, b do not tell how to read a set: .*`chosen` and `rejected`"),
        ([{"prompt": "q", "chosen": "a"}], {"shape": "preference"}, "do not tell how to read a preference set"),
        ([{"prompt": "q", "completion": "a"}], {"columns": {"completion": "answer"}}, r"completion: answer\); there are prompt"),
        ([{"prompt": "q", "chosen": "a", "rejected": "b", "r": 1}], {"columns": {"reward": "r"}},
         r"columns\.reward is not read of a preference set, which has prompt, chosen, rejected here"),
        ([{"prompt": "q", "response": "a", "reward": {"right": 1}}], {},
         r"bad_reward \(1\): .*the field that counts, as columns\.reward"),
        ([], {}, r"steps\.x: the set has no rows"),
        ([{"prompt": "q", "completion": "a"}], {}, r"1 of 1 answers do not begin with the forced prefix.*model\.prompt\.prefix="),
        ([{"chosen": "a", "rejected": "b"}], {}, "no column has the prompt: set columns.prompt"),
        (["{broken\n"], {}, r"no row can be read; set\.jsonl:1 not JSON"),
        ([{"prompt": "q", "score": 3, "completion": ""}], {}, r"as a set of answers: .*\n  no_completion \(1\): set.jsonl:1"),
    ],
    ids=["names", "shape", "columns", "not read", "field", "no rows", "prefix", "no prompt", "unreadable", "empty"],
)  # fmt: skip
def test_a_wrong_file_is_told_before_anything_starts(
    tmp_path: Path, rows: list[Any], settings: dict[str, Any], told: str
):
    path = write_lines(tmp_path / "set.jsonl", rows)
    wanted = ImportSettings.model_validate({"source": {"kind": "files", "paths": [path]}, **settings})
    with pytest.raises(DataError, match=f"(?s){told}"):
        look(wanted, PromptSettings(), "steps.x")
    with pytest.raises(DataError, match=f"(?s){told}"):
        _import_rows(wanted, PromptSettings(), f"{tmp_path}/out", "steps.x")
