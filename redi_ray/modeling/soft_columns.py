"""A teacher's distribution at each token, as it is stored: its k likeliest tokens with their log-probs, and the rest.

One record a token, of `4 k + 2` bytes where the vocabulary has at most 65,536 tokens, and one byte more for every further 65,536
(two where k > 255):

    ids    k x uint16     the tokens in rising order, each without what is above its lower 16 bits
    above  m x uint8      of the tokens, how many are below 65,536, 131,072, ... (m of these borders; none in a small vocabulary)
    logps  (k + 1) x f16  their log-probs (nats) in this order, and behind them the log of what all other tokens have together

The rest has a number of its own because rounding the others would hide it; whoever reads them normalises all k + 1. A log-prob is
right to about 1 in 2,000, or to 6e-8 near 0. numpy only: readers and writers are on both sides of the training.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np

from redi_ray.errors import UserError

HALF = 1 << 16
"""Tokens that 16 bits tell apart."""
LOWEST = float(np.finfo(np.float16).min)
"""Log-prob that stands for none at all: its exponential is 0 in any type."""
NOTHING = LOWEST / 2
"""Below it a log-prob, or the sum of several that stand for none, says that there is nothing."""


@dataclass(frozen=True)
class SoftFormat:
    """What decides a record's layout."""

    top_k: int
    vocabulary: int
    """Tokens that an id may name."""

    @property
    def dtype(self) -> np.dtype:
        """Of a record."""
        borders = (self.vocabulary - 1) // HALF
        above = [("above", "u1" if self.top_k < 256 else "<u2", (borders,))] if borders else []
        return np.dtype([("ids", "<u2", (self.top_k,)), *above, ("logps", "<f2", (self.top_k + 1,))])

    @property
    def bytes_per_token(self) -> int:
        return self.dtype.itemsize

    def to_json(self) -> str:
        """For the metadata of a table."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, told: str | bytes) -> SoftFormat:
        return cls(**json.loads(told))


def is_soft(column: np.ndarray) -> bool:
    """Whether a token column holds records of this kind."""
    return column.dtype.names is not None


def pack(ids: np.ndarray, logps: np.ndarray, form: SoftFormat) -> np.ndarray:
    """Records `[T]` of `ids[T, k]`, no token twice in a row, in any order, and `logps[T, k + 1]`, the rest last.

    Raises UserError for log-probs that are NaN or +inf.
    """
    records = np.zeros(len(ids), form.dtype)
    order = np.argsort(ids, axis=1)
    ordered = np.take_along_axis(ids.astype(np.int64), order, 1)
    assert ordered.size == 0 or (ordered.min() >= 0 and ordered.max() < form.vocabulary), "an id beyond the vocabulary"
    records["ids"] = ordered % HALF
    if "above" in (form.dtype.names or ()):
        borders = HALF * np.arange(1, records["above"].shape[1] + 1)
        records["above"] = (ordered[:, :, None] < borders).sum(1)
    kept = np.concatenate([np.take_along_axis(logps[:, :-1], order, 1), logps[:, -1:]], 1)
    if not (kept < np.inf).all():  # which NaN is not, either
        raise UserError(
            "the teacher's log-probs of a token are no numbers (NaN or +inf): its weights hold NaN or infinity, or overflow in "
            "the precision that it runs in (`precision: fp32` has room)"
        )
    records["logps"] = np.clip(kept, LOWEST, 0)
    return records


def unpack(records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`ids[T, k]` int64 in rising order and `logps[T, k + 1]` float32 of records `[T]`.

    Raises ValueError where a record is none, such as one of zeros.
    """
    ids = records["ids"].astype(np.int64)
    if "above" in (records.dtype.names or ()):
        places = np.arange(ids.shape[1])
        ids += HALF * (places >= records["above"].astype(np.int64)[:, :, None]).sum(1)
    unsaid = (records["logps"] == 0).all(1) if len(records) else np.zeros(0, bool)  # no two outcomes are certain
    if unsaid.any() or (ids.size and (np.diff(ids, axis=1) <= 0).any()):
        raise ValueError("soft targets: a scored token has no record; its sample was not scored by the teacher")
    return ids, records["logps"].astype(np.float32)


def blanks(count: int, dtype: np.dtype) -> np.ndarray:
    """Records `[count]` of tokens of which the teacher has said nothing: all outcomes are alike."""
    record = np.zeros(count, dtype)
    k = record["ids"].shape[1]
    record["ids"] = np.arange(k)
    if "above" in (dtype.names or ()):
        record["above"] = k
    record["logps"] = -np.log(k + 1)
    return record


def likeliest(ids: np.ndarray, logps: np.ndarray, top_k: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The `top_k` likeliest of `ids[T, k]`, in rising order, and `logps[T, top_k + 1]`, what the others have being in the rest.

    Of tokens with equal log-probs the smaller ids stay. None: all of them, as they are.
    """
    if top_k is None or top_k >= ids.shape[1]:
        return ids, logps
    order = np.argsort(-logps[:, :-1], axis=1, kind="stable")
    kept = np.sort(order[:, :top_k], axis=1)
    others = np.take_along_axis(logps[:, :-1], order[:, top_k:], 1)
    rest = np.logaddexp.reduce(np.concatenate([others, logps[:, -1:]], 1), axis=1, keepdims=True)
    found = np.concatenate([np.take_along_axis(logps[:, :-1], kept, 1), rest], 1)
    return np.take_along_axis(ids, kept, 1), found
