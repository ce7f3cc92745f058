"""Which beginnings of an answer go on: by what was said of their steps, and by nothing else."""

from __future__ import annotations

import math

import pytest

from redi_ray.config.guided import GuidedSettings
from redi_ray.data.guided.beams import Beam, cut_off, go_on, in_order

TWO = GuidedSettings(model="prm", keep=2, candidates=3)


def beam(text: str, *values: float | None, ended: str | None = None, tokens: int = 1) -> Beam:
    return Beam(text, values, tokens, ended)


def texts(beams: list[Beam]) -> list[str | None]:
    return [one.text for one in beams]


def test_numbers_of_steps_make_one() -> None:
    one = beam("a", 0.9, 0.5, 0.8)
    found = {value: one.score(value) for value in ("last", "min", "mean", "product")}
    assert found == pytest.approx({"last": 0.8, "min": 0.5, "mean": 2.2 / 3, "product": 0.36})
    assert beam("a", 0.9, None).score("last") == -math.inf, "nothing was said of the step that it ends with"
    assert beam("a", None, 0.4).score("mean") == 0.4


def test_a_step_adds_its_number_at_its_place() -> None:
    """One that only goes on with a step has its number anew; what stands between two steps that were judged has none."""
    one = beam("a", 0.9, 0.5, tokens=7)
    assert one.grown("ab", "length", 3, 3, 0.2) == beam("ab", 0.9, 0.5, 0.2, tokens=10)
    assert one.grown("ab", "stop", 3, 2, 0.2) == beam("ab", 0.9, 0.2, tokens=10, ended="stop")
    assert one.grown("ab", "loop", 3, 4, 0.2).values == (0.9, 0.5, None, 0.2)


def test_the_best_go_on_whatever_the_order_they_come_in() -> None:
    drawn = [[beam("b", 0.5), beam("a", 0.5), beam("d", 0.1)], [beam("c", 0.7), beam("e", None)]]
    before = [beam("", 1.0), beam("-", 1.0)]
    assert texts(go_on(before, drawn, TWO, 99)) == ["c", "a"]
    assert texts(go_on(before, [drawn[1], drawn[0]], TWO, 99)) == ["c", "a"]
    assert texts(in_order([beam("b", 0.50001), beam("a", 0.5)], "last")) == ["a", "b"], "alike but for the last bits"


def test_whole_answers_keep_their_places_and_equal_texts_count_once() -> None:
    done = beam("done", 0.2, ended="stop")
    drawn = [[beam("a", 0.9), beam("a", 0.9), beam("b", 0.8)]]
    kept = go_on([done, beam("", 1.0)], drawn, TWO, 99)
    assert texts(kept) == ["a", "done"]
    assert texts(go_on([beam("", 1.0)], drawn, TWO, 99)) == ["a", "b"]
    both = [[beam("a", 0.9), beam("a", 0.8, ended="stop")]]
    assert [one.ended for one in go_on([beam("", 1.0)], both, TWO, 99)] == [None, "stop"], "one text may be both"


def test_answers_end_where_they_are_too_long_or_no_engine_goes_on() -> None:
    kept = go_on([beam("x", 0.3), beam("y", 0.4)], [[], [beam("yz", 0.5, tokens=9)]], TWO, 9)
    assert [(one.text, one.ended) for one in kept] == [("yz", "length"), ("x", "length")]
    assert [one.ended for one in cut_off([beam("a", 0.1), beam("b", 0.2, ended="stop")], "last")] == ["stop", "length"]
