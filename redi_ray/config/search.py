"""Settings of a hyper-parameter search: what varies, what is best, and what a trial may cost."""

from __future__ import annotations

import itertools
import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from redi_ray.config.resources import TrainerSettings
from redi_ray.config.section import Strict

EXPONENT = re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+")


def _values(values: list[Any]) -> list[Any]:
    """The values, each once. YAML reads 1e-6 as text; it is a number here."""
    found = [float(v) if isinstance(v, str) and EXPONENT.fullmatch(v) else v for v in values]
    if twice := [value for number, value in enumerate(found) if value in found[:number]]:
        raise ValueError(f"{twice[0]!r} is there twice")
    return found


class Grid(Strict):
    """Every value, crossed with those of the other paths."""

    grid: Annotated[list[Any], AfterValidator(_values)] = Field(min_length=1)
    """The values, in the order in which tables and the heat map show them."""

    @property
    def values(self) -> list[Any]:
        return self.grid


class Choice(Strict):
    """One of the values, each as likely as the others."""

    choice: Annotated[list[Any], AfterValidator(_values)] = Field(min_length=1)
    """The values."""

    @property
    def values(self) -> list[Any]:
        return self.choice


class Cases(Strict):
    """Named settings that go together, crossed as a grid is: an objective with its learning rate, a data set with its sampler.

    The path that has them is a name of its own, such as `objective`."""

    cases: dict[Annotated[str, BeforeValidator(str)], dict[str, Any]] = Field(min_length=1)
    """Name of the case -> dotted path -> value."""

    @field_validator("cases")
    @classmethod
    def _differ(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for (one, settings), (other, same) in itertools.combinations(value.items(), 2):
            if settings == same:
                raise ValueError(f"the cases {one} and {other} set the same")
        return value

    @property
    def values(self) -> list[Any]:
        return list(self.cases)


class Uniform(Strict):
    """A number between two bounds."""

    uniform: tuple[float, float]
    """Lowest and highest."""

    @field_validator("uniform")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        return _bounds(value)


class LogUniform(Strict):
    """A number between two bounds, uniform in its logarithm: for learning rates."""

    loguniform: tuple[float, float]
    """Lowest and highest, both above 0."""

    @field_validator("loguniform")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] <= 0:
            raise ValueError(f"the lower bound must be > 0, got {value[0]}")
        return _bounds(value)


def _bounds(value: tuple[float, float]) -> tuple[float, float]:
    if not (math.isfinite(value[0]) and math.isfinite(value[1]) and value[0] < value[1]):
        raise ValueError(f"give two finite numbers, the lower one first, got {list(value)}")
    return value


DOMAINS = ("grid", "choice", "cases", "uniform", "loguniform")


def _kind(value: Any) -> str | None:
    """Which domain a mapping describes: the one key that it has."""
    keys = list(value) if isinstance(value, dict) else [name for name in DOMAINS if hasattr(value, name)]
    return keys[0] if len(keys) == 1 and keys[0] in DOMAINS else None


Domain = Annotated[
    Annotated[Grid, Tag("grid")]
    | Annotated[Choice, Tag("choice")]
    | Annotated[Cases, Tag("cases")]
    | Annotated[Uniform, Tag("uniform")]
    | Annotated[LogUniform, Tag("loguniform")],
    Discriminator(
        _kind,
        custom_error_type="domain",
        custom_error_message="give one of `grid: [...]`, `choice: [...]`, `cases: {name: {path: value}}`, "
        "`uniform: [low, high]`, `loguniform: [low, high]`",
    ),
]


Crossed = Grid | Cases
"""What a grid is made of."""
Listed = Grid | Choice | Cases
"""Domains whose values are known."""


def settable(name: str, domain: Domain) -> list[str]:
    """The dotted paths of the config that a domain sets: its own name, or those that its cases have."""
    if isinstance(domain, Cases):
        return list(dict.fromkeys(path for case in domain.cases.values() for path in case))
    return [name]


class NoScheduler(Strict):
    """Every trial runs to its end."""

    kind: Literal["none"] = "none"


class AshaScheduler(Strict):
    """Asynchronous successive halving (arXiv 1810.05934).

    At `grace_steps`, and at every multiple of it by another `reduction_factor`, a trial goes on only if it is among the
    best 1/`reduction_factor` of those that have come so far.
    """

    kind: Literal["asha"] = "asha"
    grace_steps: int = Field(ge=1)
    """Steps that every trial gets; the probe must have measured by then."""
    reduction_factor: float = Field(3, gt=1)
    """One in so many goes on."""


class MedianScheduler(Strict):
    """Stops a trial whose best value is worse than the median of the others' running means at the same step."""

    kind: Literal["median"] = "median"
    grace_steps: int = Field(ge=1)
    """Steps that every trial gets."""
    min_trials: int = Field(3, ge=1)
    """Trials that a median is taken over, at least."""


Scheduler = Annotated[NoScheduler | AshaScheduler | MedianScheduler, Field(discriminator="kind")]


class DevEvaluation(Strict):
    """How `dev_pass@1` is measured: as benchmarks are (temperature, top_p, max_tokens of `evaluate`), on development problems."""

    num_samples: int = Field(4, ge=1)
    """Samples a problem."""
    max_problems: int | None = Field(None, ge=1)
    """Use this many development problems, chosen by a hash of their ids; null takes them all."""
    parity_prompts: int = Field(4, ge=1)
    """Prompts on which the engine's greedy tokens are compared with transformers' after its weights were swapped."""


class SearchConfig(Strict):
    """A search over the settings of one model and of what it comes from.

    Selection looks at development problems only, never at a benchmark."""

    space: dict[str, Domain] = Field(min_length=1)
    """Dotted path -> values, the paths of key=value overrides: `redi.train.learning_rate: {loguniform: [1e-7, 1e-5]}`,
    `steps.own.samples_per_round: {grid: [4, 8]}`; or any name -> cases that set several paths each. What several trials share of
    the steps before the model is made once. Where a path changes such steps, trials run one at a time."""
    arm: str | None = None
    """Which model is compared: one of `redi.arms`, `sft`, or any of `steps` that trains or merges (of a repeated one `nca` is the
    last round, `nca@1` the first). Null takes the only arm, or the one named `redi`."""
    metric: str | None = None
    """What is compared: `dev_accuracy` (the probe in the training process), `dev_pass@1` (vLLM, several samples a problem),
    or a metric that training logs, such as `margin`. Null takes `dev_accuracy` where `resources.engine.device` is cpu,
    `dev_pass@1` elsewhere. What counts is its value for the weights that are exported: its last one, or with `export: best`
    its best at a checkpoint."""
    mode: Literal["max", "min"] = "max"
    """Whether more or less of the metric is better."""
    searcher: Literal["grid", "random", "optuna"] | None = None
    """`grid` runs every combination, `random` and `optuna` (extra `[optuna]`) draw `num_trials` points. Null takes `grid`
    where all paths have one, else `random`."""
    num_trials: int | None = Field(None, ge=1)
    """Points that `random` and `optuna` draw."""
    time_budget_minutes: float | None = Field(None, gt=0)
    """After so long, running trials are stopped and the best of what is finished is taken. The same command goes on."""
    scheduler: Scheduler = NoScheduler()
    """Early stopping: `none`, `asha` or `median`. It looks at the metric while training; for `dev_pass@1`, at the probe."""
    seeds: list[int] = []
    """Seeds of the data's order; each point is trained once with every one and judged by its mean. The winner's config has
    the first. Empty: the config's own."""
    trainer: TrainerSettings | None = None
    """Workers of one trial, in place of `redi.trainer` or `resources.trainer` as a whole: what is left out has its default."""
    max_concurrent_trials: int | None = Field(None, ge=1)
    """Trials at a time; null takes what the cluster holds, on a local Ray no more than there are cores."""
    dev: DevEvaluation = DevEvaluation()
    """How `dev_pass@1` is measured."""
    seed: int = 0
    """Of the order in which trials start, and of what `random` and `optuna` draw."""

    @field_validator("space")
    @classmethod
    def _each_path_once(cls, value: dict[str, Domain]) -> dict[str, Domain]:
        """Raises ValueError where two of the space set the same path: the later one would win silently."""
        owners: dict[str, str] = {}
        for name, domain in value.items():
            for path in settable(name, domain):
                if (other := owners.setdefault(path, name)) != name:
                    raise ValueError(f"{path} is set by {other} and by {name}: a path must vary in one place")
        for path, outer in itertools.permutations(owners, 2):
            if path.startswith(f"{outer}.") and owners[path] != owners[outer]:
                raise ValueError(f"{path} lies within {outer}, which {owners[outer]} sets as a whole")
        return value

    @field_validator("seeds")
    @classmethod
    def _differ(cls, value: list[int]) -> list[int]:
        if len(set(value)) != len(value):
            raise ValueError(f"seeds must differ, got {value}")
        return value

    @property
    def method(self) -> str:
        """`searcher`, with null resolved."""
        all_grid = all(isinstance(domain, Crossed) for domain in self.space.values())
        return self.searcher or ("grid" if all_grid else "random")

    @model_validator(mode="after")
    def _searcher_fits(self) -> SearchConfig:
        if self.method == "grid":
            if open_ended := [path for path, domain in self.space.items() if not isinstance(domain, Crossed)]:
                raise ValueError(
                    f"searcher `grid` needs a grid or cases for every path, and {', '.join(open_ended)} has none"
                )
            if self.num_trials is not None:
                raise ValueError("num_trials is for searchers that draw; `grid` runs every combination")
        elif self.num_trials is None:
            raise ValueError(f"searcher `{self.method}` needs num_trials: how many points it draws")
        return self
