"""Values as the types of their columns mean them, at any depth: class names for their numbers, short floats as printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa


def typed_by(schema: pa.Schema) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What makes of a row that was read without its types the row that a file with this schema would give."""
    features = class_features(schema)
    short = [field for field in schema if _floats_as(field.type, pa.float64()) != field.type]

    def typed(row: dict[str, Any]) -> dict[str, Any]:
        found = dict(row)
        if short:
            batch = pa.RecordBatch.from_pylist([{field.name: row.get(field.name) for field in short}], pa.schema(short))
            found |= as_printed(batch).to_pylist()[0]
        return found | {name: with_class_names(found.get(name), feature) for name, feature in features.items()}

    return typed


def as_printed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Floats of 32 bits with the digits they are printed with: 0.1, not 0.10000000149011612."""
    for index, column in enumerate(batch.schema):
        text, double = _floats_as(column.type, pa.string()), _floats_as(column.type, pa.float64())
        if double != column.type:
            batch = batch.set_column(index, column.name, batch.column(index).cast(text).cast(double))
    return batch


def _floats_as(kind: pa.DataType, to: pa.DataType) -> pa.DataType:
    """The type with `to` in place of every float of 32 bits in it."""
    if pa.types.is_float32(kind):
        return to
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_floats_as(field.type, to)) for field in kind.fields])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_floats_as(kind.value_type, to)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_floats_as(kind.value_type, to)))
    return kind


def class_features(schema: pa.Schema) -> dict[str, Any]:
    """Column -> its feature, for columns that hold classes, as `datasets` notes them in the files that it writes."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: kind for name, kind in features.items() if name in schema.names and _has_classes(kind)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _has_classes(feature: Any) -> bool:
    if isinstance(feature, list):
        return any(map(_has_classes, feature))
    if not isinstance(feature, dict):
        return False
    if _is_classes(feature):
        return isinstance(feature.get("names"), list)
    return any(map(_has_classes, feature.values()))


def _is_classes(feature: Mapping[str, Any]) -> bool:
    return feature.get("_type") == "ClassLabel"


def with_class_names(value: Any, feature: Any) -> Any:
    """The value with the name behind each class's number: 0 of [`right`, `wrong`] is right. A number of no class stays."""
    if isinstance(feature, list):  # as older versions of `datasets` note a list
        feature = {"feature": feature[0] if feature else None, "_type": "List"}
    if not isinstance(feature, dict):
        return value
    if isinstance(feature.get("_type"), str) and not _is_classes(feature):
        feature = feature.get("feature")
    if isinstance(value, list):  # a list of objects may lie there as an object of lists, so that a class meets a list
        return [with_class_names(item, feature) for item in value]
    if not isinstance(feature, dict):
        return value
    if _is_classes(feature):
        names = feature.get("names") or []
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else value
    if isinstance(value, dict):
        return {name: with_class_names(item, feature.get(name)) for name, item in value.items()}
    return value
