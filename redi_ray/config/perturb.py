"""Settings of steps that make variants of problems, and of the step that holds models against them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from redi_ray.config.section import Strict

SENTENCES = (
    "The library on the corner has {n} windows.",
    "A train with {n} carriages passed by in the meantime.",
    "It rained on {n} days of the previous month.",
    "The calendar in the hallway shows picture number {n}.",
    "A neighbour's clock is {n} minutes slow.",
    "The nearest museum owns {n} old maps.",
    "Someone's uncle once climbed {n} hills in a summer.",
    "The bridge over the river rests on {n} pillars.",
    "A radio station was playing its favourite {n} songs.",
    "There are {n} lamps along the street outside.",
    "The lift of that building stops at {n} floors.",
    "An orchestra of {n} musicians was rehearsing nearby.",
)  # fmt: skip
"""Each true of nothing that a problem asks for; `{n}` becomes a number that the problem does not have."""
PART = Literal["problems", "dev", "test"]


class Distractor(Strict):
    """One sentence more, which has nothing to do with the question; in the built-in world a step that changes nothing."""

    sentences: list[str] = Field(list(SENTENCES), min_length=1)
    """Sentences to choose from; `{n}` is filled in. One that shares a word with the problem is not taken."""

    @model_validator(mode="after")
    def _sentences(self) -> Distractor:
        for sentence in self.sentences:
            if not sentence.strip().endswith((".", "!")):
                raise ValueError(f"{sentence!r} is no statement: it must end with a full stop")
            rest = sentence.replace("{n}", "")
            if "{" in rest or "}" in rest:
                raise ValueError(f"{sentence!r}: only {{n}} is filled in")
        return self


class Names(Strict):
    """People get other first names, the same one wherever they are named."""


class Order(Strict):
    """Two facts that stand beside each other and do not refer to each other change places; in the built-in world two steps of
    equal rank."""


class Numbers(Strict):
    """Numbers up to 999 are written in words, larger ones with or without commas; in the built-in world `-3` as `+7`."""


class Units(Strict):
    """A quantity is given in a smaller unit (`2 hours` as `120 minutes`), where the question says in which unit it asks."""


class ImportedVariants(Strict):
    """Variants that people have, in groups with their originals."""

    paths: list[str] = Field(min_length=1)
    """Files or folders (Parquet, Arrow, JSON, CSV, packed or not), local or on S3."""
    group: str = "group_id"
    """Column: rows of one group are variants of one problem."""
    variant: str = "variant"
    """Column: what was changed."""
    original: str = "seed"
    """What `variant` says of the row that nothing was changed of; each group has one."""
    problem: str = "problem"
    """Column of the text."""
    answer: str = "answer"
    """Column of the reference answer, text or number."""


Rule = Distractor | Names | Order | Numbers | Units


class PerturbSettings(Strict):
    """Which variants are made."""

    distractor: Distractor | None = None
    """A sentence more; `{}` turns it on, as with all of these."""
    names: Names | None = None
    """Other names."""
    order: Order | None = None
    """Facts in another order."""
    numbers: Numbers | None = None
    """Numbers written otherwise."""
    units: Units | None = None
    """Quantities in other units."""
    imported: ImportedVariants | None = None
    """Variants from your own files, in place of all of these."""
    part: PART = "problems"
    """Of which problems: those to learn from, those held out for development, or the built-in world's test problems."""
    originals: bool = False
    """Whether the originals are among the output, so that one step samples both. Imported ones always are."""
    changed: Literal["drop", "keep"] = "drop"
    """What becomes of a variant whose reference answer turns out to be another one than its original's."""
    seed: int = 42
    """Another seed makes other variants."""

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The perturbations in force, by name."""
        found = {name: getattr(self, name) for name in ("distractor", "names", "order", "numbers", "units")}
        return {name: rule for name, rule in found.items() if rule is not None}

    @model_validator(mode="after")
    def _something(self) -> PerturbSettings:
        if not self.rules and self.imported is None:
            raise ValueError(
                "no perturbation is on: set some of `distractor: {}`, `names: {}`, `order: {}`, `numbers: {}` and `units: {}`, "
                "or `imported`"
            )
        if self.rules and self.imported is not None:
            raise ValueError(
                f"`imported` variants are as they are; leave out {', '.join(self.rules)}, or make a second step"
            )
        if self.imported is not None and self.part != "problems":
            raise ValueError("`part` says which problems are changed; `imported` variants bring their own")
        return self


class PerturbStep(PerturbSettings):
    """Variants of problems that are to keep their answers: distractor sentences, other names, facts in another order, numbers and
    units written otherwise; under the ids `ORIGINAL~PERTURBATION`. Each is checked by means of its own, and against right traces
    where there are some: their verdict must not move."""

    do: Literal["perturb"]
    """The kind of step."""
    problems: str | None = None
    """Problems; null takes `problems`, or with `imported` none."""
    traces: str | None = None
    """Verified traces of the originals. Right ones are verified again, with each variant's reference answer; a variant by which
    one is no longer right counts as changed."""

    @property
    def settings(self) -> PerturbSettings:
        """What of it decides the variants, beside problems and traces."""
        return PerturbSettings(**{name: getattr(self, name) for name in PerturbSettings.model_fields})

    @property
    def source(self) -> str | None:
        """The problems in force."""
        return self.problems or (None if self.imported is not None else "problems")

    @model_validator(mode="after")
    def _one_source(self) -> PerturbStep:
        if self.imported is not None and self.problems is not None:
            raise ValueError("`imported` variants come with their originals; leave out `problems`")
        return self


class RobustnessSettings(Strict):
    """How variants and originals are held against each other."""

    seed: int = 0
    """Of the bootstrap intervals."""


class RobustnessStep(RobustnessSettings):
    """Accuracy on variants against accuracy on their originals, paired by problem, with intervals; and the accuracy at the worst
    of a problem's variants."""

    do: Literal["robustness"]
    """The kind of step."""
    of: str
    """Verified samples of variants, as steps `perturb` and `paraphrase` make them."""
    to: str | None = None
    """Verified samples of the originals, by the same model; null: they are in `of`."""

    @property
    def settings(self) -> RobustnessSettings:
        """What of it decides the result, beside the samples."""
        return RobustnessSettings(seed=self.seed)
