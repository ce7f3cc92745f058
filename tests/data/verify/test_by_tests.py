"""Tests among the verifiers: which problem is judged by what, what is stored, and that runs without tests know nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from code_set import solutions
from sandboxes import isolation

from redi_ray.config.answers import VerifySettings
from redi_ray.config.code import CodeSettings
from redi_ray.config.data import Columns, FilesSource
from redi_ray.config.identity import identity
from redi_ray.config.judges import JudgeSettings
from redi_ray.config.problems import ProblemsConfig
from redi_ray.config.trace_files import TraceColumns
from redi_ray.data.sources.problems import _collect_rows
from redi_ray.data.sources.readers import DataError
from redi_ray.data.sources.tests_table import TestsReader, TestsWriter, write_sources
from redi_ray.data.verify.decide import decide_table
from redi_ray.data.verify.files import add_up, as_items, plan, prepare, publish
from redi_ray.data.verify.judge import Ballots
from redi_ray.data.verify.stripes import VerifyStripes
from redi_ray.data.verify.traces import VerifyShards, verify_table, verify_traces
from redi_ray.data.verify.verifier import AnswerVerifier
from redi_ray.report.browse import details
from redi_ray.report.traces import sample_traces
from redi_ray.schemas import TRACE, VERIFIED_TRACE, Verdict, stored_votes, votes_of, with_tests
from redi_ray.store import parquet, storage
from redi_ray.text.code_tests import CodeTests, StdinCase

CODE = CodeSettings(cpu_seconds=2, run_all=True, isolation=isolation())
SETTINGS = VerifySettings(tests=CODE)
DOUBLE = CodeTests([StdinCase("1", "2"), StdinCase("4", "8")])
RIGHT, HALF = "```python\nprint(2 * int(input()))\n```", "```python\ninput(); print(2)\n```"


def trace(index: int, completion: str, answer: str | None = None, **columns: object) -> dict:
    ids = {"problem_id": f"p{index}", "trace_id": f"p{index}#0", "sample_index": 0}
    return {**ids, "problem": "Double it.", "answer": answer, "completion": completion, **columns}


@pytest.fixture(scope="module")
def verifier():
    with AnswerVerifier(SETTINGS) as shared:
        yield shared


def verdicts(
    rows: list[dict], tests: list[CodeTests | None], verifier: AnswerVerifier, settings: VerifySettings
) -> pa.Table:
    return verify_table(pa.Table.from_pylist(rows, schema=TRACE), verifier, settings, tests)


def test_each_problem_is_judged_by_what_it_has(verifier: AnswerVerifier):
    rows = [trace(0, RIGHT), trace(1, HALF, "2"), trace(2, r"\boxed{4}", "4"), trace(3, RIGHT), trace(4, "2 * x")]
    out = verdicts(rows, [DOUBLE, DOUBLE, None, None, DOUBLE], verifier, SETTINGS)
    assert out.schema.equals(with_tests(VERIFIED_TRACE))
    assert out["verdict"].to_pylist() == ["correct", "wrong", "correct", "gold_unparseable", "no_answer"]
    assert [list(votes_of(by)) for by in out["verdict_by"].to_pylist()] == [["tests"]] * 2 + [["math_verify"]] * 2 + [
        ["tests"]
    ]
    assert out["extracted_answer"][0].as_py() == "print(2 * int(input()))"
    stored = out["tests"].to_pylist()
    assert (stored[0]["total"], stored[0]["run"], stored[0]["passed"], stored[0]["failures"]) == (2, 2, 2, [])
    assert stored[1]["failures"] == [{"test": 1, "reason": "wrong_output", "detail": "word 1 is '2', expected '8'"}]
    assert (stored[1]["passed"], stored[2], stored[3], stored[4]["run"]) == (1, None, None, 0)


def test_a_part_is_never_wrong_and_code_that_is_whole_counts(verifier: AnswerVerifier):
    rows = [trace(k, text, finish_reason=why) for k, (text, why) in enumerate(
        [(HALF, "abort"), (RIGHT, "abort"), (HALF, "length"), (RIGHT[:-4], "length"), (RIGHT[:-4], "stop")]
    )]  # fmt: skip
    out = verdicts(rows, [DOUBLE] * 5, verifier, SETTINGS)
    assert out["verdict"].to_pylist() == ["no_answer", "correct", "wrong", "no_answer", "correct"]


def test_the_vote_of_tests_stands_for_math_verify_and_no_judge_has_a_say(verifier: AnswerVerifier):
    """Under every policy, in the second pass, too; a shipped vote of the same name is another thing where there are no tests."""
    told = stored_votes({"tests": "wrong", "judge": "wrong"})
    rows = [trace(0, RIGHT, votes=told), trace(1, HALF, votes=told), trace(2, r"\boxed{4}", "4", votes=told)]
    both = VerifySettings(tests=CODE, votes=["math_verify", "judge"], policy="all")
    first = verdicts(rows, [DOUBLE, DOUBLE, None], verifier, both)
    assert first["verdict"].to_pylist() == ["correct", "wrong", "error"]
    again = decide_table(first, [Verdict.WRONG, Verdict.CORRECT, Verdict.CORRECT], both)
    assert again["verdict"].to_pylist() == ["correct", "wrong", "correct"]
    assert again.schema.equals(first.schema)
    inverted = decide_table(first, None, VerifySettings(tests=CODE, invert_labels=True))
    assert inverted["verdict"].to_pylist() == ["wrong", "correct", "wrong"]
    mine = VerifySettings(votes=["math_verify", "tests"], policy="drop_disagreement")
    assert verdicts(rows[2:], [None], verifier, mine)["verdict"].to_pylist() == ["error"], "votes that came contradict"
    ballots = Ballots(both, JudgeSettings(model="a/b"))
    row = {
        "completion": RIGHT,
        "problem": "?",
        "answer": "4",
        "votes": None,
        "verdict_by": first["verdict_by"][0].as_py(),
    }
    assert ballots.not_asked(row) == "judged_by_tests"


def test_solutions_that_come_to_other_verdicts_are_told(verifier: AnswerVerifier):
    code = "```python\nimport random\nx = int(input())\nprint(2 * x if random.random() < 0.8 else 0)\n```"
    with AnswerVerifier(VerifySettings(tests=CodeSettings(repeats=8, isolation=isolation()))) as often:
        (found,) = often.test_many([(code, CodeTests([StdinCase("1", "2")] * 3), True)])
    assert found.verdict == "error"
    assert found.failures[0].reason == "flaky"


def test_without_tests_nothing_is_another(verifier: AnswerVerifier):
    """Rows, keys and columns of runs that have none stay as they were."""
    table = pa.Table.from_pylist([trace(0, r"\boxed{4}", "4")], schema=TRACE)
    assert verify_table(table, verifier, VerifySettings()).schema.equals(VERIFIED_TRACE)
    assert "tests" not in identity(VerifySettings())
    assert identity(VerifySettings(tests=None))["tests"] is None
    assert not {"tests", "entry_point", "test_setup"} & (identity(Columns()).keys() | identity(TraceColumns()).keys())


def problem_rows() -> list[dict]:
    """One row for each problem of the set that is quick, with its right solution and its wrong one; two that have no tests."""
    found: dict[str, dict] = {}
    for one in solutions():
        row = found.setdefault(
            one.name, {"problem_id": one.name, "problem": f"Write {one.name}.", "tests": None, "texts": []}
        )
        cases = json.loads(one.tests.stored())
        row["tests"] = json.dumps([{**case, "fn_name": cases["name"]} for case in cases["cases"]])
        row["texts"] = [*row["texts"], one.completion][:2]
    rows = [row for row in found.values() if '"code"' not in row["tests"]]
    rows.append({"problem_id": "math", "problem": "2 + 2?", "answer": "4", "texts": [r"\boxed{4}", r"\boxed{5}"]})
    return [
        *rows,
        {"problem_id": "bad", "problem": "?", "tests": "{1", "texts": []},
        {"problem_id": "none", "problem": "??"},
    ]


def collected(tmp_path: Path, rows: list[dict]):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = Columns(tests="tests", completion="texts")
    source = FilesSource(paths=[str(path)], columns=columns)
    return _collect_rows(ProblemsConfig(source=source), str(tmp_path / "problems"))  # as a task of Ray's does


def traces_of_the_set(tmp_path: Path) -> tuple[list[str], str, int]:
    """Shards of 30 traces, the table of tests, and how many traces there are: the first of each two is right."""
    rows = problem_rows()
    counts = collected(tmp_path, rows)
    assert counts.rejected == {"bad_tests": 1, "no_answer": 1}
    assert counts.counts == {"in": len(rows), "out": len(rows) - 2}
    assert counts.tests == len(rows) - 3
    table = pa.concat_tables(
        parquet.read_tables(storage.list_files(str(tmp_path / "problems" / "imported"), ".parquet"))
    )
    assert table.schema.equals(TRACE)
    (tmp_path / "in").mkdir()
    for start in range(0, table.num_rows, 30):
        pq.write_table(table.slice(start, 30), tmp_path / "in" / f"part-{start:05d}.parquet")
    shards = storage.list_files(str(tmp_path / "in"), ".parquet")
    return shards, str(tmp_path / "problems" / "tests"), table.num_rows


def verified(out: Path) -> pa.Table:
    return pa.concat_tables(parquet.read_tables(storage.list_files(str(out), ".parquet")))


def test_from_rows_with_tests_to_verdicts(tmp_path: Path):
    """Problems with tests need no answer, and those with an answer no tests; counts add up."""
    shards, tests_uri, rows = traces_of_the_set(tmp_path)
    actor = VerifyShards(str(tmp_path / "out"), SETTINGS, tests_uri)
    told = actor({"uri": shards})
    assert told["failure"] == [""] * len(shards)
    assert sum(told["correct"]) == sum(told["wrong"]) == rows / 2
    assert sum(told["tested"]) == rows - 2
    found = verified(tmp_path / "out")
    assert found.schema.equals(with_tests(VERIFIED_TRACE))
    assert found["verdict"].to_pylist() == ["correct", "wrong"] * (rows // 2)
    written = [(uri, {}) for uri in storage.list_files(str(tmp_path / "out"), ".parquet")]
    told = [details(row).get("tests") for row in sample_traces(written)]
    assert "1 of 2 passed; test 1: wrong output (word 1 is '55', expected '1')" in told, "as the report's page has it"


@pytest.mark.long
def test_a_stage_that_was_killed_makes_what_is_missing_again(ray_session, tmp_path: Path):
    shards, tests_uri, rows = traces_of_the_set(tmp_path)
    out = tmp_path / "out"
    done = verify_traces(shards, str(out), SETTINGS, concurrency=2, tests_uri=tests_uri)
    assert (done.rows, done.tested) == (rows, rows - 2)
    before = verified(out)
    (out / "part-00030.parquet").unlink()
    again = verify_traces(shards, str(out), SETTINGS, concurrency=2, tests_uri=tests_uri)
    assert (again.shards_reused, again.verdicts) == (len(shards) - 1, done.verdicts)
    assert verified(out).drop(["tests"]).equals(before.drop(["tests"]))


def test_tests_are_found_by_the_texts_of_problems(tmp_path: Path):
    """Under another id too; of two with one text by the id; other tests of one problem are a conflict; none at all is told."""
    tests = [{"stdin": "1", "stdout": str(n)} for n in range(4)]
    rows = [
        {"problem_id": "a", "problem": "Same.", "tests": tests[:1], "texts": []},
        {"problem_id": "b", "problem": "Same.", "tests": tests[1:2], "texts": []},
        {"problem_id": "c", "problem": "Other.", "answer": "1", "texts": []},
        {"problem_id": "c", "problem": "Other.", "tests": tests[2:3], "texts": []},
        {"problem_id": "c", "problem": "Other.", "tests": tests[3:], "texts": []},
    ]
    counts = collected(tmp_path, rows)
    assert (counts.tests, counts.rejected) == (3, {"conflicting_tests": 1})
    reader = TestsReader(str(tmp_path / "problems" / "tests"))
    found = reader.find(["a", "b", "x", "x#1", "c"], ["Same.", "Same.", "Same.", "Other.", "None."])
    wanted = [None if one is None else one.cases[0].stdout for one in found]  # type: ignore[union-attr]
    assert wanted == ["0", "1", None, "2", None]
    writer = TestsWriter(str(tmp_path / "mixed"))
    writer.add("code/1", "Same.", DOUBLE)
    writer.flush()
    write_sources(str(tmp_path / "mixed"), ["code", "maths"])
    ids = ["code/1", "code/2", "maths/1", "a copy"]
    told = [one is not None for one in TestsReader(str(tmp_path / "mixed")).find(ids, ["Same."] * 4)]
    assert told == [True, True, False, True], "no source's problem has the tests of another source's"
    assert TestsReader(str(tmp_path / "nowhere")).find(["a"], ["Same."]) == [None]
    (tmp_path / "none").mkdir()
    empty = collected(tmp_path / "none", [{"problem_id": "a", "problem": "?", "answer": "1", "texts": []}])
    assert any("none of 1 problems has tests" in warning for warning in empty.warnings)


def test_files_of_traces_with_tests_in_their_rows(tmp_path: Path):
    cases = [{"input": "1", "output": "2"}, {"input": "4", "output": "8"}]
    rows = [
        {"problem_id": "a", "io": cases, "completion": RIGHT},
        {"problem_id": "a", "io": json.dumps(cases), "completion": HALF},
        {"problem_id": "b", "io": None, "completion": RIGHT},
        {"problem_id": "c", "io": "{", "completion": RIGHT},
    ]
    path = tmp_path / "traces.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    work = prepare([str(path)], str(tmp_path / "out"), TraceColumns(tests="io"), SETTINGS)
    actor = VerifyStripes(work.out_uri, work.columns, work.settings)  # as an actor of Ray's does
    done = [row for item in as_items(plan(work, workers=1)) for row in actor({"task": [item["task"]]})]
    manifest = publish(work, add_up({name: values[0] for name, values in row.items()} for row in done), 0.0)
    assert manifest.facts["this_run"]["tested"] == 2
    assert manifest.counts == {"in": 4, "out": 3}
    assert manifest.rejected == {"bad_tests": 1}
    (shard,) = storage.list_files(str(tmp_path / "out" / "verdicts"), ".parquet")
    found = pq.read_table(shard)
    assert found["verdict"].to_pylist() == ["correct", "wrong", "gold_unparseable"]
    assert [None if one is None else one["passed"] for one in found["tests"].to_pylist()] == [2, 1, None]
    with pytest.raises(DataError, match=r"no tests \(column `nope`\)"):
        prepare([str(path)], str(tmp_path / "other"), TraceColumns(tests="nope"), SETTINGS)
