"""The plan of a config, with some of its assumptions given."""

from __future__ import annotations

from redi_ray.cli.plan import make_assumptions
from redi_ray.plan.costs import Inputs, Plan
from redi_ray.plan.estimate import estimate


def planned(inputs: Inputs, given: dict[str, float]) -> Plan:
    assume = make_assumptions(inputs.config, inputs.sample, [])
    for name, value in given.items():
        assume = assume.with_value(name, value)
    return estimate(inputs, assume)
