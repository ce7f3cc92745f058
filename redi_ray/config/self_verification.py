"""Samples that verify themselves: how attempts and verifications stand in a text, and how such texts are put together of a
problem's samples.

After S2R (arXiv 2502.12853; NineAbyss/S2R, its tools read). Where its files differ from one another, the one that builds the
offline training set counts.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from redi_ray.config.section import Strict
from redi_ray.config.step_judges import check_filled

EXAMINE_PROMPT = """\
Here is a problem and a solution of it.

Problem:
{problem}

Solution:
{solution}

What the solution says is material to be judged. Do not solve the problem anew: try to show that the solution is wrong, by
holding its answer against the problem in another way, and by looking for a step that does not follow. Then end with one
sentence, and nothing behind it: "The solution is correct." or "The solution is incorrect.\""""


class ExamineSettings(Strict):
    """What a model is asked about a solution."""

    prompt: str = EXAMINE_PROMPT
    """The question. `{problem}` and `{solution}` are filled in, and a brace that is meant as such doubled."""
    right: str = "correct"
    """The reference answer where the solution is right."""
    wrong: str = "incorrect"
    """And where it is wrong."""

    @field_validator("prompt")
    @classmethod
    def _filled(cls, value: str) -> str:
        check_filled(value, ("problem", "solution"), ("problem", "solution"))
        return value

    @model_validator(mode="after")
    def _two_words(self) -> ExamineSettings:
        if self.right.strip() == self.wrong.strip():
            raise ValueError("right and wrong must be two different words")
        return self


class ExamineStep(ExamineSettings):
    """Problems that ask whether samples are right, one for each, to be sampled from a model and verified like any: what then is
    called correct tells the truth. With the default prompt `verify` reads `{extract: ["verdict:The solution
    is|correct|incorrect"]}`."""

    do: Literal["examine"]
    """The kind of step."""
    of: str
    """A step `groups`."""

    @property
    def settings(self) -> ExamineSettings:
        """What of it decides the problems, beside the groups."""
        return ExamineSettings(**{name: getattr(self, name) for name in ExamineSettings.model_fields})


class SelfVerification(Strict):
    """What stands between the parts of a text: an attempt, a verification of it, another attempt, and so on."""

    recheck: str = "\n\nWait, let me recheck my solution.\n\n"
    """Before a verification. White space at its ends does not count when a text is read."""
    again: str = "\n\nLet me try again.\n\n"
    """Before every attempt but the first."""
    wrong: list[str] = Field(["is incorrect", "cannot verify"], min_length=1)
    """A verification that holds one of these says that the attempt is wrong, whatever else it holds; in any case of letters."""
    right: list[str] = Field(["is correct", "verified", "is indeed"], min_length=1)
    """Else one of these says that it is right. What says neither counts as wrong where the text goes on, and as right at
    its end."""

    @model_validator(mode="after")
    def _apart(self) -> SelfVerification:
        marks = {self.recheck.strip(), self.again.strip()}
        if "" in marks or len(marks) < 2:
            raise ValueError("recheck and again must be two texts that are not blank: they are what a sample is cut at")
        return self

    def says_right(self, verification: str, *, last: bool) -> bool:
        """What a verification says of its attempt. last: whether the text ends with it."""
        said = verification.lower()
        if any(phrase.lower() in said for phrase in self.wrong):
            return False
        return last or any(phrase.lower() in said for phrase in self.right)


class Chain(Strict):
    """How long the text of a problem is by how many of its samples are wrong."""

    wrong: int = Field(ge=0)
    """Problems with at most so many wrong samples, and more than the entry before says."""
    attempts: int = Field(ge=1)
    """Attempts, the last one right, all others wrong with answers of their own. Where fewer wrong answers are there, fewer."""
    share: float = Field(1.0, gt=0, le=1)
    """Of these problems, those that are kept, by chance; shorter texts, for lack of wrong answers, all stay."""


CHAINS = [
    Chain(wrong=0, attempts=1, share=0.2394),
    Chain(wrong=1, attempts=2, share=0.5),
    Chain(wrong=3, attempts=3, share=0.5),
    Chain(wrong=20, attempts=4, share=0.5),
]
"""S2R's."""


class SelfVerifySettings(Strict):
    """How a text is put together of a problem's samples."""

    form: SelfVerification = SelfVerification()
    """What stands between its parts."""
    chains: list[Chain] = Field(CHAINS, min_length=1)
    """Its length; problems with more wrong samples than the last entry says are left out. The default is S2R's."""
    says_right: list[str] = Field(["The answer {answer} follows from the problem: it is correct."], min_length=1)
    """Verifications of a right attempt, of which one is drawn; `{answer}` is filled in, and a brace that is meant as such
    doubled."""
    says_wrong: list[str] = Field(
        ["The answer {answer} does not follow from the problem: it is incorrect."], min_length=1
    )
    """And of a wrong one."""
    seed: int = 42
    """Of all that is drawn."""

    @field_validator("chains")
    @classmethod
    def _rise(cls, value: list[Chain]) -> list[Chain]:
        borders = [chain.wrong for chain in value]
        if borders != sorted(set(borders)):
            raise ValueError(f"the values of `wrong` must rise, got {borders}")
        return value

    @model_validator(mode="after")
    def _truthful(self) -> SelfVerifySettings:
        for field, truth in (("says_right", True), ("says_wrong", False)):
            for text in getattr(self, field):
                try:
                    check_filled(text, ("answer",), ())
                except ValueError as error:
                    raise ValueError(f"{field}: {text!r}: {error}") from error
                said = text.format(answer="7")
                if marks := [mark for mark in (self.form.recheck, self.form.again) if mark.strip() in said]:
                    raise ValueError(
                        f"{field}: {said!r} holds {marks[0].strip()!r}, at which texts are cut into their parts"
                    )
                if self.form.says_right(said, last=not truth) is not truth:
                    raise ValueError(
                        f"{field}: {said!r} is read as the opposite by `form.wrong` and `form.right`, or as neither"
                    )
        return self


class SelfVerifyStep(SelfVerifySettings):
    """Texts in which a model verifies its attempts and tries again until one is right, of the samples of groups: one of each
    problem, to be learnt from by `sft` with `train: {outside_spans: 1}`. Wrong attempts are spans that weigh nothing."""

    do: Literal["self_verify"]
    """The kind of step."""
    of: str
    """A step `groups`, with right and wrong samples (`least: 1`)."""
    checks: str | None = None
    """Verifications by a model: verified samples of a step `examine` of the same groups. Those that are true stand in the
    texts, in place of `says_right` and `says_wrong`; samples without any stand in none."""

    @property
    def settings(self) -> SelfVerifySettings:
        """What of it decides the texts, beside the groups."""
        return SelfVerifySettings(**{name: getattr(self, name) for name in SelfVerifySettings.model_fields})
