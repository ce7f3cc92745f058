"""The blocks of curation, in the order in which they run: a block is a class in a module here, its settings in
`redi_ray.config.curation`, and a line in one of these tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from redi_ray.config.curation import TraceRules
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.curate.block import Block, CorpusBlock, ProblemBlock, RateBlock, Row, TraceBlock, Why
from redi_ray.data.curate.contamination import ContaminationBlock
from redi_ray.data.curate.difficulty import BucketCaps, PassRates
from redi_ray.data.curate.diverse import DiversityBlock
from redi_ray.data.curate.duplicates import DuplicatesBlock
from redi_ray.data.curate.language import LanguageBlock
from redi_ray.data.curate.quality import Boxes, Length, Repetitive, Thinking, Truncated
from redi_ray.data.curate.semantic import SemanticBlock
from redi_ray.data.curate.work import Curation

Side = Literal["chosen", "rejected"]
TRACES: tuple[type[TraceBlock], ...] = (Truncated, Length, Thinking, Boxes, Repetitive)
"""Blocks on one trace; its reason is the first."""
PROBLEMS: tuple[type[ProblemBlock], ...] = (LanguageBlock, ContaminationBlock)
"""Blocks on a problem's text; its reason is the first."""
RATES: tuple[type[RateBlock], ...] = (PassRates,)
"""Blocks on how often a problem was solved, behind those on its text."""
CORPUS: tuple[type[CorpusBlock], ...] = (DuplicatesBlock, SemanticBlock, BucketCaps, DiversityBlock)
"""Blocks on all problems that are left, one after the other."""
BLOCKS: tuple[type[Block], ...] = (*TRACES, *PROBLEMS, *RATES, *CORPUS)


def trace_blocks(rules: TraceRules, prompt: PromptSettings) -> tuple[TraceBlock, ...]:
    """Those that a side's rules ask for."""
    return tuple(block for kind in TRACES if (block := kind.of(rules, prompt)) is not None)


def first_why(blocks: tuple[TraceBlock, ...], trace: Row) -> Why | None:
    """Why a trace may not be picked, by the first block that says so, or None."""
    for block in blocks:
        if (why := block.why(trace)) is not None:
            return why
    return None


@dataclass(frozen=True)
class Blocks:
    """Those that a curation asks for."""

    traces: dict[Side, tuple[TraceBlock, ...]]
    problems: tuple[ProblemBlock, ...]
    rates: tuple[RateBlock, ...]
    corpus: tuple[CorpusBlock, ...]

    @classmethod
    def of(cls, curation: Curation) -> Blocks:
        """Cheap: what takes long to load waits for the first problem."""
        config, prompt = curation.config, curation.prompt
        return cls(
            traces={
                "chosen": trace_blocks(config.chosen, prompt),
                "rejected": trace_blocks(config.rejected, prompt),
            },
            problems=tuple(block for block in (kind.of(curation) for kind in PROBLEMS) if block is not None),
            rates=tuple(block for block in (kind.of(curation) for kind in RATES) if block is not None),
            corpus=tuple(block for block in (kind.of(curation) for kind in CORPUS) if block is not None),
        )

    def __iter__(self) -> Iterator[Block]:
        yield from (*self.traces["chosen"], *self.traces["rejected"], *self.problems, *self.rates, *self.corpus)

    @cached_property
    def reads(self) -> set[str]:
        """Columns that one of them reads."""
        return {name for block in self for name in block.reads}

    @cached_property
    def read_problems(self) -> bool:
        """Whether one of them looks at the problems' texts."""
        return "problem" in self.reads

    @cached_property
    def embeds(self) -> bool:
        """Whether one of them goes by the problems' embeddings."""
        return any(block.embeds for block in self.corpus)

    def judge(self, problem: str, answer: str | None) -> dict[str, Any]:
        """What the blocks say of a problem's text: `reason` and `detail` where it goes, else what the corpus is sieved by."""
        for block in self.problems:
            if (why := block.why(problem)) is not None:
                return dict(zip(("reason", "detail"), why, strict=True))
        signed: dict[str, Any] = {}
        for sieve in self.corpus:
            signed |= sieve.sign(problem, answer) if sieve.reads else {}
        return signed

    def rated(self, rate: Row) -> Why | None:
        """Why a problem that is solved so often goes, or None."""
        for block in self.rates:
            if (why := block.why(rate)) is not None:
                return why
        return None
