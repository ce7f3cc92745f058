"""Arrays on disk that are never whole in memory: written from front to back, read by a range."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from redi_ray.errors import storage_errors
from redi_ray.store import storage

HEADER_BYTES = 256
"""More than the header of a `.npy` file with one axis takes."""


@contextmanager
def writing(path: str | Path, dtype: Any, length: int) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a `.npy` file of a known length piece by piece, each `[m]`; byte for byte what `np.save` writes."""
    kind, left = np.dtype(dtype), length
    with open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(file, header)

        def write(piece: np.ndarray) -> None:
            nonlocal left
            left -= len(piece)
            file.write(np.ascontiguousarray(piece, kind).data)

        yield write
    assert left == 0, f"{path}: {left} values are lacking"


def read_range(uri: str, start: int, stop: int) -> np.ndarray:
    """Elements `[start, stop)` of a `.npy` file with one axis, local or on S3; nothing else of it is read."""
    fs, path = storage.filesystem(uri)
    with storage_errors("read", uri), fs.open_input_file(path) as file:
        dtype, first, _ = _layout(file.read_at(HEADER_BYTES, 0))
        data = file.read_at((stop - start) * dtype.itemsize, first + start * dtype.itemsize)
    if len(data) != (stop - start) * dtype.itemsize:
        raise storage.StorageError(f"{uri}: {len(data)} bytes came of {(stop - start) * dtype.itemsize}; make it anew")
    return np.frombuffer(data, dtype)


def read_first(uri: str, count: int) -> np.ndarray:
    """The first elements of such a file, or all where there are fewer."""
    head, _ = storage.read_head(uri, HEADER_BYTES)
    return read_range(uri, 0, min(count, _layout(head)[2]))


def _layout(head: bytes) -> tuple[np.dtype, int, int]:
    """The type of a `.npy` file's elements, where they begin, and how many there are."""
    file = io.BytesIO(head)
    assert np.lib.format.read_magic(file) == (1, 0), "made by another writer"
    (length,), _, dtype = np.lib.format.read_array_header_1_0(file)
    return dtype, file.tell(), length
