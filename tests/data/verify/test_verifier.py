"""Many rows at once: order, cache, and a hostile set mixed into real traces."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hostile import GOLD, HOSTILE, WRONG_TYPES, own_comparing_processes

from redi_ray.config.answers import VerifySettings
from redi_ray.data.verify.verifier import AnswerVerifier
from redi_ray.schemas import Verdict


@pytest.fixture(scope="module")
def real(test_data: Path) -> list[tuple[str, str]]:
    with gzip.open(test_data / "traces" / "sky_math500.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file][::10]
    return [(row["gold"], row["trace"]) for row in rows]


def test_hostile_answers_change_nothing_else(real):
    """The hostile set, one row in ten: every row gets its verdict, and the real ones the verdict they get alone."""
    settings = VerifySettings(timeout_seconds=3, memory_mb=1024, processes=2)
    mixed: list[tuple[object, object]] = []
    places = {}
    for index, (name, completion, right) in enumerate(HOSTILE + WRONG_TYPES):
        mixed += [real[place % len(real)] for place in range(index * 10, index * 10 + 10)]
        places[len(mixed)] = name, right
        mixed.append((GOLD, completion))
    others = own_comparing_processes()
    with AnswerVerifier(settings) as verifier:
        alone = dict(zip(real, verifier.verify_many(real), strict=True))
    with AnswerVerifier(settings) as verifier:
        together = verifier.verify_many(mixed)
        peaks = {pid: peak for pid, peak in own_comparing_processes().items() if pid not in others}
        assert verifier.verify_many([("x+1", r"\boxed{1+x}")])[0].verdict == Verdict.CORRECT
        survivors = own_comparing_processes().keys() - others.keys()
    for index, (row, found) in enumerate(zip(mixed, together, strict=True)):
        if index in places:
            name, right = places[index]
            assert found.verdict in right, name
        else:
            assert found == alone[row], row
    assert all(peak < settings.memory_mb for peak in peaks.values()), peaks
    assert not survivors & own_comparing_processes().keys(), "no process is left behind"


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


def test_a_time_out_is_believed_at_the_third():
    """What one bad moment decides is forgotten; what always hangs is not compared for ever."""
    hangs = [("5", r"\boxed{9^{9^{9^{9}}}}")]
    with AnswerVerifier(VerifySettings(timeout_seconds=0.3)) as verifier:
        compared = []
        for _ in range(5):
            assert verifier.verify_many(hangs * 3)[2].verdict == Verdict.TIMEOUT
            compared.append(verifier.counts.compared)
    assert compared == [1, 2, 3, 3, 3]
