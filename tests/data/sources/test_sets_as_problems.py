"""Sets that are given as problems: told how to import them, or read from wherever their columns lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from problem_sources import write_lines
from test_import_rows import PREFERENCES, SFT

from redi_ray.config.data import Columns, FilesSource
from redi_ray.config.problems import ProblemsConfig
from redi_ray.data.sources.problems import _collect_rows
from redi_ray.data.sources.readers import DataError
from redi_ray.store import parquet, storage


@pytest.mark.parametrize(
    ("row", "shape", "objective"),
    [
        (PREFERENCES["strings"], "a preference set", "redi"),
        (SFT["messages"], "a set of answers", "sft"),
        ({"prompt": "q", "responses": ["a", "b"], "rewards": [1, 0]}, "samples with rewards", "advantage"),
    ],
)
def test_a_set_that_is_given_as_problems_says_how_it_is_imported(
    tmp_path: Path, row: dict[str, Any], shape: str, objective: str
):
    path = write_lines(tmp_path / "set.jsonl", [row] * 3)
    with pytest.raises(DataError, match="no usable problem in 3 rows") as error:
        _collect_rows(ProblemsConfig(source=FilesSource(paths=[path])), f"{tmp_path}/out")
    told = str(error.value).partition("The rows look like ")[2]
    assert told.startswith(shape)
    steps = yaml.safe_load(told[told.index("steps:") :])["steps"]
    assert steps["mine"] == {"do": "import", "source": {"kind": "files", "paths": [path]}}
    assert steps["tuned"]["objective"] == {"name": objective}


def completions(out: str) -> list[str]:
    """Of the traces that came with the problems."""
    tables = parquet.read_tables(storage.list_files(f"{out}/imported"), ["completion"])
    return [text for table in tables for text in table["completion"].to_pylist()]


def test_list_indices_and_two_columns_of_one_trace(tmp_path: Path):
    """`generations.0` is a column; a thought and its answer in two columns are one trace."""
    row = {"problem": "p", "answer": "1", "generations": ["no", "1"], "thoughts": ["hm", None], "t": "so", "c": "2"}
    path = write_lines(tmp_path / "set.jsonl", [row])
    columns = Columns(completion=["generations.1", "c"], reasoning=["thoughts.1", "t"])
    _collect_rows(ProblemsConfig(source=FilesSource(paths=[path], columns=columns)), f"{tmp_path}/out")
    assert completions(f"{tmp_path}/out") == ["1", "<think>\nso\n</think>\n\n2"]
    columns = Columns(completion="generations", reasoning="thoughts")
    _collect_rows(ProblemsConfig(source=FilesSource(paths=[path], columns=columns)), f"{tmp_path}/lists")
    assert completions(f"{tmp_path}/lists") == ["<think>\nhm\n</think>\n\nno", "1"]
    columns = Columns(completion="generations", reasoning="t")
    counts = _collect_rows(ProblemsConfig(source=FilesSource(paths=[path], columns=columns)), f"{tmp_path}/uneven")
    assert counts.traces["rejected"] == {"reasoning_length": 1}
