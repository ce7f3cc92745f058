"""Tables of any origin as TRACE rows, and which of their rows are usable."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from redi_ray.schemas import TRACE


def conform(table: pa.Table) -> tuple[pa.Table, list[bool]]:
    """`table` with exactly the columns and types of `TRACE`, and which rows are usable.

    A column that is missing or of another type becomes null; a required text becomes "", and its row is not usable.
    """
    usable = np.ones(len(table), dtype=bool)
    columns = []
    for column in TRACE:
        values = _column(table, column)
        if not column.nullable:
            usable &= values.is_valid().to_numpy()
            values = values.fill_null(0 if pa.types.is_integer(column.type) else "")
        columns.append(values)
    return pa.Table.from_arrays(columns, schema=TRACE), usable.tolist()


def _column(table: pa.Table, column: pa.Field) -> pa.ChunkedArray:
    missing = pa.chunked_array([pa.nulls(len(table), column.type)])
    if column.name not in table.column_names:
        return missing
    values = table[column.name]
    if pa.types.is_string(column.type) and not (
        pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    ):
        return missing  # a cast would turn numbers into text and accept them
    try:
        return values.cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return missing
