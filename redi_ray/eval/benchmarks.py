"""Benchmarks as Problem tables: from the Hugging Face hub, or from a local file in the shape its publishers gave it.

The sources differ in small ways that would each cost points if overlooked, so every answer goes through `_clean_answer`:
- lists: OlympiadBench lists the *parts* of an answer, which are joined; Minerva lists *spellings* of one answer, of
  which the first is kept (a Problem has one answer, and the alternatives rarely differ in value); what a list of
  different answers means elsewhere, nobody knows, so it is an error;
- floats of AMC (`142.0`), zero-padded AIME integers (`025`) and GSM8K's thousands commas (`2,125`) become plain integers;
- GSM8K keeps its answer after `####`, in `answer` on the hub and in `solution` in other copies where `answer` is null;
- dollar signs around mathematics are dropped, blanks and newlines at the ends stripped.

Which AMC: `amc23` is the usual set of 40 problems (2023); `amc23_83` is the set of 83 (2022 and 2023) which the REDI
paper reports as AMC23. OlympiadBench is the English, text-only, open-ended competition mathematics; the hub has 674
problems, copies with 675 are in circulation. Benchmarks are small and their rows precious, so that a row that does not
fit is an error here, never a drop. The built-in world (`arithmetic`) is made by `redi_ray.data`, not here.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from redi_ray.config.benchmarks import HUB, HubBenchmark
from redi_ray.config.evaluation import BenchmarkSettings
from redi_ray.data.sources.chats import BadChat, read_problem
from redi_ray.data.sources.opening import DamagedFile, open_data, unpacking
from redi_ray.data.sources.readers import DataError, file_rows
from redi_ray.data.sources.values import BadValue, read_answer, shown
from redi_ray.errors import UserError
from redi_ray.schemas import PROBLEM
from redi_ray.store.contents import commit_of, content_of
from redi_ray.store.storage import exists


class BenchmarkError(UserError):
    """A benchmark cannot be had or read; the message names file, row and column, or what to give instead."""


PROBLEM_COLUMNS = ("problem", "question")
ANSWER_COLUMNS = ("answer", "final_answer")
"""Usual column names, tried in this order; `problem_column` and `answer_column` override them."""

_DOLLAR = re.compile(r"(?<!\\)\$")  # an escaped one is money
_INTEGER = re.compile(r"([+-]?)0*(\d+|\d{1,3}(?:,\d{3})+)(?:\.0*)?")


def load_benchmark(settings: BenchmarkSettings) -> pa.Table:
    """The benchmark as a table in the PROBLEM schema; `problem_id` is `<name>-<row>`, `source` the name.

    Raises BenchmarkError for a file that is missing or damaged, a row without problem or answer, a column that is not
    there, and a hub that cannot be reached.
    """
    name = settings.name
    source = HUB.get(name, HubBenchmark(repo="", subset=None, split="", problems=0))
    if settings.path is not None:
        where, rows = settings.path, _read_file(settings.path)
    elif name in HUB:
        where, rows = f"{source.repo} ({source.split})", _read_hub(name, source)
    else:
        raise BenchmarkError(f"{name}: not a benchmark of the hub; those are {', '.join(HUB)}. Or give a path")
    if not rows:
        raise BenchmarkError(f"{where}: no rows")
    problems = [_problem(row, index, where, settings, source) for index, row in enumerate(rows)]
    return subset(pa.Table.from_pylist(problems, schema=PROBLEM), settings)


def content_of_benchmark(settings: BenchmarkSettings) -> str | None:
    """What its file, or its data set on the hub, holds now; None for the built-in world's, which a run writes itself."""
    if settings.path is not None:
        return content_of(settings.path)
    return commit_of(HUB[settings.name].repo, "dataset", None) if settings.name in HUB else None


def subset(problems: pa.Table, settings: BenchmarkSettings) -> pa.Table:
    """`max_problems` rows in their order: a random choice, since files are often sorted by year, subject or difficulty."""
    if settings.max_problems is None or settings.max_problems >= problems.num_rows:
        return problems
    chosen = random.Random(settings.subset_seed).sample(range(problems.num_rows), settings.max_problems)
    return problems.take(pa.array(sorted(chosen)))


def _problem(row: Any, index: int, where: str, settings: BenchmarkSettings, source: HubBenchmark) -> dict[str, str]:
    place = f"{where}, row {index + 1}"
    if not isinstance(row, dict):
        raise BenchmarkError(f"{place}: expected an object with columns, got {type(row).__name__}")
    problem_column = _column(row, settings.problem_column, PROBLEM_COLUMNS, "problem", place)
    try:
        problem = read_problem(row[problem_column])
    except BadChat as error:
        raise BenchmarkError(f"{place}, column {problem_column!r}: {error}") from error
    if problem is None or not problem.strip():
        raise BenchmarkError(
            f"{place}, column {problem_column!r}: the problem's text is empty or no text ({row[problem_column]!r})"
        )
    answer_column = _column(row, settings.answer_column, ANSWER_COLUMNS, "answer", place)
    try:
        answer = _clean_answer(row[answer_column], row.get("solution"), source)
    except BadValue as error:
        raise BenchmarkError(f"{place}, column {answer_column!r} holds {shown(row[answer_column])}: {error}") from error
    if not answer:
        raise BenchmarkError(f"{place}, column {answer_column!r}: no answer in {row[answer_column]!r}")
    name = settings.name
    return {"problem_id": f"{name}-{index}", "problem": problem.strip(), "answer": answer, "source": name}


def _column(row: dict[str, Any], override: str | None, usual: Sequence[str], what: str, place: str) -> str:
    candidates = usual if override is None else (override,)
    for candidate in candidates:
        if candidate in row:
            return candidate
    raise BenchmarkError(
        f"{place}: no column {' or '.join(map(repr, candidates))}; set {what}_column to one of {sorted(row)}"
    )


def _clean_answer(raw: Any, solution: Any, source: HubBenchmark) -> str:
    """The answer as one string, empty if there is none. Raises BadValue for what is no answer."""
    if raw is None and isinstance(solution, str) and "####" in solution:
        raw = solution
    if isinstance(raw, list | tuple):
        raw = [_bare(item) for item in raw]
    text = _bare(read_answer(_bare(raw), source.several)) or ""
    integer = _INTEGER.fullmatch(text) if source.integers else None
    return f"{integer[1].replace('+', '')}{integer[2].replace(',', '')}" if integer else text


def _bare(value: Any) -> Any:
    """Text behind its `####`, without dollars: OlympiadBench wraps some parts in them, not always in pairs."""
    return _DOLLAR.sub("", value.rsplit("####", 1)[-1]).strip() if isinstance(value, str) else value


def _read_file(path: str) -> list[Any]:
    """Rows of a JSON list, JSON Lines (either packed or not) or Parquet file, whatever its name."""
    if not exists(path):
        raise BenchmarkError(f"{path}: no such file")
    try:
        opened = open_data(path)
        with opened.stream as stream, unpacking(path):
            data = stream.read() if opened.kind == "json" else b""
        if opened.kind != "json":
            return [row.value for row in file_rows(path)]
    except DamagedFile as error:
        raise BenchmarkError(f"{path}: damaged {error.kind} ({error})") from error
    except DataError as error:
        raise BenchmarkError(str(error)) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{path}: neither Parquet nor UTF-8 text ({error})") from error
    return _parse_json(text, path)


def _parse_json(text: str, path: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise BenchmarkError(f"{path}, line {error.lineno}: broken JSON ({error.msg})") from error
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: U+2028 may stand inside a JSON string
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise BenchmarkError(f"{path}, line {number}: broken JSON ({error.msg})") from error
    return rows


def _read_hub(name: str, source: HubBenchmark) -> list[Any]:
    """All rows from the hub or its local cache. What fails there is network, access or naming: one advice serves all."""
    import datasets

    try:
        return datasets.load_dataset(source.repo, source.subset, split=source.split).to_list()
    except Exception as error:
        raise BenchmarkError(
            f"{name}: could not load {source.repo} from the Hugging Face hub ({type(error).__name__}: {error}). "
            f"Offline, give a local copy: benchmarks: [{{name: {name}, path: FILE}}] (JSON, JSON Lines or Parquet)"
        ) from error
