"""Shares of a mixture: by weights, under caps, in whole numbers that add up; who is short is told, with what would fit."""

from __future__ import annotations

import pytest

from redi_ray.config.mixture import MixSettings
from redi_ray.data.mix.shares import allocate, largest, shares

PAPER = {"reference": 38.9, "tests": 21.9, "neither": 39.2}
ROWS = {"reference": 1000, "tests": 100, "neither": 1000}


def settings(**given: object) -> MixSettings:
    return MixSettings.model_validate({"of": list(PAPER), **given})


def test_the_papers_shares_add_up() -> None:
    assert shares(1000, PAPER, {}) == {"reference": 389, "tests": 219, "neither": 392}
    assert shares(1000, {"a": 1, "b": 1, "c": 1}, {}) == {"a": 334, "b": 333, "c": 333}
    for size in range(200):
        assert sum(shares(size, PAPER, {}).values()) == size


def test_a_larger_size_takes_no_fewer_of_any_source() -> None:
    """So that a mixture that grows holds what it held; with largest remainders 12 problems had fewer of one source than 11."""
    for weights in (PAPER, {"x": 6, "y": 6, "z": 2}, {"a": 24, "b": 14.9, "c": 21.9, "d": 39.2}):
        for caps in ({}, {next(iter(weights)): 40}):
            before = dict.fromkeys(weights, 0)
            for size in range(400):
                found = shares(size, weights, caps)
                assert sum(found.values()) == size
                assert all(found[name] >= before[name] for name in weights), (size, weights)
                before = found


def test_only_how_weights_compare_counts() -> None:
    """In any unit, the largest numbers and the smallest among them."""
    for unit in (1e308, 1.0, 1e-300):
        assert shares(7, {"a": unit, "b": unit / 2}, {}) == {"a": 5, "b": 2}
    assert shares(5, {"a": 1.0, "b": 5e-324}, {}) == {"a": 5, "b": 0}
    assert shares(5, {"a": 1.0, "b": 5e-324}, {"a": 2}) == {"a": 2, "b": 3}


def test_what_a_cap_holds_back_goes_to_the_others_by_their_weights() -> None:
    assert shares(100, {"a": 2, "b": 1, "c": 1}, {"a": 10}) == {"a": 10, "b": 45, "c": 45}
    assert shares(100, {"a": 2, "b": 1, "c": 1}, {"a": 10, "b": 40}) == {"a": 10, "b": 40, "c": 50}
    told = allocate(settings(weights=PAPER, size=60, caps=dict.fromkeys(PAPER, 10)), ROWS)
    assert told.taken == dict.fromkeys(PAPER, 10)
    assert "caps let in 30 of 60" in told.told[0]


def test_a_source_that_is_short_is_told_with_what_would_fit() -> None:
    found = allocate(settings(weights=PAPER, size=1000), ROWS)
    assert found.taken == {"reference": 389, "tests": 100, "neither": 392}
    assert found.asked["tests"] == 219
    said = "; ".join(found.told)
    assert "tests has 100 of the 219 problems" in said
    assert "`size: 459`" in said
    assert "`epochs: {tests: 3}`" in said
    for mend in ({"size": 459}, {"epochs": {"tests": 3}}, {"caps": {"tests": 100}}):
        mended = allocate(settings(**({"weights": PAPER, "size": 1000} | mend)), ROWS)
        assert not mended.told, mend
        assert sum(mended.taken.values()) == mend.get("size", 1000)


def test_without_a_size_the_mixture_is_as_large_as_its_shares_allow() -> None:
    assert sum(allocate(settings(weights=PAPER), ROWS).taken.values()) == 459 == largest(PAPER, {}, ROWS)
    assert allocate(settings(), ROWS).taken == ROWS
    assert allocate(settings(epochs={"tests": 2}, caps={"neither": 7}), ROWS).taken == {
        "reference": 1000, "tests": 200, "neither": 7,
    }  # fmt: skip
    assert allocate(settings(size=210), ROWS).taken == {"reference": 100, "tests": 10, "neither": 100}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"of": ["a", "a"]}, "a stands there twice"),
        ({"of": ["a"], "weights": {"b": 1}}, "b is none of the sources"),
        ({"of": ["a", "b"], "weights": {"a": 1}}, "b has none"),
        ({"of": ["a", "b"], "weights": {"a": 0, "b": 1}}, "a weighs nothing"),
        ({"of": ["a"], "weights": {"a": 0}}, "a weighs nothing"),
        ({"of": ["a"], "caps": {"c": 1}}, "caps: c is none of the sources"),
        ({"of": ["a"], "epochs": {"a": 0}}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_mixed_is_told(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        MixSettings.model_validate(given)
