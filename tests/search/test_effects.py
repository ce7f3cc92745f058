"""Effects are an analysis of variance: by hand where nothing is missing, and unmoved by what is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_records import ALPHA, RATE, made_record
from scipy import stats

from redi_ray.search.effects import effects

ERRORS = (-0.1, 0.0, 0.1)


def crossed(means: dict[tuple[float, float], float]) -> list:
    """Three trials for each cell, whose errors add up to nothing."""
    return [
        made_record(alpha, rate, seed, value=mean + error)
        for (alpha, rate), mean in means.items()
        for seed, error in enumerate(ERRORS)
    ]


def test_two_parameters_and_both_together_by_hand():
    """Cell means 1, 2, 3, 6: squares 12 x 1.5^2, 12 x 1^2, 12 x .5^2 of twelve trials, and 4 x .02 of the errors."""
    found = effects(crossed({(0.0, 0.1): 1.0, (0.0, 0.2): 2.0, (1.0, 0.1): 3.0, (1.0, 0.2): 6.0}))
    assert found is not None
    total = 27 + 12 + 3 + 0.08
    assert [(t.paths, t.share, t.freedom) for t in (*found.main, *found.interactions)] == [
        ((ALPHA,), pytest.approx(27 / total), 1),
        ((RATE,), pytest.approx(12 / total), 1),
        ((ALPHA, RATE), pytest.approx(3 / total), 1),
    ]
    assert found.interactions[0].p_value == pytest.approx(stats.f.sf(3 / (0.08 / 8), 1, 8))
    assert (found.error_share, found.error_freedom) == (pytest.approx(0.08 / total), 8)
    assert [(level.value, level.trials, level.mean) for level in found.levels if level.path == RATE] == [
        (0.1, 6, pytest.approx(2.0)),
        (0.2, 6, pytest.approx(4.0)),
    ]
    assert [(cell.values, cell.mean) for cell in found.cells][-1] == ((1.0, 0.2), pytest.approx(6.0))


def test_trials_that_are_lost_make_no_effect_of_another():
    """Rates do nothing; the cell that is nearly empty would make their means differ by a third of alpha's effect."""
    records = crossed({(alpha, rate): alpha for alpha in (0.0, 1.0) for rate in (0.1, 0.2)})
    found = effects([record for record in records if record.values != {ALPHA: 1.0, RATE: 0.2} or record.seed == 1])
    assert found is not None
    by_path = {term.paths: term for term in (*found.main, *found.interactions)}
    assert by_path[ALPHA,].share > 0.9
    assert by_path[RATE,].share == pytest.approx(0, abs=1e-9)
    assert by_path[ALPHA, RATE].share == pytest.approx(0, abs=1e-9)
    low, high = (level.mean for level in found.levels if level.path == RATE)
    assert low - high == pytest.approx(0.25), "the plain means do differ"


def test_a_whole_cell_may_be_missing_and_values_may_be_anything():
    """Three objectives at two rates, one combination never run: one degree of freedom less for both together."""
    objectives = ({"name": "dpo"}, {"name": "redi"}, "none")
    records = [
        replace(made_record(0.0, rate, seed, value=number + rate + error), values={"objective": one, RATE: rate})
        for number, one in enumerate(objectives)
        for rate in (0.1, 0.2)
        for seed, error in enumerate(ERRORS)
        if not (number == 2 and rate == 0.2)
    ]
    found = effects(records)
    assert found is not None
    assert {term.paths: term.freedom for term in (*found.main, *found.interactions)} == {
        ("objective",): 2,
        (RATE,): 1,
        ("objective", RATE): 1,
    }
    assert found.error_freedom == 15 - 5


def test_nothing_is_said_where_there_is_nothing_to_say():
    grid = {(alpha, rate): alpha + rate for alpha in (0.0, 1.0) for rate in (0.1, 0.2)}
    assert effects([]) is None
    assert effects([replace(record, value=0.5) for record in crossed(grid)]) is None
    assert effects([made_record(0.0, rate, value=rate) for rate in (0.1, 0.2)]) is None, "one parameter varies"
    assert effects([made_record(n / 20, n / 40, value=n / 20) for n in range(20)]) is None, "drawn between bounds"
    single = effects([made_record(alpha, rate, value=value) for (alpha, rate), value in grid.items()])
    assert single is not None
    assert [term.p_value for term in single.main] == [None, None], "one trial a cell leaves no error to test against"


def test_what_goes_together_in_all_trials_is_said_and_not_hidden() -> None:
    """The objective fixes the rate: which of the two does it nobody can tell, but that it is they."""
    records = [
        replace(made_record(alpha, 0.1, seed, value=number + alpha / 100 + error / 100),
                values={"objective": one, RATE: rate, ALPHA: alpha})
        for number, (one, rate) in enumerate((("dpo", 0.1), ("redi", 0.2)))
        for alpha in (0.0, 1.0)
        for seed, error in enumerate(ERRORS)
    ]  # fmt: skip
    found = effects(records)
    assert found is not None
    assert {("objective",), (RATE,)} <= {*found.confounded}
    assert found.confounded_share > 0.99
    assert found.confounded_share + found.error_share + sum(t.share for t in (*found.main, *found.interactions)) == (
        pytest.approx(1)
    )
