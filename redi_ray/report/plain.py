"""Rows of Arrow as Python objects, whatever bytes their strings hold.

Parquet's strings need not be UTF-8: a lone surrogate that another program has let through is bytes that Python refuses.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def plain_rows(rows: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows, bytes that are no UTF-8 as U+FFFD."""
    try:
        return rows.to_pylist()
    except UnicodeDecodeError:
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        as_bytes = pa.schema([pa.field(field.name, _as_bytes(field.type)) for field in table.schema])
        return [_decoded(row) for row in table.cast(as_bytes).to_pylist()]


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_as_bytes(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(part.name, _as_bytes(part.type)) for part in kind])
    return kind


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {name: _decoded(item) for name, item in value.items()}
    return [_decoded(item) for item in value] if isinstance(value, list) else value
