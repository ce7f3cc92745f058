"""Settings of corpora of several sources: what is said of each beside its rows, and how they are mixed."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from redi_ray.config.section import Strict

Share = Annotated[float, Field(ge=0)]
VerifiedBy = Literal["reference", "tests", "neither"]
"""What a problem brings along that its traces can be verified by."""


class MixSettings(Strict):
    """Problems of several sources, with their traces and tests, by shares.

    Of each source those stay whose ids have the smallest hashes, whatever the number of its files or of workers. Their ids begin
    with the name of their step, `NAME/ID`, and so does the column `source`: counts by source reach every later step.
    """

    HOW: ClassVar[frozenset[str]] = frozenset({"when_short"})
    """See `redi_ray.config.identity`."""

    of: list[str] = Field(min_length=1)
    """Names of steps `problems`."""
    weights: dict[str, Share] = {}
    """Source -> its share, in any unit: `{a: 2, b: 1}` takes two of `a` for each of `b`. Empty goes by how many each has."""
    caps: dict[str, Annotated[int, Field(ge=1)]] = {}
    """Source -> problems at the most; what its share asks for beyond that goes to the others, by their weights."""
    epochs: dict[str, Annotated[int, Field(ge=1)]] = {}
    """Source -> how often its problems may come at the most, 1 by default. A problem that comes again has the id of the first
    with `~again2`, `~again3` behind it, samples of its own where traces are sampled, and is no duplicate of itself."""
    size: int | None = Field(None, ge=1)
    """Problems in all. Null: with `weights` as many as the sources have for these shares, without them all."""
    when_short: Literal["error", "less"] = "error"
    """What happens where a source has too few problems for its share of `size`: `error` ends the run and says what would fit,
    `less` takes what there is, of the others as planned, and says so."""
    seed: int = 42
    """Another seed takes other problems."""

    @model_validator(mode="after")
    def _names_of_sources(self) -> MixSettings:
        if twice := sorted({name for name in self.of if self.of.count(name) > 1}):
            raise ValueError(f"of: {', '.join(twice)} stands there twice; `epochs` lets a source come more than once")
        for field in ("weights", "caps", "epochs"):
            if unknown := [name for name in getattr(self, field) if name not in self.of]:
                raise ValueError(f"{field}: {', '.join(unknown)} is none of the sources in `of` ({', '.join(self.of)})")
        if self.weights:
            if missing := [name for name in self.of if name not in self.weights]:
                raise ValueError(
                    f"weights: {', '.join(missing)} has none; name one for each source, or for none at all"
                )
            if nothing := [name for name, weight in self.weights.items() if not weight]:
                raise ValueError(
                    f"weights: {', '.join(nothing)} weighs nothing; leave it out of `of`, or give it a share"
                )
        return self


class MixSource(MixSettings):
    """A mixture of steps `problems`, in place of one source."""

    kind: Literal["mix"] = "mix"


class MixStep(MixSettings):
    """Problems of several sources, by shares. As `problems.source` (`kind: mix`) it is what the config's own traces are of."""

    do: Literal["mix"]
    """The kind of step."""

    @property
    def settings(self) -> MixSettings:
        """The same without its name."""
        return MixSettings(**{name: getattr(self, name) for name in MixSettings.model_fields})


class SourceSettings(Strict):
    """What is said of a source beside where its rows lie."""

    HOW: ClassVar[frozenset[str]] = frozenset({"licence"})
    """See `redi_ray.config.identity`."""

    licence: str | None = Field(None, min_length=1)
    """Of the data, as cards and the report name it, such as `apache-2.0`; null is told as unknown."""
    verified_by: VerifiedBy | None = None
    """What traces of these problems are verified by; a row that lacks it is a reject. `reference`: the column `answer`. `tests`:
    the column `tests`. `neither`: nothing, even where a row has an answer; their verdict is that of a step `grade`. Null: what
    each row has, tests before an answer, and a row with neither is a reject."""
    max_problems: int | None = Field(None, ge=1)
    """Take the first so many."""
