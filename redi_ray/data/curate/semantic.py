"""Block `duplicates.semantic`: problems that say the same in other words, by their embeddings. The rule is in
`redi_ray.config.curation`."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from redi_ray.config.curation import SemanticDuplicates
from redi_ray.data.curate.block import CorpusBlock, id_of, vectors_of, without
from redi_ray.data.curate.duplicates import MAX_ANSWER_CHARS, number_of
from redi_ray.data.curate.work import Curation, Drops
from redi_ray.data.embed.leaders import Leaders, find_leaders
from redi_ray.store import parquet
from redi_ray.text.counted import figures, numbers_named

SIMILAR = pa.schema(
    [
        pa.field("problem_id", pa.string(), nullable=False),
        pa.field("other_id", pa.string(), nullable=False),  # a problem that stays
        pa.field("similarity", pa.float64(), nullable=False),
        pa.field("dropped", pa.bool_(), nullable=False),  # as a duplicate of it
    ]
)
"""Pairs next to the threshold."""
MARGIN = 0.1
"""Pairs so much below the threshold are looked for, to be shown."""
SHOWN = 50
"""Pairs that are shown on either side of the threshold, the nearest to it."""


class SemanticBlock(CorpusBlock):
    """Of problems that say the same, the one stays whose key comes first."""

    reads = ("problem", "answer")
    reasons = ("semantic_duplicate",)
    embeds = True

    def __init__(self, config: SemanticDuplicates, similar: str) -> None:
        """similar: where the table SIMILAR goes."""
        self.config, self.similar = config, similar

    @classmethod
    def of(cls, curation: Curation) -> SemanticBlock | None:
        duplicates = curation.config.duplicates
        if duplicates is None or duplicates.semantic is None:
            return None
        return cls(duplicates.semantic, curation.work("similar.parquet"))

    def sign(self, problem: str, answer: str | None) -> dict[str, Any]:
        named = {"figures": sorted(figures(problem)), "numbers": sorted(numbers_named(problem))}
        return {**named, "answer": answer_of(answer)}

    def sieve(self, table: pa.Table, drops: Drops) -> pa.Table:
        agree = Agreeing(table, self.config.agree)
        found = find_leaders(vectors_of(table), self.config.threshold, agree, margin=MARGIN)
        self._show(table, found)
        gone = np.flatnonzero(found.cosine >= self.config.threshold).tolist()
        told = {row: f"of {id_of(table, found.nearest[row])}, similarity {found.cosine[row]:.2f}" for row in gone}
        return without(table, told, "semantic_duplicate", drops)

    def _show(self, table: pa.Table, found: Leaders) -> None:
        """Write SIMILAR, the most alike first."""
        some = np.flatnonzero(found.nearest >= 0)
        order = some[np.argsort(-found.cosine[some], kind="stable")]
        border = int((found.cosine[order] >= self.config.threshold).sum())
        rows = [
            {
                "problem_id": id_of(table, row),
                "other_id": id_of(table, found.nearest[row]),
                "similarity": round(float(found.cosine[row]), 4),
                "dropped": bool(found.cosine[row] >= self.config.threshold),
            }
            for row in order[max(0, border - SHOWN) : border + SHOWN].tolist()
        ]
        parquet.write_table(self.similar, pa.Table.from_pylist(rows, schema=SIMILAR))


class Agreeing:
    """Whether two rows of SURVIVOR may be one problem, by their answers and numbers."""

    def __init__(self, table: pa.Table, by: str) -> None:
        self.by = by
        self.answers, self.figures, self.numbers = (table[name] for name in ("answer", "figures", "numbers"))

    def __call__(self, one: int, other: int) -> bool:
        if self.by == "nothing":
            return True
        if self.by == "answer":
            known = (self.answers[one].as_py(), self.answers[other].as_py())
            if None not in known:
                return known[0] == known[1]
        return self._figures_are_in(one, other) and self._figures_are_in(other, one)

    def _figures_are_in(self, one: int, other: int) -> bool:
        return set(self.figures[one].as_py()) <= set(self.numbers[other].as_py())


def answer_of(answer: str | None) -> str | None:
    """The answer as a fraction if it is an integer, a fraction or a decimal, whatever its spelling."""
    if (number := number_of(answer)) is not None:
        return number
    if not answer or len(answer) > MAX_ANSWER_CHARS:
        return None
    try:
        return str(Fraction(answer.replace(",", "").strip().strip("$")))
    except (ValueError, ZeroDivisionError):
        return None
