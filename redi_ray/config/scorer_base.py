"""What all settings of scorers have, and the words that they share."""

from __future__ import annotations

from typing import Literal

from redi_ray.config.section import Strict

REWARD, MODEL, COLUMN, RIGHT = "reward", "model", "column ", "right"
"""What a step `score` calls what it takes beside samples: a reward model, a language model, a column (before its name), and
verified traces that say how often samples lead to the right answer."""
Grain = Literal["row", "span", "token", "distribution"]
Form = Literal["headers", "equations", "numbered", "paragraphs", "sentences"]
"""Of a text with steps; what each means is said in `redi_ray.text.steps`."""


class ScorerSettings(Strict):
    """What all have."""

    @property
    def grain(self) -> Grain:
        """Of the column (`redi_ray.schemas.column`)."""
        return "row"

    @property
    def needs_tokenizer(self) -> bool:
        """Whether the base model's tokenizer is asked."""
        return False

    @property
    def reads_prompt(self) -> bool:
        """Whether `model.prompt` decides what it says."""
        return False

    @property
    def reads_answers(self) -> bool:
        """Whether answers are read and compared, as `verify` says."""
        return False

    @property
    def taken(self) -> dict[str, str]:
        """What it takes of the graph beside the samples: the kind's word for it -> a step's name."""
        return {}
