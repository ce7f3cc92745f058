"""What a plan assumes where nothing says: each number with its plausible range and where it comes from.

Lengths. OpenR1-Math-220k's card says that R1 wrote with a limit of 16k tokens and solved 75% of the problems in under 8k. Its
`default` split with one correct trace each is also the `math` part of open-r1/Mixture-of-Thoughts, whose card gives
1,599,028,646 bytes in 93,733 rows: 17,059 bytes of problem and trace a row, some 300 of them the problem's. Qwen's
vocabulary makes 2.65 to 2.74 bytes a token of long chains of thought about mathematics (measured on 291 of them), hence about
6,200 tokens a trace. A log-normal distribution of that mean has its upper quartile near 7,800 tokens, whatever its spread.

Wrong traces are longer. In OpenR1-Math-220k, where 86% of the traces are correct, the mean over all traces is within a few
percent of that over the correct ones, so among traces that end by themselves the wrong are at most some tens of percent
longer; in 400 long solutions of AMC problems by ten models, finished wrong ones had 1.25 times the mean of first correct
ones, but 2.6 times with those that ran into their limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from redi_ray.plan.errors import PlanError

OWN = "own_"
"""Begins the shares of traces that a named step samples from a model of the run, which is not there yet when they are planned."""


@dataclass(frozen=True)
class Assumption:
    """A number that the plan rests on."""

    name: str
    value: float
    low: float
    high: float
    source: str
    """Where it comes from, and what it is."""

    def __post_init__(self) -> None:
        assert self.low <= self.value <= self.high, self

    @property
    def known(self) -> bool:
        """Whether it has no range: given, counted or published."""
        return self.low == self.high


def _defaults(*rows: tuple[str, float, float, float, str]) -> dict[str, Assumption]:
    return {name: Assumption(name, value, low, high, source) for name, value, low, high, source in rows}


DEFAULTS = _defaults(
    (
        "completion_tokens",
        6200,
        4500,
        8500,
        "mean correct trace before length limits: R1 on OpenR1-Math (redi_ray/plan/assumptions.py)",
    ),
    ("rejected_ratio", 1.25, 1.0, 2.0, "mean wrong trace over mean correct trace"),
    ("length_spread", 0.7, 0.5, 0.9, "sigma of the log-normal distribution of trace lengths"),
    (
        "prompt_tokens",
        200,
        100,
        400,
        "mean prompt: a competition problem of about 300 characters, template and instruction",
    ),
    ("solved_share", 0.75, 0.5, 0.95, "share of the problems with a correct trace, which become positives"),
    ("paired_share", 0.5, 0.25, 0.7, "share of the problems with a correct and a wrong trace, which become pairs"),
    ("correct_share", 0.6, 0.3, 0.85, "share of all traces that are correct"),
    (
        OWN + "solved_share",
        0.75,
        0.4,
        0.95,
        "share of the problems that a model trained here solves in a step `sample`",
    ),
    (OWN + "paired_share", 0.5, 0.2, 0.8, "share of the problems that it solves once and fails once"),
    (OWN + "correct_share", 0.6, 0.2, 0.9, "share of its traces that are correct"),
    (
        "selected_share",
        0.5,
        0.2,
        0.9,
        "share of the problems, or samples, within the bounds of a step `select`; the rest is left out",
    ),
    ("traces_per_problem", 2.3, 2.0, 4.0, "traces that come with each problem"),
    ("eval_ratio", 1.3, 0.8, 2.5, "mean answer in evaluation over mean correct trace; students write longer"),
    ("judge_tokens", 300, 100, 800, "mean judgement in tokens"),
    ("turns", 3.4, 1.5, 5, "the model's own turns of a trace with tools: the mean of MINT's 1,480 traces"),
    ("tool_tokens", 100, 10, 500, "a tool's output with what the template writes around it"),
    (
        "steps",
        8,
        4,
        20,
        "steps of a solution that a locator judges: ProcessBench has 5 on GSM8K, PRM800K about twice as many",
    ),
    (
        "utilization",
        0.4,
        0.2,
        0.55,
        "share of the GPU's peak reached in training, recomputation counted; the paper's hours imply 0.26",
    ),
    ("decode_efficiency", 0.5, 0.25, 0.75, "share of the memory's or arithmetic's peak reached in sampling"),
    ("bytes_per_token", 2.7, 2.5, 4.0, "text of a token of mathematical reasoning (Qwen's vocabulary)"),
    ("compression", 0.4, 0.3, 0.5, "compressed over plain text in Parquet"),
    ("reserve_gb", 2.0, 1.0, 4.0, "of each GPU for CUDA, NCCL and libraries"),
    ("fragmentation", 0.08, 0.03, 0.2, "share of each GPU lost between blocks of the allocator"),
)
"""By name. `problems` has no default: it is counted, or given."""


class Assumptions:
    """Assumptions by name, which remember which of them were looked at."""

    def __init__(self, values: Mapping[str, Assumption]) -> None:
        self._values = dict(values)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> float:
        self.used.add(name)
        return self._values[name].value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[Assumption]:
        return iter(self._values.values())

    def get(self, name: str) -> Assumption:
        return self._values[name]

    def with_value(self, name: str, value: float) -> Assumptions:
        """A copy in which one number is another."""
        old = self._values[name]
        changed = replace(old, value=value, low=min(old.low, value), high=max(old.high, value))
        return Assumptions({**self._values, name: changed})

    def having(self, *others: Assumption) -> Assumptions:
        """A copy with these in place of those of their names."""
        return Assumptions({**self._values, **{other.name: other for other in others}})


def known(name: str, value: float, source: str) -> Assumption:
    """A number without a range."""
    return Assumption(name, value, value, value, source)


def read_assumptions(given: Iterable[str]) -> list[Assumption]:
    """`["completion_tokens=5000", ...]`. Raises PlanError, which lists the names, for what is no positive number of them."""
    found = []
    for item in given:
        name, _, text = item.partition("=")
        names = ["problems", *DEFAULTS]
        try:
            value = float(text.replace("_", ""))
        except ValueError:
            value = -1.0
        shares = name in ("utilization", "decode_efficiency", "fragmentation") or name.endswith("_share")
        if name not in names or not 0 < value < float("inf") or (shares and value > 1):
            raise PlanError(
                f"--assume {item}: write NAME=NUMBER, above 0, shares up to 1; there are {', '.join(names)}"
            )
        found.append(known(name, value, "given on the command line"))
    return found
