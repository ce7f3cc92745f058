"""Spans of the samples of groups: moved with a text, rewarded, and where a sample ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curation_runs import PROMPT, trace
from grouped_runs import grouped


def test_turns_spans_and_limits(bpe_tokenizer: str, tmp_path: Path) -> None:
    """Members carry their turns; spans move with a text that is mended; what is too long, or without the prefix, goes."""
    turns = [{"role": "assistant", "content": "<think>a</think> run"}, {"role": "tool", "content": "4"},
             {"role": "assistant", "content": "so 4"}]  # fmt: skip
    rows = [
        trace("p", 0, "correct", "so 4", turns=turns),
        trace("p", 1, "wrong", "hm</think> five<|im_end|>"),  # the prefix was part of the prompt
        trace("p", 2, "wrong", "<think>" + "x" * 900),
        trace("p", 3, "wrong", "no thought"),
        trace("p", 4, "wrong", "<think>cut off", finish_reason="length"),
    ]
    four = {"turn": 2, "start": 3, "end": 4, "label": "l", "value": 0.5}
    five = {"turn": 0, "start": 11, "end": 25, "label": "l", "value": 2.0}
    counts, ((group),) = grouped(
        tmp_path, bpe_tokenizer, [rows], columns={"spans": [[[four], [five], [], [], []]]}, spans="spans",
        prompt=PROMPT, limit=300,
    )  # fmt: skip
    first, second, third = group["members"]
    assert first["turns"] == turns
    assert first["spans"] == [{"turn": 2, "start": 3, "end": 4, "value": 0.5}]
    assert (first["side"], second["side"]) == (1, -1)
    text = second["turns"][0]["content"]
    (span,) = second["spans"]
    assert text == "<think>hm</think> five"
    assert text[span["start"] : span["end"]] == "five"
    assert ([m["finished"] for m in group["members"]], third["spans"]) == ([True, True, False], [])
    assert (counts.dropped, counts.cut_off) == ({"too_long": 1, "without_prefix": 1}, 1)


def test_samples_end_behind_their_last_span(bpe_tokenizer: str, tmp_path: Path) -> None:
    """What comes behind is left out, a text that was cut off ends of itself, and its last part has what closes the turn."""
    rows = [
        trace("p", 0, "correct", "<think>a</think> 7. Once more: 8"),
        trace("p", 1, "wrong", "<think>b</think> 9. And so", finish_reason="length"),
        trace("p", 2, "wrong", "<think>c</think> 9"),
    ]
    spans = [[{"turn": 0, "start": 7, "end": 8, "label": "l", "value": 1.0},
              {"turn": 0, "start": 17, "end": 18, "label": "l", "value": 2.0}]] * 2 + [[]]  # fmt: skip
    counts, (group,) = grouped(
        tmp_path, bpe_tokenizer, [rows], columns={"spans": [spans]}, spans="spans", cut=True, prompt=PROMPT
    )
    assert [member["turns"][0]["content"] for member in group["members"]] == [
        "<think>a</think> 7",
        "<think>b</think> 9",
    ]
    assert [member["finished"] for member in group["members"]] == [True, True]
    assert [[(span["start"], span["end"]) for span in member["spans"]] for member in group["members"]] == [
        [(7, 8), (17, 19)]
    ] * 2
    assert counts.dropped == {"no_spans": 1}


def test_spans_lose_the_mean_of_their_peers(bpe_tokenizer: str, tmp_path: Path) -> None:
    """Two problems solved 1 of 2 times, one always. Values of the first and second spans of the halves' samples: 1, -1, 1, 1 and
    1, -1 (the others have none): means .5 and 0; with 3 peers asked for, the second spans have no baseline, nor has the third
    problem's one sample."""
    rows = [
        trace(name, at, verdict, "abcdef") for name in ("p", "q") for at, verdict in enumerate(("correct", "wrong"))
    ]
    rows.append(trace("r", 0, "correct", "abcdef"))
    values = [[1, 1], [-1, -1], [1], [1], [-1, 1]]
    spans = [
        [{"turn": 0, "start": n, "end": n + 1, "label": "l", "value": float(v)} for n, v in enumerate(of)]
        for of in values
    ]
    taken = {}
    for least in (None, 2, 3):
        _, groups = grouped(
            tmp_path / str(least), bpe_tokenizer, [rows[:3], rows[3:]], columns={"spans": [spans[:3], spans[3:]]},
            spans="spans", span_baseline=least, least=1,
        )  # fmt: skip
        groups.sort(key=lambda group: group["problem_id"])
        taken[least] = [[span["value"] for span in member["spans"]] for group in groups for member in group["members"]]
    assert taken[None] == values
    assert taken[2] == [[0.5, 1], [-1.5, -1], [0.5], [0.5], [-1, 1]]
    assert taken[3] == taken[2]


def test_a_labels_factor_comes_behind_the_baseline(bpe_tokenizer: str, tmp_path: Path) -> None:
    """S2R's doubled rewards: of 1 and 0 with the mean .5 the second is doubled. A sample without spans is left out."""
    rows = [trace("p", at, verdict, "abcdef") for at, verdict in enumerate(("correct", "wrong", "wrong"))]
    spans: list[Any] = [[{"turn": 0, "start": 0, "end": 1, "label": f"l{n}", "value": 1.0 - n}] for n in range(2)]
    spans.append(None)
    counts, (group,) = grouped(
        tmp_path, bpe_tokenizer, [rows], columns={"spans": [spans]}, spans="spans", span_baseline=2, span_factors={"l1": 2},
    )  # fmt: skip
    assert [member["spans"][0]["value"] for member in group["members"]] == [0.5, -1.0]
    assert counts.dropped == {"no_spans": 1}
