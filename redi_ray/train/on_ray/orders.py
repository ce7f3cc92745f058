"""What the workers of a training are told, and what they and the driver leave for each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from redi_ray.config.answers import AnswerSettings
from redi_ray.config.objectives import Objective
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.rollout_objectives import Rehearsal
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.store import storage

REFUSED = "refused.json"
"""Left by a worker that found the training impossible: tried again and again, it would fail the same way."""
STOP = "stop"
"""Left by the driver that got SIGTERM: workers save after their step and end."""
RESIZE, RESIZED = "resize", "resized"
"""Left by Ray Train's controller where there is room for more ranks: they save after their step; and by rank 0, which copies the
word, when that is done."""


@dataclass(frozen=True)
class Development:
    """What a probe asks (`TrainSettings.probe`), and how its answers are judged."""

    problems_uri: str
    """Folder of Parquet files in PROBLEM schema (local or s3://)."""
    prompt: PromptSettings
    answers: AnswerSettings = field(default_factory=AnswerSettings)
    timeout_seconds: float = 5.0
    """Limit of one comparison; an answer that reaches it counts as wrong."""


@dataclass(frozen=True)
class Rehearsing:
    """What is rehearsed, and where it lies."""

    sequences_uri: str
    settings: Rehearsal


@dataclass(frozen=True)
class Orders:
    """All that a worker is told. Plain data, since it travels."""

    model_path: str
    overrides: ModelOverrides
    sequences_uri: str
    mismatched_uri: str | None
    objective: Objective
    settings: TrainSettings
    out_uri: str
    name: str
    threads: int
    trackers: tuple[str, ...]
    watch_nodes: bool
    """Whether to ask Ray if a node is about to go."""
    fewest_ranks: int = 1
    """Without which the training waits."""
    grows: bool = False
    """Whether Ray Train may ask to save before it changes the number of ranks."""
    development: Development | None = None
    rehearsing: Rehearsing | None = None
    keep_float32: bool = False
    """Whether the weights are kept in float32 beside a narrower export: another training will start from them."""
    report_probes: bool = False
    """Whether someone listens to what is measured on the way: a report holds up all ranks for half a second or so."""

    @property
    def bookkeeping(self) -> str:
        """Where Ray Train keeps its own files during a call; nothing in it outlives the call."""
        return storage.join(self.out_uri, "ray_train")
