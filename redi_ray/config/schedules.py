"""How a weight of an objective moves over a run. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from redi_ray.config.strict import STRICT, require


@dataclass(frozen=True, kw_only=True)
class AlphaSchedule:
    """How the negative weight moves from `start` to the objective's `alpha` over the run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["constant", "linear", "cosine", "step"] = "constant"
    start: float = 0.0
    """Weight at the first step (unused for `constant`)."""
    until: float = 1.0
    """Share of the run's steps, in (0, 1], after which the weight is `alpha`; for `step`, where it jumps."""

    def __post_init__(self) -> None:
        require(self.start >= 0, f"start must be >= 0, got {self.start}")
        require(0 < self.until <= 1, f"until must be in (0, 1], got {self.until}")
