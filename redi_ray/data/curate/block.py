"""What a block of curation is: one rule in one class, with its settings, the columns that it reads, one method, and a name for
each reason that it gives. Which a config turns on, and in which order they run, is in `redi_ray.data.curate.blocks`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redi_ray.data.curate.work import Drops

if TYPE_CHECKING:
    from redi_ray.config.curation import TraceRules
    from redi_ray.config.prompts import PromptSettings
    from redi_ray.data.curate.work import Curation

Why = tuple[str, str]
"""Why something goes: the reason's name, and in words what was found, for the column `detail` of the table `dropped`."""
Row = Mapping[str, Any]
EMBEDDING = "embedding"
"""Column of vectors, float16 of length 1."""


class Block(ABC):
    """One rule. It decides by ids, hashes, texts and `sample_index`, never by the order or the sharding of what it is given."""

    reads: ClassVar[tuple[str, ...]] = ()
    """Columns of verified traces that must be read for it, beside ids and verdicts."""
    reasons: ClassVar[tuple[str, ...]]
    """Names of all the reasons that it gives."""


class TraceBlock(Block):
    """Whether one trace may be picked for its side; one that may not makes way for the next. Its reasons stand in the table
    behind `chosen_` or `rejected_`."""

    @classmethod
    @abstractmethod
    def of(cls, rules: TraceRules, prompt: PromptSettings) -> TraceBlock | None:
        """The block, None where the rules do not ask for it."""

    @abstractmethod
    def why(self, trace: Row) -> Why | None:
        """Why it may not, or None. trace: with the columns that the block reads."""


class ProblemBlock(Block):
    """Whether a problem may stay, by its text."""

    reads = ("problem",)

    @classmethod
    @abstractmethod
    def of(cls, curation: Curation) -> ProblemBlock | None:
        """The block, None where the config does not ask for it. What takes long to load is loaded at the first problem."""

    @abstractmethod
    def why(self, problem: str) -> Why | None:
        """Why it goes, or None."""


class RateBlock(Block):
    """Whether a problem may stay, by how often it was solved."""

    @classmethod
    @abstractmethod
    def of(cls, curation: Curation) -> RateBlock | None:
        """The block, None where the config does not ask for it."""

    @abstractmethod
    def why(self, rate: Row) -> Why | None:
        """Why it goes, or None. rate: a row of `redi_ray.data.curate.difficulty.PASS_RATE`."""


class CorpusBlock(Block):
    """Which problems may stay beside each other; runs over all that are left."""

    embeds: ClassVar[bool] = False
    """Whether it goes by the problems' embeddings."""

    @classmethod
    @abstractmethod
    def of(cls, curation: Curation) -> CorpusBlock | None:
        """The block, None where the config does not ask for it."""

    def sign(self, problem: str, answer: str | None) -> dict[str, Any]:
        """What it must know of a problem, as columns of SURVIVOR (`redi_ray.data.curate.choice`): small, since one task holds
        those of all problems. Called where the texts are read, if the block `reads` any."""
        return {}

    @abstractmethod
    def sieve(self, table: pa.Table, drops: Drops) -> pa.Table:
        """The rows that stay, those that go noted in `drops`. table: SURVIVOR, in the order of the problems' keys, and EMBEDDING
        if one of the blocks `embeds`."""


def without(table: pa.Table, told: Mapping[int, str], reason: str, drops: Drops) -> pa.Table:
    """The table without some rows, each noted with its detail. told: row -> detail."""
    for row, detail in sorted(told.items()):
        drops.add("problem", reason, id_of(table, row), detail=detail)
    stays = np.ones(table.num_rows, bool)
    stays[list(told)] = False
    return table.filter(pa.array(stays))


def id_of(table: pa.Table, row: int) -> str:
    """The problem of a row."""
    return str(table["problem_id"][row].as_py())


def vectors_of(table: pa.Table) -> NDArray[np.float16]:
    """`[n, d]` the embeddings of the rows."""
    column = table[EMBEDDING].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), column.type.list_size)
