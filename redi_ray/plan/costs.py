"""What a plan is made from and made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.pipeline.graph import Graph
from redi_ray.plan.hardware import Gpu
from redi_ray.plan.memory import RankMemory
from redi_ray.plan.sample import DataSample
from redi_ray.plan.shapes import ModelShape


@dataclass(frozen=True)
class Inputs:
    """What a plan is made from, assumptions apart."""

    config: ExperimentConfig
    sample: DataSample
    gpu: Gpu
    graph: Graph
    """Of the config: every step of it has its part in the plan."""
    student: ModelShape
    engines: dict[str, ModelShape]
    """Of the teacher or the judge that vLLM runs here, by step."""
    benchmark_problems: dict[str, int]
    """Problems evaluated, by benchmark."""
    others: dict[str, ModelShape] = field(default_factory=dict)
    """Of the models beside the student, by the step `model`."""

    def shape_of(self, name: str) -> ModelShape:
        """Of a model of the graph: that of the one that it is made from."""
        return shape_in(self.graph, name, self.others, self.student)


def shape_in(graph: Graph, name: str, others: Mapping[str, ModelShape], student: ModelShape) -> ModelShape:
    """The same, of what is not yet an `Inputs`."""
    step = graph[name]
    while step.kind in ("train", "merge"):
        step = graph[step.inputs["start"] if step.kind == "train" else next(iter(step.inputs.values()))]
    return others.get(step.name, student)


@dataclass(frozen=True)
class StageCost:
    """What one stage takes in which a model runs."""

    name: str
    steps: list[str]
    """Of the graph, that it belongs to."""
    sequences: float
    tokens: float
    """Read in training, and in scoring; written by a model in sampling."""
    gpu_hours: float | None
    """None: it runs on no GPU of ours."""
    gpus: int = 0
    flops: float = 0.0
    """With recomputation; 0 for sampling, whose time follows from memory traffic."""
    mfu: float | None = None
    """Model FLOPs over what the GPUs could do in that time."""
    price: float | None = None
    """At an endpoint's prices, or at `resources.gpu_hour_price`."""
    note: str = ""
    assumptions: list[str] = field(default_factory=list)

    @property
    def hours(self) -> float | None:
        """On the clock."""
        return None if self.gpu_hours is None else self.gpu_hours / max(1, self.gpus)


@dataclass(frozen=True)
class Beside:
    """A step in which no model runs: it costs CPU time, which is not priced."""

    name: str
    note: str
    """What is expected of it."""
    assumptions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StageMemory:
    """What one rank of a training holds."""

    name: str
    ranks: int
    pack_tokens: int
    """Of its longest pack: `tokens_per_pack`, or the longest sequence if that is longer."""
    memory: RankMemory
    room: float | None
    """Bytes that a rank may use; None on CPU."""
    budget: int | None
    """Most tokens of a pack that fit."""
    ranks_needed: int | None
    """Fewest ranks (a power of two) with which the config's packs fit; None: no number of them."""
    shorter: tuple[int, int] | None
    """Where no number of ranks does: ranks, and the tokens of a pack that they would hold."""
    checkpointing: bool
    keep_gathered: bool
    assumptions: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        return self.room is None or self.memory.peak <= self.room


@dataclass(frozen=True)
class Plan:
    """What a run will cost."""

    stages: list[StageCost]
    beside: list[Beside]
    """The other steps, so that each is named once or more."""
    memory: list[StageMemory]
    storage: dict[str, float]
    """Bytes by table."""
    storage_assumptions: list[str]

    @property
    def gpu_hours(self) -> float | None:
        """Of all stages that run on GPUs; None if none does."""
        known = [stage.gpu_hours for stage in self.stages if stage.gpu_hours is not None]
        return sum(known) if known else None

    @property
    def price(self) -> float | None:
        """Of all stages that have one; None if none has."""
        known = [stage.price for stage in self.stages if stage.price is not None]
        return sum(known) if known else None

    @property
    def tokens(self) -> float:
        return sum(stage.tokens for stage in self.stages)

    @property
    def total(self) -> float:
        """What sensitivity is measured by: GPU-hours, or tokens where no GPU is used."""
        return self.tokens if self.gpu_hours is None else self.gpu_hours
