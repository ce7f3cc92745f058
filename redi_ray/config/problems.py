"""The section `problems`: where they come from, which are held out."""

from __future__ import annotations

from pydantic import Field

from redi_ray.config.data import Source
from redi_ray.config.section import Strict
from redi_ray.config.worlds import ArithmeticSource


class DevelopmentSplit(Strict):
    """Problems held out for development: none of them is sampled, verified or curated.

    Which ones follows from the problem's normalised text and the seed alone, so it depends on neither the order of the
    rows nor their ids, and two rows with the same problem end on the same side.
    """

    share: float = Field(0.0, ge=0, lt=1)
    """Share of the problems; 0 holds none out. Problems without a reference answer stay: nothing could judge them."""
    seed: int = 0
    """Another seed holds out other problems."""


class ProblemsConfig(Strict):
    """Where the problems come from."""

    source: Source = ArithmeticSource()
    """`arithmetic`, `files`, `hub`, `openr1` or `exercises`; `mix` for several steps `problems`; `none` where `steps` imports
    what is learnt from."""
    max_problems: int | None = Field(None, ge=1)
    """Take the first so many, not counting those held out on the way."""
    dev: DevelopmentSplit = DevelopmentSplit()
    """The development split; the built-in world makes its own (`source.num_dev`)."""
