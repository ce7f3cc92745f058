"""Block `language`: problems in other languages go."""

from __future__ import annotations

from redi_ray.config.curation import Language
from redi_ray.data.curate.block import ProblemBlock, Why
from redi_ray.data.curate.work import Curation
from redi_ray.text.language import identify


class LanguageBlock(ProblemBlock):
    """Judges a problem by its prose without formulas; one with too little of it stays."""

    reasons = ("other_language",)

    def __init__(self, config: Language) -> None:
        self.config = config

    @classmethod
    def of(cls, curation: Curation) -> LanguageBlock | None:
        return None if curation.config.language is None else cls(curation.config.language)

    def why(self, problem: str) -> Why | None:
        found, confidence = identify(problem)
        if found in self.config.allow or confidence < self.config.min_confidence:
            return None
        return "other_language", f"{found}, {confidence:.2f}"
