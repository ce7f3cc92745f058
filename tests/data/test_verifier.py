"""Many rows at once: order, cache, and a hostile set mixed into real traces."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from redi_ray.config.answers import VerifySettings
from redi_ray.data.verifier import AnswerVerifier
from redi_ray.schemas import Verdict

DECIDED = (Verdict.CORRECT, Verdict.WRONG)

HOSTILE: list[tuple[str, object]] = [
    ("power tower", r"\boxed{9^{9^{9^{9^{9}}}}}"),
    ("power tower, plain", r"\boxed{2**3**4**5**6**7}"),
    ("big power", r"\boxed{10^{10^{10}}}"),
    ("factorial tower", r"\boxed{((((9!)!)!)!)!}"),
    ("big factorial", r"\boxed{(10^{9})!}"),
    ("800 parentheses", r"\boxed{" + "(" * 800 + "5" + ")" * 800 + "}"),
    ("800 roots", r"\boxed{" + r"\sqrt{" * 100 + "5" + "}" * 100 + "}"),
    ("100k digits", r"\boxed{" + "7" * 100_000 + "}"),
    ("100k digits, decimal", r"\boxed{0." + "7" * 100_000 + "}"),
    ("1900 digits, decimal", r"\boxed{0." + "7" * 1900 + "}"),
    ("megabyte without an answer", "lorem ipsum " * 100_000),
    ("megabyte box", r"\boxed{" + "x+" * 500_000 + "1}"),
    ("control characters", "\\boxed{\x01\x02\x1b[31m\x07\x08}"),
    ("null bytes", "\\boxed{\x00}\x00"),
    ("unclosed braces", r"so \boxed{{{{{{{{5"),
    ("megabyte of unclosed boxes", r"\boxed{" * 150_000),
    ("looping boxes", r"\boxed{}. " * 50_000),
    ("looping full boxes", r"\boxed{5}, " * 50_000),
    ("lone surrogate", "\\boxed{\ud800}"),
    ("integral", r"\boxed{\int_0^1 \int_0^1 \int_0^1 e^{\sin(x^y^z)} dx dy dz}"),
    ("sum", r"\boxed{\sum_{n=1}^{10^{9}} \frac{1}{n^{n^n}}}"),
    ("huge binomial", r"\boxed{\binom{10^{12}}{10^{11}}}"),
    ("null", None),
    ("number", 5),
    ("bytes", b"\\boxed{5}"),
    ("list", ["\\boxed{5}"]),
    ("dict", {"completion": "5"}),
    ("nan", float("nan")),
]


@pytest.fixture(scope="module")
def real(test_data: Path) -> list[tuple[str, str]]:
    with gzip.open(test_data / "traces" / "sky_math500.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file][::10]
    return [(row["gold"], row["trace"]) for row in rows]


def workers() -> dict[int, int]:
    """Process id -> peak resident memory in MiB, of the comparing processes of this one."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields["PPid"]) == os.getpid() and b"redi_ray.text.worker" in command and "VmHWM" in fields:
            found[int(fields["Pid"])] = int(fields["VmHWM"].split()[0]) >> 10
    return found


def test_hostile_answers_change_nothing_else(real):
    """The hostile set, one row in ten: every row gets its verdict, and the real ones the verdict they get alone."""
    settings = VerifySettings(timeout_seconds=3, memory_mb=1024, processes=2)
    mixed: list[tuple[object, object]] = []
    places = {}
    for index, (name, completion) in enumerate(HOSTILE):
        mixed += real[index * 10 : index * 10 + 10]
        places[len(mixed)] = name
        mixed.append(("5", completion))
    others = workers()
    with AnswerVerifier(settings) as verifier:
        alone = dict(zip(real, verifier.verify_many(real), strict=True))
    with AnswerVerifier(settings) as verifier:
        together = verifier.verify_many(mixed)
        peaks = {pid: peak for pid, peak in workers().items() if pid not in others}
        assert verifier.verify_many([("x+1", r"\boxed{1+x}")])[0].verdict == Verdict.CORRECT
        survivors = workers().keys() - others.keys()
    hostile = {name: together[index].verdict for index, name in places.items()}
    for index, (row, verdict) in enumerate(zip(mixed, together, strict=True)):
        assert index in places or verdict == alone[row], row
    assert all(peak < settings.memory_mb for peak in peaks.values()), peaks
    for name in ("number", "bytes", "list", "dict", "nan"):
        assert hostile[name] == Verdict.ERROR, name
    for name in (
        "null",
        "looping boxes",
        "unclosed braces",
        "megabyte box",
        "megabyte without an answer",
        "100k digits",
    ):
        assert hostile[name] == Verdict.NO_ANSWER, name
    for name in ("power tower", "big power", "factorial tower", "big factorial", "800 parentheses"):
        assert hostile[name] not in DECIDED, name
    assert hostile["looping full boxes"] == Verdict.CORRECT
    assert not survivors & workers().keys(), "no process is left behind"


def test_order_and_cache():
    rows = [("x+1", r"\boxed{1+x}"), ("5", r"\boxed{5}"), ("x+1", r"\boxed{1+x}"), ("5", r"\boxed{6}")] * 3
    with AnswerVerifier(VerifySettings(cache_size=2)) as verifier:
        first = verifier.verify_many(rows)
        assert [v.verdict.value for v in first] == ["correct", "correct", "correct", "wrong"] * 3
        assert verifier.counts.compared == 1, "equal rows of a batch are compared once"
        assert verifier.verify_many(rows) == first


def test_a_guess_is_never_wrong():
    """The conclusion of a long text that does not hold the gold says nothing; an explicit answer does."""
    text = "We try this and that for a while. " * 20 + "Therefore it seems to be 6."
    with AnswerVerifier(VerifySettings()) as verifier:
        verdicts = [v.verdict for v in verifier.verify_many([("6", text), ("7", text), ("7", text + r" \boxed{6}")])]
    assert verdicts == [Verdict.CORRECT, Verdict.NO_ANSWER, Verdict.WRONG]
