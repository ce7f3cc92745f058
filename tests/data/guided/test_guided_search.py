"""A search over steps in the built-in world, with an engine that errs and a judge that knows the truth: what it finds, what it
costs, and that what was cut off goes on to the same answers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from redi_ray.config.guided import GuidedSettings
from redi_ray.data.columns import write_column
from redi_ray.data.guided.search import Search, SearchError, guided_search, tokens_drawn
from redi_ray.data.locate.exact import right_lines
from redi_ray.data.sample.samples import BEGUN, COMPLETION, Sampling, sample_seed
from redi_ray.data.sources.world import answer
from redi_ray.schemas import PROBLEM, SPAN_SCORE
from redi_ray.store import parquet, storage
from redi_ray.text.boxes import extract_boxed
from redi_ray.text.steps import split_steps

PROBLEMS = pa.Table.from_pylist(
    [
        {"problem_id": f"p@{n}.0", "problem": text, "answer": answer(text), "source": "world"}
        for n, text in enumerate(("3+4*2-1", "1+1-1*4", "9-2*3+5", "2*2*2*2"))
    ],
    schema=PROBLEM,
)
TRUTH = {row["problem"]: right_lines(row["problem"]) for row in PROBLEMS.to_pylist()}
SETTINGS = GuidedSettings(model="prm", keep=2, candidates=5, step_end="\n", max_steps=9, form="equations")
PREFIX = "<think>\n"


class Engines:
    """Draw the right line or, every other time, another result; each draw follows from its seed alone."""

    def __init__(self, silent_on: str = "\0") -> None:
        self.leases, self.silent_on = list[Sampling](), silent_on

    @contextmanager
    def __call__(self, sampling: Sampling, rows: int) -> Iterator[Any]:
        self.leases.append(sampling)
        silent_on = self.silent_on

        def next_step(row: dict[str, Any]) -> dict[str, Any]:
            before = row[BEGUN] or PREFIX
            lines = [line for line in before.removeprefix(PREFIX).split("\n") if line]
            truth, draw = TRUTH[row["problem"]], random.Random(sample_seed(1, row["problem_id"], row["sample_index"]))
            if silent_on in before:
                return {"failure": "refused_by_engine", "detail": "too long", "retry": False}
            if len(lines) < len(truth):
                right, result = truth[len(lines)].rpartition("=")[::2]
                said = result if draw.random() < 0.5 else str(int(result) + draw.randint(1, 3))
                return {"completion": f"{before}{right}={said}\n", "finish_reason": "length", "num_tokens": 5}
            if len(lines) == len(truth):
                return {"completion": f"{before}</think>\n", "finish_reason": "length", "num_tokens": 2}
            result = lines[-2].rpartition("=")[2]
            return {"completion": f"{before}\\boxed{{{result}}}", "finish_reason": "stop", "num_tokens": 4}

        def answers(table: pa.Table) -> pa.Table:
            found = [{**row, "prompt_tokens": 9, **next_step(row)} for row in table.to_pylist()]
            return pa.Table.from_pylist(found, schema=COMPLETION)

        yield lambda requests: requests.map_batches(answers, batch_format="pyarrow", num_cpus=0.1)


class Judge:
    """1 for a step as it should be, 0 for another; breaks down when it is asked the n-th time."""

    def __init__(self, breaks_at: int = 99, silent: bool = False) -> None:
        self.asked, self.breaks_at, self.silent = 0, breaks_at, silent

    def __call__(self, samples: str, out: str) -> str:
        self.asked += 1
        if self.asked == self.breaks_at:
            raise RuntimeError("cut off")

        def values(rows: pa.Table) -> list[dict[str, Any]]:
            return [{"spans": None if self.silent else spans_of(row)} for row in rows.to_pylist()]

        for uri in storage.list_files(samples, ".parquet"):
            column = storage.join(out, "column", uri.rsplit("/", 1)[-1])
            write_column(uri, column, SPAN_SCORE, ("problem", "completion"), values)
        return storage.join(out, "column")


def spans_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    lines = [line for line in row["completion"].removeprefix(PREFIX).split("\n") if "=" in line]
    right = float(lines == TRUTH[row["problem"]][: len(lines)])
    found = split_steps(row["completion"], "equations")
    return [{"turn": 0, "start": a, "end": b, "label": "right", "value": right} for a, b in found]


def search_in(folder: Path, settings: GuidedSettings = SETTINGS, longest: int = 99) -> Search:
    return Search(settings, str(folder), "policy", Sampling(1.0, 1.0, longest, 7))


def answers_in(folder: Path) -> list[dict[str, Any]]:
    tables = parquet.read_tables(storage.list_files(str(folder / "answers"), ".parquet"))
    return [row for table in tables for row in table.to_pylist()]


def test_a_judge_that_knows_finds_what_single_draws_miss(ray_session: None, tmp_path: Path) -> None:
    """A single answer of n lines is right in one of 2^n; of five next lines one is right in 31 of 32. All draws count."""
    engines = Engines()
    told = guided_search(PROBLEMS, search_in(tmp_path), engines, Judge())
    found = answers_in(tmp_path)
    assert [row["problem_id"] for row in found if row["sample_index"] == 0] == PROBLEMS["problem_id"].to_pylist()
    best = [extract_boxed(row["completion"]) == row["answer"] for row in found if row["sample_index"] == 0]
    assert sum(best) >= 3
    assert {row["finish_reason"] for row in found} == {"stop"}
    assert all(row["completion"].startswith(PREFIX) for row in found)
    assert told["steps"] == max(map(len, TRUTH.values())) + 2
    assert told["drawn"] <= 10 * 4 * told["steps"]
    assert sum(tokens_drawn(str(tmp_path), told["steps"]).values()) == told["tokens"]
    assert {lease.stop for lease in engines.leases} == {("\n",)}
    assert {lease.max_tokens for lease in engines.leases} == {SETTINGS.max_step_tokens}
    values = pa.concat_tables(parquet.read_tables(storage.list_files(str(tmp_path / "values"), ".parquet")))
    assert values["trace_id"].to_pylist() == [row["trace_id"] for row in found]
    of = Counter(row["problem_id"] for row in found)
    assert max(of.values()) <= SETTINGS.keep


def test_what_was_cut_off_goes_on_to_the_same_answers(ray_session: None, tmp_path: Path) -> None:
    """In the middle of a step: its draws are not drawn again, nor are the steps before it."""
    calm, torn = tmp_path / "calm", tmp_path / "torn"
    told = guided_search(PROBLEMS, search_in(calm), Engines(), Judge())
    with pytest.raises(RuntimeError, match="cut off"):
        guided_search(PROBLEMS, search_in(torn), Engines(), Judge(breaks_at=3))
    kept = {path: path.stat().st_mtime_ns for path in torn.rglob("traces/*.parquet")}
    assert len({path.parent.parent for path in kept}) == 3
    again = Engines()
    assert guided_search(PROBLEMS, search_in(torn), again, Judge()) == told
    assert len(again.leases) == told["steps"] - 2
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert answers_in(torn) == answers_in(calm)
    assert guided_search(PROBLEMS, search_in(torn), Engines(), Judge(breaks_at=1)) == told, (
        "nothing is asked once it is done"
    )


def test_answers_that_do_not_end_are_cut_off(ray_session: None, tmp_path: Path) -> None:
    short = SETTINGS.model_copy(update={"max_steps": 2})
    guided_search(PROBLEMS, search_in(tmp_path / "steps", short), Engines(), Judge())
    assert {row["finish_reason"] for row in answers_in(tmp_path / "steps")} == {"length"}
    guided_search(PROBLEMS, search_in(tmp_path / "tokens", longest=10), Engines(), Judge())
    found = answers_in(tmp_path / "tokens")
    assert {(row["finish_reason"], row["num_tokens"]) for row in found} == {("length", 10)}
    told = guided_search(PROBLEMS, search_in(tmp_path / "refused"), Engines(silent_on="3+4="), Judge())
    ends = {row["problem"]: row["finish_reason"] for row in answers_in(tmp_path / "refused")}
    assert told["rejected"] > 0
    assert {problem for problem, end in ends.items() if end == "length"} == {"3+4*2-1"}


def test_a_search_that_nothing_guides_ends(ray_session: None, tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="nothing is said of any of the steps drawn at step 1"):
        guided_search(PROBLEMS, search_in(tmp_path / "judge"), Engines(), Judge(silent=True))
    with pytest.raises(SearchError, match="no engine draws a first step"):
        guided_search(PROBLEMS, search_in(tmp_path / "engine"), Engines(silent_on=PREFIX), Judge())
