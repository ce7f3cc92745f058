"""The JSON schema of a config as editors and the reference show it: with what stands below each field in the code.

Docstrings of fields are read from the source here and nowhere else. pydantic can read them as each class is made, but that is a
third of the time that a command takes to begin.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from redi_ray.config.experiment import ExperimentConfig


@lru_cache(maxsize=1)
def described_schema() -> dict[str, Any]:
    """Of a whole config. Takes a second or so."""
    return ExperimentConfig.model_json_schema(schema_generator=_Described)


class _Described(GenerateJsonSchema):
    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return _with_docstrings(super().model_schema(schema), schema["cls"])

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return _with_docstrings(super().dataclass_schema(schema), schema["cls"])


def _with_docstrings(schema: JsonSchemaValue, of: type) -> JsonSchemaValue:
    aliases = (
        {name: field.alias or name for name, field in of.model_fields.items()} if issubclass(of, BaseModel) else {}
    )
    for name, told in docstrings(of).items():
        if (field := schema.get("properties", {}).get(aliases.get(name, name))) is not None:
            field.setdefault("description", told)
    return schema


def docstrings(of: type) -> Mapping[str, str]:
    """Field -> the docstring below it, of a class and those that it is made from."""
    found: dict[str, str] = {}
    for part in reversed(of.__mro__):
        if part.__module__.partition(".")[0] == __package__.partition(".")[0]:
            found |= dict(_own_docstrings(part))
    return found


def _own_docstrings(of: type) -> Iterator[tuple[str, str]]:
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(body, ast.ClassDef)
    for field, below in pairwise(body.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            yield field.target.id, inspect.cleandoc(below.value.value)
