"""What data say about places in a text is seen where one looks at them: turns, weighted and judged parts, the first wrong step,
two answers beside each other, the tokens that were trained on. Hostile text stays text here, too.
"""

from __future__ import annotations

import io
import math
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from array_scores import Arrays, group, member, span
from made_run import HOSTILE
from rich.console import Console
from tiny_families import family, sentencepiece

from redi_ray.cli.inspect import inspect_traces
from redi_ray.config.group_steps import ScoreStep
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.token_steps import ContrastStep, LogpsStep
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.report.browse import BrowseError, TraceFilter
from redi_ray.report.marks import Piece, by_values, turns_in_pieces, without_middles
from redi_ray.report.page import build_report
from redi_ray.report.token_values import value_spans, weights_of
from redi_ray.report.trained import _texts
from redi_ray.schemas import GROUP, SPAN_SCORE, VERIFIED_TRACE, stored_votes
from redi_ray.stages.encoding import Weighting
from redi_ray.store import storage
from redi_ray.store.manifests import Stage
from redi_ray.store.parquet import write_table
from redi_ray.store.storage import join, write_bytes

STEPS = ["Step 1: 12 + 30 = 42\n", "Step 2: 42 * 2 = 86\n", "Step 3: so 86"]
TRACE = "".join(STEPS)
LABELS = [("right", 0.75), ("wrong", 0.0), ("unseen", None)]
CONFIG = {
    "name": "seen",
    "evaluate": {"benchmarks": []},
    "steps": {
        "located": {"do": "score", "of": "traces", "scorer": {"name": "rule", "pattern": "Step", "spans": True}},
        "length": {"do": "score", "of": "verified", "scorer": {"name": "length"}},
        "steps": {"do": "groups", "of": "verified", "both_sides": True, "per_side": 1},
        "stepdpo": {"do": "train", "from": "sft", "on": "steps", "objective": {"name": "dpo"}},
    },
}
GROUPS = [
    group(
        "g1",
        member("12=3", spans=[span(2, 4, 1)], finished=False),
        member("12=4", side=-1, spans=[span(2, 3, 0.25), span(3, 4, 1)], finished=False),
        asks=f"1+2? {HOSTILE[:-20]}",
    ),
    group("g2", member("1", ("tool", "2 </pre><b>"), "3", reward=1.0), member("4", side=-1, reward=-0.5), asks="2+1?"),
]


def located(turns: int = 1) -> list[dict[str, Any]]:
    ends = np.cumsum([len(step) for step in STEPS]).tolist()
    return [
        {"turn": turns - 1, "start": end - len(step), "end": end, "label": label, "value": value}
        for step, end, (label, value) in zip(STEPS, ends, LABELS, strict=True)
    ]


def trace(index: int, **changes: Any) -> dict[str, Any]:
    found = {
        "problem_id": f"p{index}", "problem": "12 + 30, twice?", "answer": "84", "source": "book", "trace_id": f"p{index}#0",
        "sample_index": 0, "completion": TRACE, "finish_reason": "stop", "num_tokens": 20, "model": "teacher",
        "verdict": "wrong", "verdict_by": stored_votes({"math_verify": "wrong"}), "extracted_answer": "86",
    }  # fmt: skip
    return {**found, **changes}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three traces, the second of several turns, with a column of spans and one of numbers; groups, and a training on them."""
    uri = str(tmp_path_factory.mktemp("runs") / "seen")
    write_bytes(join(uri, "config.yaml"), yaml.safe_dump(CONFIG, sort_keys=False).encode())
    turns = [("assistant", "add"), ("tool", f"42 {HOSTILE[:-20]}"), ("assistant", TRACE)]
    several = [{"role": role, "content": said} for role, said in turns]
    rows = [trace(0), trace(1, turns=several), trace(2, verdict="correct")]
    verified = Stage(uri, "verified", {}, {})
    write_table(join(verified.uri, "verified", "part-0.parquet"), pa.Table.from_pylist(rows, schema=VERIFIED_TRACE))
    verified.publish(counts={"in": 3, "out": 3}, facts={"verdicts": {"wrong": 2, "correct": 1}})
    spans = [
        {"trace_id": "p0#0", "spans": located()},
        {"trace_id": "p1#0", "spans": located(3)},
        {"trace_id": "p2#0", "spans": None},
    ]
    lengths = pa.table({"trace_id": [row["trace_id"] for row in rows], "value": [11.0, None, 13.0]})
    for name, table in (("located", pa.Table.from_pylist(spans, schema=SPAN_SCORE)), ("length", lengths)):
        column = Stage(uri, f"steps/{name}/column", {}, {})
        write_table(join(column.uri, "column", "part-0.parquet"), table)
        column.publish(counts={"in": 3, "out": 3})
    groups = Stage(uri, "steps/steps/groups", {}, {})
    write_table(join(groups.uri, "groups", "part-0.parquet"), pa.Table.from_pylist(GROUPS, schema=GROUP))
    groups.publish(counts={"in": 4, "out": 4, "groups": 2})
    write_training(uri)
    return uri


def write_training(uri: str) -> None:
    tokenizer = character_tokenizer("0123456789+=?")
    sequences = Stage(uri, "steps/stepdpo/sequences/pairs", {}, {})
    rows = [{**one, "prompt": [{"role": "user", "content": "1+2?"}]} for one in GROUPS[:1]]
    weighting = Weighting(end_of_turn=False, think_tags=False)
    store = Arrays(rows, Path(sequences.uri) / "made", tokenizer, lambda token: (0, 0), weighting).store("pairs")
    store.save(Path(sequences.uri) / "arrays")
    storage.delete(join(sequences.uri, "made"))
    sequences.publish(counts={"in": 1, "out": 1, "groups": 1, "sequences": 2})
    model = Stage(uri, "checkpoints/stepdpo", {}, {"sequences": sequences.key})
    tokenizer.save_pretrained(join(model.uri, "export"))
    model.publish(facts={"export": join(model.uri, "export"), "steps": 1, "status": "done"})


def shown(run: str, *, terminal: bool = False, **options: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=terminal, color_system="standard" if terminal else None)
    console.pager = lambda **_: nullcontext()  # type: ignore[method-assign, assignment, misc]
    asked = {"step": None, "limit": 5, "whole": False, "as_json": False, **options}
    inspect_traces(run, TraceFilter(), console=console, **asked)
    return out.getvalue()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_text_is_cut_at_its_spans_and_loses_nothing():
    """Whatever the spans are: the pieces are the text."""
    text = "abcdef"
    odd = [span(4, 99, 1), span(1, 3, 0.5), span(2, 4, -1), span(5, 5, 1), span(9, 12, 1)]
    for spans in (None, [], [span(0, 6, 1)], [span(2, 4, 0.5)], odd):
        ((role, pieces),) = turns_in_pieces([{"role": "assistant", "content": text}], spans, -1)
        assert (role, "".join(piece.text for piece in pieces)) == ("assistant", text)
    assert turns_in_pieces([{"role": "assistant", "content": text}], [span(2, 4, 0.5)], -1) == [
        ("assistant", [Piece("ab"), Piece("cd", -0.5), Piece("ef")])
    ]
    assert [(piece.tone, piece.strength) for piece in (Piece("a", -0.5), Piece("a", 3.0), Piece("a", 0.0), Piece("a"))] == [
        ("down", 0.5), ("up", 1.0), ("", 0.0), ("", 1.0),
    ]  # fmt: skip
    assert by_values(["a", "b", "c"], [1, 1, 0]) == [Piece("ab", 1), Piece("c", 0)]
    long = [Piece("x" * 900), Piece("y" * 90, 1.0)]
    assert [len(piece.text) < 200 for piece in without_middles(long, 100)] == [True, True]
    assert without_middles(long, 100)[0].text.endswith("x" * 100)


def test_the_first_wrong_step_is_marked_in_the_traces_that_a_column_is_of(run: str):
    for options in (
        {"step": "located"},
        {"columns": ["located"]},
        {"step": "verified", "columns": ["located", "length"]},
    ):
        told = shown(run, **options)
        assert "\u25b6 first wrong 0" in told
        assert told.count("\u25b6") == 2
        assert [line.split("Step")[0].strip() for line in told.splitlines() if "Step" in line][:3] == [
            "right 0.75", "\u25b6 first wrong 0", "unseen",
        ]  # fmt: skip
        assert "tool: 42" in told
    assert "length: 11.0" in shown(run, step="verified", columns=["length"])
    assert "located: -" in shown(run, step="located"), "where the locator has failed"
    coloured = shown(run, terminal=True, step="located")
    assert "\x1b[1;37;41mStep 2: 42 * 2 = 86" in coloured
    with pytest.raises(
        BrowseError, match="steps is no column of the samples of verified; columns of theirs: located, length"
    ):
        shown(run, step="verified", columns=["steps"])


def test_sides_stand_beside_each_other_with_their_weights(run: str):
    """On a terminal; in a pipe one after the other, weights in brackets."""
    told = plain(shown(run, terminal=True, step="steps"))
    (line,) = [line for line in told.splitlines() if "12=3" in line]
    assert "12=4" in line
    piped = shown(run, step="steps")
    assert "12[+1: =3]" in piped
    assert "12[-0.25: =][-1: 4]" in piped
    assert "answer -1, reward -0.5:" in piped
    assert "tool: 2 </pre><b>" in piped


def test_the_tokens_that_a_training_has_learnt_from(run: str):
    told = shown(run, step="stepdpo")
    assert "2 of " in told
    assert "12[+1: =3]" in told
    assert "[-0.25: =][-1: 4]" in told
    assert "\x1b[1;31m4" in shown(run, terminal=True, step="stepdpo")


def test_tokens_put_together_are_the_text():
    """Characters of several tokens, and such as a tokenizer of SentencePiece's kind begins a text with."""
    text = "So 12 \u4e2d\u6587 + 30 \U0001f600"
    for tokenizer in (family("qwen"), sentencepiece(), sentencepiece("first")):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        found = _texts(ids, tokenizer.backend_tokenizer)
        assert len(found) == len(ids)
        assert "".join(found).strip() == text


def test_the_report_shows_the_same_and_hostile_text_stays_text(run: str):
    paths = build_report(run)
    page, traces = Path(paths.html).read_text(), Path(str(paths.traces)).read_text()
    assert '<mark class="up" style="--w:1.00" title="+1">=3</mark>' in page
    assert (
        '<mark class="down" style="--w:0.25" title="-0.25">=</mark><mark class="down" style="--w:1.00" title="-1">4</mark>'
        in page
    )
    assert "What was learnt from, token by token" in page
    assert "2 of 11 tokens are scored" in page
    assert (
        '<mark class="wrong located" style="--w:0.00" title="first wrong 0" data-known="0">Step 2: 42 * 2 = 86'
        in traces
    )
    assert traces.count('class="wrong located" style') == 2
    assert '<div class="turn context"><span class="role">tool</span>' in traces
    assert "<dt>column length</dt><dd>11.0</dd>" in traces
    for html in (page, traces):
        assert "<script>alert" not in html
        assert "<img" not in html
        assert "<b>" not in re.sub(r"<td><b>", "", html)


def test_numbers_of_tokens_are_parts_of_the_text():
    """Turn by turn, past the token that closes one. Numbers of other tokens are refused."""
    tokenizer, prompt = character_tokenizer("0123456789+=?"), PromptSettings(prefix="")
    turns = [
        {"role": role, "content": text} for role, text in (("assistant", "12"), ("tool", "9"), ("assistant", "345"))
    ]
    values = [0.0, -0.89, -0.5, -1.0, -0.96, 0.0, -0.5]
    found = value_spans(turns, values, tokenizer, prompt)
    assert [(span["turn"], span["start"], span["end"], span["value"]) for span in found] == [
        (0, 0, 1, 0.0), (0, 1, 2, -0.9), (2, 0, 2, -1.0), (2, 2, 3, 0.0),
    ]  # fmt: skip
    assert value_spans(turns, values[:-1], tokenizer, prompt) == found, "cut off, so that nothing closes it"
    for wrong in (values[:-2], [*values, 1.0]):
        with pytest.raises(ValueError, match=r"argument|numbers for"):
            value_spans(turns, wrong, tokenizer, prompt)


def test_a_number_weighs_by_what_made_it():
    """cDPO's scores less 1, probabilities less 1, OREAL's weights of the golden logits (.4, -1.2, .8); never beyond 1."""
    contrast = ContrastStep(do="contrast", of="verified", right="a", wrong="b")
    logps = LogpsStep(do="logps", of="verified")
    reward = ScoreStep(do="score", of="verified", scorer={"name": "reward", "model": "rm", "at": "tokens"})
    assert weights_of(contrast, [1.0, 0.1]) == pytest.approx([0.0, -0.9])
    assert weights_of(logps, [0.0, math.log(0.25), -800.0]) == pytest.approx([0.0, -0.75, -1.0])
    assert weights_of(reward, [0.4, -1.2, 0.8]) == pytest.approx([0.1973753, -0.1973753, 0.0], abs=1e-7)
    assert weights_of(None, [3.0, -0.5]) == [1.0, -0.5]
