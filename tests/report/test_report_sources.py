"""Counts of sources in the report, added up by kind of verification."""

from __future__ import annotations

from redi_ray.report.sources import _added


def test_a_source_that_a_step_has_nothing_of_counts_nothing():
    """Whichever comes first: one whose problems came without a trace has no verdicts."""
    with_traces = {"traces": {"traces": 4}, "verdicts": {"verified": {"correct": 3, "wrong": 1}}}
    without = {"traces": {}, "verdicts": {}, "curated": {"curated": {"problems": 2}}}
    for first, second in ((with_traces, without), (without, with_traces)):
        assert _added(_added({}, first), second) == {**with_traces, "curated": {"curated": {"problems": 2}}}
    assert _added(with_traces, with_traces)["verdicts"]["verified"] == {"correct": 6, "wrong": 2}
