"""Training metrics as arrays, read further as their file grows, and thinned for drawing."""

from __future__ import annotations

import json
import math
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from redi_ray.errors import storage_errors
from redi_ray.store import storage

CHECKED = 256
"""Bytes before the place that was read to that must still be there: a resumed training cuts its file and writes on."""
KEPT = 400
"""Trainings in memory."""
POINTS = 400
"""Of a curve that are drawn, about."""
MOST_STEPS = 2**53
"""A larger number is no step: a browser cannot count so far."""
CURVED = 2
"""Values that make a curve."""


class Series:
    """One training's metrics: a column of float32 for each, NaN where it was not measured."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.steps = array("l")
        self.columns: dict[str, array[float]] = {}
        self._offset, self._before = 0, b""
        self._turn = threading.Lock()

    @property
    def length(self) -> int:
        return len(self.steps)

    def update(self) -> None:
        """Read what has been added. A file that is not there is empty. Raises StorageError."""
        with self._turn:
            fs, path = storage.filesystem(self.uri)
            if not storage.exists(self.uri):
                self._forget()
                return
            with storage_errors("read", self.uri), fs.open_input_file(path) as file:
                size = file.size()
                start = self._offset - len(self._before)
                if size < self._offset or file.read_at(len(self._before), start) != self._before:
                    self._forget()
                added = file.read_at(size - self._offset, self._offset)
            whole = added[: added.rfind(b"\n") + 1]  # the rest is being written
            for line in whole.splitlines():
                self._add(line)
            if whole:
                self._offset += len(whole)
                self._before = (self._before + whole)[-CHECKED:]

    def column(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps[N], values[N]) where the metric was measured, and steps at which it was not finite, as NaN."""
        with self._turn:
            values = np.array(self.columns.get(name, ()), dtype=np.float64)
            steps = np.array(self.steps[: len(values)], dtype=np.int64)
        there = np.isfinite(values)
        return steps[there], values[there]

    def _add(self, line: bytes) -> None:
        try:
            values: dict[str, Any] = json.loads(line)
            step = int(values["step"])
            numbers = {
                name: float(value)
                for name, value in values.items()
                if name != "step" and isinstance(value, int | float)
            }
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return
        if not 0 <= step < MOST_STEPS:
            return
        row = len(self.steps)
        if row and step <= self.steps[-1]:
            row = self._cut(step)
        self.steps.append(step)
        for name, value in numbers.items():
            column = self.columns.setdefault(name, array("f"))
            column.extend([math.nan] * (row - len(column)))
            column.append(value)

    def _cut(self, step: int) -> int:
        """Forget steps from `step` on: they were repeated after a resume, and count as last written. How many are left."""
        kept = next((row for row, known in enumerate(self.steps) if known >= step), len(self.steps))
        del self.steps[kept:]
        for column in self.columns.values():
            del column[kept:]
        return kept

    def _forget(self) -> None:
        self.steps, self.columns, self._offset, self._before = array("l"), {}, 0, b""


class AllSeries:
    """Of every training that was asked for, those asked for last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Series] = OrderedDict()
        self._turn = threading.Lock()

    def get(self, uri: str, *, complete: bool = False) -> Series:
        """Read up to now. complete: the file does not grow any more, so it is read once. Raises StorageError."""
        with self._turn:
            found = self._kept.pop(uri, None) or Series(uri)
            self._kept[uri] = found
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        if not (complete and found.length):
            found.update()
        return found


def smoothed(values: np.ndarray, weight: float) -> np.ndarray:
    """Exponential mean that knows it began at nothing: float[N] -> float[N]; `weight` of the past, 0 to below 1."""
    if weight <= 0 or len(values) < CURVED:
        return values
    found, mean = np.empty_like(values), 0.0
    for number, value in enumerate(values):
        mean = weight * mean + (1 - weight) * value
        found[number] = mean / (1 - weight ** (number + 1))
    return found


def thinned(values: np.ndarray, points: int = POINTS) -> np.ndarray:
    """Indices of what is drawn: of each stretch its smallest and largest value, so that no spike is lost, and both ends."""
    count = len(values)
    if count <= points:
        return np.arange(count)
    edges = np.linspace(0, count, points // 2 + 1).astype(int)
    found = {0, count - 1}
    for start, end in pairwise(edges):
        part = values[start:end]
        found |= {start + int(part.argmin()), start + int(part.argmax())}
    return np.array(sorted(found))


def rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    """As short as they can be drawn: six significant digits."""
    return [float(f"{value:.6g}") for value in values]
