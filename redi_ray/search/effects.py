"""What each parameter of a search does by itself, and what two do together: an analysis of variance over its trials.

The model has a mean for each level of each parameter and for each cell of each pair of them. A term's sum of squares is what the
others leave of it (type II: Langsrud 2003, Statistics and Computing 13), so that trials that are lost do no harm. What the model
does not explain is the error: the noise between seeds, and three parameters at once.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redi_ray.search.records import TrialRecord

MOST_LEVELS = 12
"""Values of a parameter up to which its levels are compared; a search that draws numbers has none."""
ROUNDING = 1e-20
"""Squares of results that are equal but for rounding, as a share of those of the results."""


@dataclass(frozen=True)
class Level:
    """A value of a parameter with the trials that have it."""

    path: str
    value: Any
    trials: int
    mean: float
    """Of the metric."""
    sem: float | None
    """Standard error of the mean over these trials, whatever else varies in them; None of one."""


@dataclass(frozen=True)
class Term:
    """A parameter, or two together beyond what each does by itself."""

    paths: tuple[str, ...]
    share: float
    """Of the metric's whole sum of squares, 0 to 1."""
    freedom: int
    """Degrees of freedom."""
    p_value: float | None
    """Of the F test against the error; None where nothing is left for the error."""


@dataclass(frozen=True)
class Cell:
    """The mean of the trials with two values."""

    values: tuple[Any, Any]
    trials: int
    mean: float


@dataclass(frozen=True)
class Effects:
    """The analysis of a search."""

    levels: tuple[Level, ...]
    """By parameter, in the order of the space."""
    main: tuple[Term, ...]
    interactions: tuple[Term, ...]
    """Both with the largest share first."""
    cells: tuple[Cell, ...]
    """Of the first interaction."""
    error_share: float
    error_freedom: int
    confounded: tuple[tuple[str, ...], ...]
    """Terms that cannot be told from others, since one parameter goes with another in all trials: they are in neither list."""
    confounded_share: float
    """What of the metric's sum of squares is some of theirs, or several terms' together, and nobody's alone."""


def effects(records: Sequence[TrialRecord]) -> Effects | None:
    """The analysis of all trials that have a value, also where they collapsed; None where it has nothing to say: of fewer than
    two parameters that vary, of one with more than MOST_LEVELS values, of equal results."""
    measured = [record for record in records if record.value is not None]
    if not measured:
        return None
    values = np.array([record.value for record in measured], dtype=np.float64)
    total = float(((values - values.mean()) ** 2).sum())
    known = {path: _levels([record.values[path] for record in measured]) for path in measured[0].values}
    varied = {path: found for path, found in known.items() if len(found[0]) > 1}
    alike = total <= ROUNDING * float((values**2).sum())
    if len(varied) < 2 or alike or any(len(found[0]) > MOST_LEVELS for found in varied.values()):
        return None
    columns: dict[tuple[str, ...], np.ndarray] = {(path,): _contrasts(labels) for path, (_, labels) in varied.items()}
    for one, other in itertools.combinations(varied, 2):
        columns[one, other] = (columns[one,][:, :, None] * columns[other,][:, None, :]).reshape(len(values), -1)
    error, rank = _residual(columns.values(), values)
    freedom = len(values) - rank
    terms = [_term(paths, columns, values, total, (error, freedom)) for paths in columns]
    ranked = sorted((term for term in terms if term.freedom), key=lambda term: -term.share)
    lost = tuple(term.paths for term in terms if not term.freedom)
    interactions = tuple(term for term in ranked if len(term.paths) == 2)
    return Effects(
        tuple(level for path, (found, labels) in varied.items() for level in _means(path, found, labels, values)),
        tuple(term for term in ranked if len(term.paths) == 1),
        interactions,
        _cells([varied[path] for path in interactions[0].paths], values) if interactions else (),
        error / total,
        freedom,
        lost,
        max(0.0, 1 - error / total - sum(term.share for term in ranked)) if lost else 0.0,
    )


def _levels(values: Sequence[Any]) -> tuple[list[Any], np.ndarray]:
    """Different values, numbers in order, and int[number of values] which of them each is."""
    found = {json.dumps(value, sort_keys=True): value for value in values}
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    names = sorted(found, key=lambda name: found[name]) if numeric else list(found)
    order = {name: number for number, name in enumerate(names)}
    return [found[name] for name in names], np.array([order[json.dumps(value, sort_keys=True)] for value in values])


def _contrasts(labels: np.ndarray) -> np.ndarray:
    """float[trials, levels - 1]: each level but the last against the last one."""
    rows = np.vstack([np.eye(labels.max()), -np.ones(labels.max())])
    return rows[labels]


def _residual(columns: Any, values: np.ndarray) -> tuple[float, int]:
    """The sum of squares that a linear model with these columns and a constant leaves, and the model's rank."""
    design = np.hstack([np.ones((len(values), 1)), *columns])
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    return float(((values - design @ solution) ** 2).sum()), int(rank)


def _term(
    paths: tuple[str, ...], columns: dict[tuple[str, ...], np.ndarray], values: np.ndarray, total: float,
    error: tuple[float, int],
) -> Term:  # fmt: skip
    """A term's share: what it adds to all terms that do not contain it."""
    from scipy import stats  # slow to load, and for searches alone

    others = [part for name, part in columns.items() if not set(paths) <= set(name)]
    without, rank_without = _residual(others, values)
    left, rank = _residual([*others, columns[paths]], values)
    squares, freedom = max(0.0, without - left), rank - rank_without
    p_value = None
    if freedom and error[1] and error[0] > 1e-12 * total:
        p_value = float(stats.f.sf((squares / freedom) / (error[0] / error[1]), freedom, error[1]))
    return Term(paths, squares / total, freedom, p_value)


def _means(path: str, found: Sequence[Any], labels: np.ndarray, values: np.ndarray) -> list[Level]:
    levels = []
    for number, value in enumerate(found):
        mine = values[labels == number]
        sem = float(mine.std(ddof=1) / len(mine) ** 0.5) if len(mine) > 1 else None
        levels.append(Level(path, value, len(mine), float(mine.mean()), sem))
    return levels


def _cells(pair: Sequence[tuple[list[Any], np.ndarray]], values: np.ndarray) -> tuple[Cell, ...]:
    (down, rows), (across, columns) = pair
    found = []
    for (i, one), (j, other) in itertools.product(enumerate(down), enumerate(across)):
        mine = values[(rows == i) & (columns == j)]
        if len(mine):
            found.append(Cell((one, other), len(mine), float(mine.mean())))
    return tuple(found)
