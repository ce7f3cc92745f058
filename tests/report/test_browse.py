"""Looking at traces: the filters let through what they say, little is read, and hostile text stays text."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from redi_ray.cli.app import app
from redi_ray.cli.inspect import inspect_traces
from redi_ray.report.browse import BrowseError, TraceFilter, find_traces, read_traces
from redi_ray.schemas import VERIFIED_TRACE, stored_votes
from redi_ray.store.manifests import Stage
from redi_ray.store.parquet import write_table
from redi_ray.store.storage import join

HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold]not markup[/bold] \x9b31m done"


def trace(index: int, verdict: str, **changes: object) -> dict:
    found = {
        "problem_id": f"p{index}",
        "problem": f"What is {index} + 1?",
        "answer": str(index + 1),
        "source": "book" if index % 2 else "web",
        "trace_id": f"p{index}#0",
        "sample_index": 0,
        "completion": "Let me think. " * index + rf"So \boxed{{{index}}}.",
        "finish_reason": "stop",
        "num_tokens": 10 * index,
        "model": "teacher",
        "votes": stored_votes({"label": "wrong"}),
        "verdict": verdict,
        "verdict_by": stored_votes({"math_verify": verdict, "label": "wrong"}),
        "extracted_answer": str(index),
    }
    return {**found, **changes}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with three shards: wrong, correct, timeout traces."""
    uri = str(tmp_path_factory.mktemp("runs") / "demo")
    stage = Stage(uri, "verified", {}, {})
    for number, verdict in enumerate(["wrong", "correct", "timeout"]):
        rows = [trace(10 * number + k, verdict) for k in range(10)]
        table = pa.Table.from_pylist(rows, schema=VERIFIED_TRACE)
        write_table(join(stage.uri, "verified", "round-000", f"part-{number}.parquet"), table)
    stage.publish(counts={"in": 30, "out": 30})
    return uri


def ids(target: str, limit: int | None = None, **wanted: object) -> list[str]:
    return [row["problem_id"] for row in read_traces(find_traces(target), TraceFilter(**wanted), limit)]


def test_filters(run: str):
    assert len(ids(run)) == 30
    assert ids(run, verdicts=["timeout"], sources=["web"]) == ["p20", "p22", "p24", "p26", "p28"]
    assert ids(run, problem_ids=["p3", "p14"]) == ["p3", "p14"]
    assert ids(run, text="WHAT IS 7 ") == ["p7"]
    assert ids(run, text="boxed{12}") == ["p12"]
    lengths = {row["problem_id"]: len(row["completion"]) for row in read_traces(find_traces(run), TraceFilter())}
    assert ids(run, min_length=lengths["p28"]) == ["p28", "p29"]
    assert ids(run, max_length=lengths["p1"]) == ["p0", "p1"]
    assert ids(run, verdicts=["correct"], limit=3) == ["p10", "p11", "p12"]
    assert ids(run, text="no such text") == []


def test_what_can_be_looked_at(run: str, tmp_path: Path):
    """A run, its stage, the stage's output, a file; and a config, which names the run."""
    stage = join(run, "verified")
    (shard, *_) = find_traces(run)
    config = tmp_path / "demo.yaml"
    config.write_text(f"name: demo\nstorage: {{root: {Path(run).parent}}}\n")
    for target in (run, stage, shard.rsplit("/", 3)[0], shard.rsplit("/", 1)[0], str(config)):
        assert find_traces(target) == find_traces(run)
    assert find_traces(shard) == [shard]
    with pytest.raises(BrowseError, match="is not there"):
        find_traces(join(run, "nothing"))
    with pytest.raises(BrowseError, match="no Parquet file below"):
        find_traces(str(tmp_path))


def test_little_is_read(tmp_path: Path):
    """Completions of a shard without a match are not touched, and no shard after the limit is: both are damaged here."""
    good, spoilt, broken = (str(tmp_path / f"{name}.parquet") for name in ("a-good", "b-spoilt", "c-broken"))
    for uri, verdict in ((good, "wrong"), (spoilt, "correct")):
        table = pa.Table.from_pylist([trace(k, verdict) for k in range(50)], schema=VERIFIED_TRACE)
        pq.write_table(table, uri, compression="none", use_dictionary=["verdict"])
    column = pq.read_metadata(spoilt).row_group(0).column(VERIFIED_TRACE.names.index("completion"))
    data = bytearray(Path(spoilt).read_bytes())
    data[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = bytes(
        column.total_compressed_size
    )
    Path(spoilt).write_bytes(data)
    Path(broken).write_bytes(b"PAR1 and no more")
    wrong = TraceFilter(verdicts=["wrong"])
    assert len(list(read_traces([spoilt, good], wrong))) == 50
    with pytest.raises(BrowseError, match="b-spoilt"):
        list(read_traces([spoilt], TraceFilter()))
    assert len(list(read_traces([good, broken], wrong, limit=50))) == 50
    with pytest.raises(BrowseError, match="c-broken"):
        list(read_traces([good, broken], wrong, limit=51))


def test_missing_columns_and_unknown_verdicts_are_told(tmp_path: Path):
    pq.write_table(pa.table({"trace_id": ["a"], "verdict": ["wrong"]}), tmp_path / "x.parquet")
    with pytest.raises(BrowseError, match="no `source`, so it cannot be filtered by; they have trace_id, verdict"):
        ids(str(tmp_path), sources=["book"])
    with pytest.raises(BrowseError, match="no verdict rong; they are correct, wrong"):
        TraceFilter(verdicts=["rong"])


def test_everything_about_a_trace_is_shown_and_hostile_text_stays_text(tmp_path: Path):
    row = trace(3, "wrong", problem=HOSTILE, completion="x" * 2000 + HOSTILE, extracted_answer=None)
    pq.write_table(pa.Table.from_pylist([row], schema=VERIFIED_TRACE), tmp_path / "x.parquet")
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=False, width=80)
    assert inspect_traces(str(tmp_path), TraceFilter(), limit=5, whole=False, as_json=False, console=terminal) == 1
    shown = out.getvalue()
    for told in (
        "p3#0", "wrong", "source: book", "model: teacher", "30 tokens", "finished by stop", "gold: 4", "extracted: -",
        "votes: math_verify wrong, label wrong", "the last 1,500 of 2,0", "[bold]not markup[/bold]",
    ):  # fmt: skip
        assert told in shown, told
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\x9b" not in shown


def test_on_the_command_line(run: str):
    """Plain text in a pipe, JSON lines with every column, a word where there is nothing or more."""

    def shown(*options: str) -> tuple[str, str]:
        result = CliRunner().invoke(app, ["inspect", run, *options])
        assert result.exit_code == 0, result.output
        return result.stdout, result.stderr

    lines, told = shown("--json", "--verdict", "timeout", "--limit", "2")
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [row["problem_id"] for row in rows] == ["p20", "p21"]
    assert set(rows[0]) == set(VERIFIED_TRACE.names)
    assert "stopped at --limit 2" in told
    text, _ = shown("--problem", "p4", "--whole")
    assert text.count("Let me think.") == 4
    assert shown("--text", "nowhere") == ("", "no trace matches\n")
    failed = CliRunner().invoke(app, ["inspect", run, "--verdict", "rong"])
    assert (failed.exit_code, "no verdict rong" in failed.stderr) == (2, True)
