"""Settings of steps `pose`, which make problems of samples: what an expert is asked about a trace, and what it then guides."""

from __future__ import annotations

import string
from typing import Literal

from pydantic import model_validator

from redi_ray.config.section import Strict
from redi_ray.config.step_judges import check_filled

TEMPLATE_PROMPT = """\
Below are a problem, somebody's thinking about it, and the response that came of it. Write down the plan behind them, as a
numbered list of steps for somebody who has seen neither: what each step works out and from what, in general words. Leave out all
results that steps come to, and the answer above all. Write nothing but the list.

Problem:
{problem}

Thinking:
{thinking}

Response:
{response}"""
"""Asks for a template of a trace. ReasonFlux-PRM's own prompt is not public."""

GUIDED_PROMPT = """\
{problem}

Follow this plan:
{guide}"""
"""Asks a problem again, with a template."""
FILLED = ("problem", "dialogue", "thinking", "response", "guide")


class PoseSettings(Strict):
    """What is asked of a sample."""

    prompt: str | None = None
    """The problem that is posed. `{problem}`, `{thinking}` and `{response}` of the sample are filled in, `{dialogue}`, which is
    the problem with a line for each turn (`user: ...`), and `{guide}` where the step has `guides`; a brace that is meant as such
    is doubled. Null asks for a template of the trace, or with `guides` the problem again with such a template."""
    guided: bool = False
    """Whether there are guides."""

    @property
    def template(self) -> str:
        """The prompt in force."""
        return self.prompt or (GUIDED_PROMPT if self.guided else TEMPLATE_PROMPT)

    @property
    def fields(self) -> set[str]:
        """What is filled in."""
        return {name for _, name, _, _ in string.Formatter().parse(self.template) if name is not None}


class PoseStep(Strict):
    """Problems made of samples, one of each, under its id and with its reference answer: to have a model write a template of a
    trace, and others follow it (ReasonFlux-PRM's trajectory reward). The scorer `pass_rate` says how often they get there."""

    do: Literal["pose"]
    """The kind of step."""
    of: str
    """Traces, with verdicts or without."""
    guides: str | None = None
    """Traces of such problems, of these samples: what they say behind their thought is the guide. Of several for one sample the
    first stands; a sample without one, or with one that was cut off, gives no problem."""
    prompt: str | None = None
    """The problem that is posed. `{problem}`, `{thinking}` and `{response}` of the sample are filled in, `{dialogue}`, which is
    the problem with a line for each turn (`user: ...`), and `{guide}` where the step has `guides`; a brace that is meant as such
    is doubled. Null asks for a template of the trace, or with `guides` the problem again with such a template."""

    @property
    def settings(self) -> PoseSettings:
        """What of it decides the problems, beside samples and guides."""
        return PoseSettings(prompt=self.prompt, guided=self.guides is not None)

    @model_validator(mode="after")
    def _filled(self) -> PoseStep:
        known = FILLED if self.guides is not None else FILLED[:-1]
        check_filled(self.settings.template, known, ("guide",) if self.guides is not None else ())
        if not self.settings.fields:
            raise ValueError(f"prompt: nothing of the sample is filled in; known are {', '.join(known)}")
        return self
