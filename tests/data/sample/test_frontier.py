"""Sampling where pairs are to be had: what further samples are worth, who gets them, and that a rerun asks for the same."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from pydantic import ValidationError
from test_collect import problems, teacher

from redi_ray.config.answers import VerifySettings
from redi_ray.config.data import VllmTraces
from redi_ray.config.frontier import Frontier
from redi_ray.data.sample.collect import Verification
from redi_ray.data.sample.frontier import RATES, Tally, allocate, new_pairs, pass_rates
from redi_ray.data.sample.generate import GenerateCounts, generate_rounds
from redi_ray.data.sample.survey import trace_shards
from redi_ray.errors import UserError
from redi_ray.store import parquet, storage

ray.cloudpickle.register_pickle_by_value(sys.modules["test_collect"])  # Ray's workers cannot import a test


def by_hand(right: int, wrong: int, rate: float, samples: int, wanted: int) -> float:
    """Over every outcome of the samples, each with its probability."""
    total = -float(min(right, wrong, wanted))
    for outcome in itertools.product((0, 1), repeat=samples):
        found = sum(outcome)
        chance = rate**found * (1 - rate) ** (samples - found)
        total += chance * min(right + found, wrong + samples - found, wanted)
    return total


@pytest.mark.parametrize(
    ("right", "wrong", "samples", "wanted"), [(0, 1, 1, 1), (0, 4, 4, 1), (3, 0, 6, 2), (2, 1, 5, 3), (1, 1, 3, 1)]
)
def test_new_pairs_are_those_of_all_outcomes(right: int, wrong: int, samples: int, wanted: int) -> None:
    found = new_pairs(np.array([[right, wrong]]), samples, wanted)
    assert found[0] == pytest.approx([by_hand(right, wrong, rate, samples, wanted) for rate in RATES])


def test_pass_rates_of_any_form_are_found() -> None:
    """Three heaps: always right, never, and 0.3. What has failed twice is most likely hopeless, what has done both is at 0.3."""
    generator = np.random.default_rng(0)
    rates = np.repeat([1.0, 0.0, 0.3], [4000, 4000, 2000])
    right = generator.binomial(8, rates)
    found = pass_rates(right, 8 - right)
    prior = found.posterior[found.state_of].mean(0)
    assert prior[RATES > 0.95].sum() == pytest.approx(0.4, abs=0.01)
    assert prior[RATES < 0.05].sum() == pytest.approx(0.4, abs=0.03)
    assert prior[(RATES > 0.2) & (RATES < 0.4)].sum() == pytest.approx(0.2, abs=0.04)
    mixed = found.posterior[found.state_of[np.flatnonzero(right == 3)[0]]]
    assert mixed @ RATES == pytest.approx(0.3, abs=0.03)
    assert mixed[0] == mixed[-1] == 0, "both have been seen"
    assert pass_rates(np.array([0, 0]), np.array([0, 0])).posterior == pytest.approx(1 / len(RATES)), "nothing is known"


def tally_of(states: list[tuple[int, int]], tokens: list[float] | None = None) -> Tally:
    right, wrong = np.array(states).T
    drawn = right + wrong
    spent = 10.0 * drawn if tokens is None else np.array(tokens) * drawn
    return Tally(np.arange(len(states)).astype(np.uint64), right, wrong, drawn, spent, drawn)


PAIRED = [(19, 1), (1, 19), (10, 10), (19, 1)] * 10
"""Problems that have their pair, and show that pass rates are not all 0 or 1."""


def test_samples_go_where_a_pair_is_near() -> None:
    """Not to those that have one, nor to those that are hopeless; the cheaper one of two alike comes first."""
    counts = allocate(tally_of([(0, 2), (0, 60), (60, 0), (2, 0), *PAIRED]), Frontier(each=2, most=2), 4, 0, 1)
    assert counts[:4].tolist() == [2, 0, 0, 2]
    assert counts.sum() == 4
    counts = allocate(
        tally_of([(0, 4), (0, 4), *PAIRED], [500.0, 50.0, *[50.0] * 40]), Frontier(each=2, most=2), 2, 0, 1
    )
    assert counts[:2].tolist() == [0, 2]
    assert allocate(tally_of(PAIRED), Frontier(), 80, 0, 1).sum() == 0, "all have theirs"
    assert allocate(tally_of([(0, 60), *PAIRED]), Frontier(least=0.05), 80, 0, 1).sum() == 0, "nothing promises enough"
    twice = allocate(tally_of([(1, 3), *PAIRED]), Frontier(pairs=2, each=1, most=4), 4, 0, 1)
    assert twice[0] > 0, "a second pair"


def test_a_draw_tries_what_looks_hopeless_now_and_then_and_is_the_same_again() -> None:
    tally, settings = tally_of([(0, 8)] * 30 + [(0, 2)] * 10 + PAIRED), Frontier(rule="thompson", each=1, most=1)
    rounds = [allocate(tally, settings, 10, 7, number) for number in range(1, 30)]
    assert rounds[0].tolist() == allocate(tally, settings, 10, 7, 1).tolist()
    tried = np.array(rounds).sum(0)
    assert (tried[:30] > 0).sum() > 20
    assert tried[30:40].mean() > tried[:30].mean()
    assert tried[40:].sum() == 0
    assert allocate(tally, settings, 10, 8, 1).tolist() != rounds[0].tolist()


CONFIG: dict[str, Any] = {"samples_per_round": 2, "max_rounds": 5, "shard_rows": 10,
                          "frontier": {"samples": 1.0, "each": 1, "most": 2}}  # fmt: skip


def sampled(out: Path, **how: str) -> GenerateCounts:
    parquet.write_table(str(out / "problems" / "a.parquet"), problems(10))
    parquet.write_table(str(out / "problems" / "b.parquet"), problems(14, first=10))
    return generate_rounds(
        VllmTraces(**CONFIG),
        storage.list_files(str(out / "problems"), ".parquet"),
        24,
        lambda dataset: teacher(dataset, **how),
        model="reckoner",
        traces_uri=str(out / "traces"),
        verification=Verification(str(out / "verified"), VerifySettings(), 1),
        on_progress=lambda added: None,
    )


def traces_of(out: Path) -> list[str]:
    files = trace_shards(str(out / "traces"))
    return sorted(key for table in parquet.read_tables(files, ["trace_id"]) for key in table["trace_id"].to_pylist())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_rounds_ask_for_the_same_after_a_stop(ray_session: None, tmp_path: Path) -> None:
    """The teacher is wrong up to index number % 4: of two samples 1 has its pair, 0 never gets one, 2 and 3 do later."""
    counts = sampled(tmp_path / "calm")
    assert counts.rounds[0]["pairs"] == 6
    assert counts.rounds[-1]["pairs"] == 18, "all that can be had"
    assert counts.rounds[0]["problems"] == 24
    assert all(one["problems"] <= 18 and one["asked"] <= 24 for one in counts.rounds[1:])
    calm = traces_of(tmp_path / "calm")
    assert len(calm) == len(set(calm)) == counts.total.traces == counts.total.asked
    assert not [key for key in calm if int(key.split("#")[0]) % 4 == 1 and int(key.split("#")[1]) > 1]
    log = tmp_path / "log"
    log.mkdir()
    cut = tmp_path / "cut"
    first = VllmTraces(**{**CONFIG, "max_rounds": 2})
    assert first.frontier == VllmTraces(**CONFIG).frontier
    with pytest.raises(UserError, match="gone home"):
        sampled(cut, fails="stop")
    assert traces_of(cut) == []
    assert (cut / "traces/allocation/round-000.npy").exists(), "what is asked for is written down before it is drawn"
    again = sampled(cut, log=str(log))
    assert traces_of(cut) == calm
    assert [one["asked"] for one in again.rounds] == [one["asked"] for one in counts.rounds]
    drawn = len(list(log.iterdir()))
    third = sampled(cut, log=str(log))
    assert len(list(log.iterdir())) == drawn, "nothing is drawn twice"
    assert [one["pairs"] for one in third.rounds] == [one["pairs"] for one in counts.rounds]


def test_a_frontier_needs_later_rounds() -> None:
    with pytest.raises(ValidationError, match="max_rounds is 1"):
        VllmTraces(frontier=Frontier())
