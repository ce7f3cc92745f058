"""Token columns as weights of what is trained on, or as what objectives read: beside the texts, where a pass fetches those."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from redi_ray.config.group_steps import SOFT_TARGETS, TokenColumn, TokenWeights
from redi_ray.data.columns import AGAIN, ColumnError, check_grain
from redi_ray.schemas import SOFT_FORMAT
from redi_ray.store import parquet

T = TypeVar("T")
Place = tuple[int, int]
"""(shard, row) of a sample."""
NO_WEIGHTS = "no_token_weights"
"""Why a sample is left out: its tokens are to be weighed, and the column has no numbers for it."""


@dataclass(frozen=True)
class Weighing:
    """A column as weights."""

    settings: TokenWeights
    shards: tuple[str, ...]
    """Of the column, one for each of the samples'."""
    tokenizer: str
    """Fingerprint of the tokenizer of what is trained."""

    def check(self) -> None:
        """Raise ColumnError unless the column says something of this tokenizer's tokens."""
        for shard in self.shards[:1]:
            check_grain(shard, "token", self.tokenizer)

    def weighs(self, side: int) -> bool:
        """Whether members of this side are weighed."""
        return self.settings.side in {"both", "chosen" if side > 0 else "rejected"}

    def read(self, wanted: Mapping[Place, str]) -> dict[Place, list[float] | None]:
        """The weights of the samples at these places, None where the column has no values. wanted: place -> sample.

        Raises ColumnError, with file and row, where the column is of another sample there.
        """
        return read_values(self.shards, wanted, lambda values: self._weights(np.asarray(values, np.float64)))

    def _weights(self, values: np.ndarray) -> list[float]:
        return (1 - values if self.settings.use == "1 - value" else values).tolist()


@dataclass(frozen=True)
class Reading:
    """A column that an objective reads by name."""

    name: str
    settings: TokenColumn
    shards: tuple[str, ...]
    """As of Weighing."""
    tokenizer: str

    @property
    def is_soft(self) -> bool:
        """Whether it holds a teacher's distributions, in place of numbers."""
        return self.name == SOFT_TARGETS

    @property
    def form(self) -> str:
        """How the records of distributions are laid out."""
        return (parquet.read_schema(self.shards[0]).metadata or {})[SOFT_FORMAT.encode()].decode()

    def check(self) -> None:
        """Raise ColumnError unless the column says something of this tokenizer's tokens."""
        for shard in self.shards[:1]:
            check_grain(shard, "distribution" if self.is_soft else "token", self.tokenizer)

    def reads(self, side: int) -> bool:
        """Whether members of this side need values."""
        return side > 0 or self.settings.side == "both"

    def read(self, wanted: Mapping[Place, str]) -> dict[Place, Any]:
        """As of Weighing: what is made of the values, or a sample's records, end to end."""
        if self.is_soft:
            return read_values(self.shards, wanted, lambda records: records)
        return read_values(self.shards, wanted, lambda values: self._used(np.asarray(values, np.float64)))

    def _used(self, values: np.ndarray) -> list[float]:
        if self.settings.use == "value":
            return values.tolist()
        return (np.cumsum(values) / np.arange(1, len(values) + 1)).tolist()


def read_values(shards: tuple[str, ...], wanted: Mapping[Place, str], use: Callable[[Any], T]) -> dict[Place, T | None]:
    """What `use` makes of the values of the samples at these places, None where the column has none. wanted: place -> sample.

    Raises ColumnError, with file and row, where the column is of another sample there.
    """
    rows: dict[int, set[int]] = defaultdict(set)
    for shard, row in wanted:
        rows[shard].add(row)
    found: dict[Place, T | None] = {}
    for shard, mine in rows.items():
        for row, value in parquet.read_rows(shards[shard], mine):
            if value["trace_id"] != (sample := wanted[shard, row]):
                raise ColumnError(f"{shards[shard]}: row {row} is of {value['trace_id']}, not {sample}: {AGAIN}")
            values = value["values"]
            found[shard, row] = None if values is None else use(values)
    return found
