"""Settings of loop detection: when a completion counts as repeating itself to no end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from redi_ray.config.strict import STRICT, require


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """A completion is caught in a loop if its end is one passage repeated to the letter, often and long enough."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    stop: bool = True
    """End such a completion inside the engine, where it would go on to `max_tokens`. False only marks it afterwards."""
    min_repeats: int = 4
    """How often the passage must stand there, the first time included."""
    min_tokens: int = 256
    """How much of the end must repeat, all repeats together: a row of zeros or dots shorter than this is no loop."""
    max_period: int = 1024
    """Longest passage that is looked for, in tokens."""

    def __post_init__(self) -> None:
        require(self.min_repeats >= 2, f"min_repeats must be >= 2, got {self.min_repeats}")
        require(self.min_tokens >= 16, f"min_tokens must be >= 16, got {self.min_tokens}")
        require(self.max_period >= 1, f"max_period must be >= 1, got {self.max_period}")
