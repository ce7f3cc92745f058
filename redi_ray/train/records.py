"""Sequences one by one, as they are made: what a record must hold, and how records become flat arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from redi_ray.modeling.soft_columns import is_soft


def smallest_weights(weights: np.ndarray) -> np.ndarray:
    """`weights[T]` as they are stored: a byte each where all are 0 or 1, float32 otherwise."""
    is_mask = bool(((weights == 0) | (weights == 1)).all())
    return weights.astype(np.uint8 if is_mask else np.float32)


@dataclass(frozen=True)
class SequenceRecord:
    """One sequence. A group, what a batch is counted in, has one (an example), two (a pair) or more (rollouts) of them."""

    group: int
    """0 .. number of groups - 1, dense."""
    side: int
    """+1 chosen or positive, -1 rejected or negative."""
    input_ids: Sequence[int]
    """Prompt and completion, with the end-of-turn token if there is one."""
    prompt_length: int
    """Tokens of the prompt; none of them is scored."""
    weights: Sequence[float] | None = None
    """What each token of `input_ids` counts, 0 where it is not scored; None scores the whole completion with weight 1."""
    unit: Sequence[int] | None = None
    """Which of the sequence's units, from 0, each token of `input_ids` counts to (anything where it is not scored); None
    makes it a single one."""
    reward: Sequence[float] | None = None
    """Reward of each unit."""
    columns: Mapping[str, Sequence[float] | np.ndarray] = field(default_factory=dict)
    """One number per token of `input_ids` by name (anything where it is not scored), such as `ref_logps`; or one record of
    `redi_ray.modeling.soft_columns`."""


def lay_out(rows: Sequence[SequenceRecord]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Records in order -> the arrays of a store and its columns, by name (see `redi_ray.train.sequences`).

    Raises ValueError, naming the record, where one cannot be trained on.
    """
    if not rows:
        raise ValueError("no sequences to train on")
    weights = [weights_of(i, row) for i, row in enumerate(rows)]
    counts = [units_of(i, row, scored) for i, (row, scored) in enumerate(zip(rows, weights, strict=True))]
    for i, row in enumerate(rows):
        require_alike(i, row, rows[0])
    group = np.array([row.group for row in rows], dtype=np.int64)
    if len(np.unique(group)) != group.max() + 1 or group.min() < 0:
        raise ValueError("groups must be numbered 0, 1, 2 ... without gaps")
    arrays = {
        "tokens": np.concatenate([np.asarray(row.input_ids, dtype=np.int32) for row in rows]),
        "weights": np.concatenate(weights),
        "offsets": np.concatenate([[0], np.cumsum([len(row.input_ids) for row in rows])]).astype(np.int64),
        "group": group,
        "side": np.array([row.side for row in rows], dtype=np.int8),
        "prompt_lengths": np.array([row.prompt_length for row in rows], dtype=np.int32),
    }
    if max(counts) > 1:
        units = [np.zeros(len(row.input_ids)) if row.unit is None else np.asarray(row.unit) for row in rows]
        arrays["unit"] = np.concatenate(units).astype(np.int16)
        arrays["unit_offsets"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if rows[0].reward is not None:
        arrays["reward"] = np.concatenate([np.asarray(row.reward, dtype=np.float32) for row in rows])
    columns = {name: np.concatenate([_column(row.columns[name]) for row in rows]) for name in rows[0].columns}
    return arrays, columns


def _column(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """As it is stored."""
    column = np.asarray(values)
    return column if is_soft(column) else column.astype(np.float32)


def weights_of(number: int, row: SequenceRecord) -> np.ndarray:
    """`[T]` the record's weights as they are stored. Raises ValueError where there is nothing to train on."""
    size, where = len(row.input_ids), f"sequence {number} (group {row.group})"
    weights = np.zeros(size, dtype=np.float32)
    weights[row.prompt_length :] = 1 if row.weights is None else np.asarray(row.weights)[row.prompt_length :]
    weights[:1] = 0  # nothing predicts the first token
    if row.side not in (1, -1):
        raise ValueError(f"{where}: side must be +1 or -1, got {row.side}")
    if not weights.any():
        raise ValueError(f"{where}: no token of its {size} is scored")
    if not np.isfinite(weights).all():
        raise ValueError(f"{where}: a weight is not a finite number")
    return smallest_weights(weights)


def require_alike(number: int, row: SequenceRecord, first: SequenceRecord) -> None:
    """Raise ValueError unless the record has the columns, one number per token, and the rewards that the first one has."""
    where = f"sequence {number} (group {row.group})"
    if row.columns.keys() != first.columns.keys():
        raise ValueError(f"{where}: needs the columns {', '.join(sorted(first.columns)) or 'none'}, like all")
    for name, column in row.columns.items():
        if len(column) != len(row.input_ids):
            raise ValueError(
                f"{where}: needs one number of {name} per token, got {len(column)} for {len(row.input_ids)}"
            )
    if (row.reward is None) != (first.reward is None):
        raise ValueError(f"{where}: needs {'no reward' if first.reward is None else 'a reward'}, like all")


def units_of(number: int, row: SequenceRecord, weights: np.ndarray) -> int:
    """Units of the record. Raises ValueError unless each has a scored token, and a reward where there are rewards."""
    found = [0]
    if row.unit is not None:
        found = np.unique(np.asarray(row.unit)[weights != 0]).tolist()
    where = f"sequence {number} (group {row.group})"
    if found != list(range(len(found))):
        raise ValueError(
            f"{where}: its units must be numbered from 0 with a scored token each, and those scored are {found}"
        )
    if row.reward is not None and len(row.reward) != len(found):
        raise ValueError(f"{where}: needs a reward for each of its {len(found)} units, got {len(row.reward)}")
    return len(found)
