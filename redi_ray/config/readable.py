"""pydantic's findings in our words: where, what is wrong, and what would do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

Schema = dict[str, Any]
NO_KIND = ("union_tag_invalid", "union_tag_not_found")
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
SECTION = ("model_type", "model_attributes_type", "dataclass_type", "dict_type")
MOST_SHOWN = 100
"""Characters of a name that is none."""
MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")


def readable_errors(error: ValidationError, schema: Schema, path: str = "", more: Iterable[str] = ()) -> str:
    """All findings in one line. schema: JSON schema of what was read; path: where it stands in the config; more: keys that may
    stand beside the schema's own."""
    return "; ".join(describe(item, schema, path, more) for item in error.errors(include_url=False))


def describe(error: Any, schema: Schema, path: str = "", more: Iterable[str] = ()) -> str:
    """One finding as one line; unknown keys and kinds come with the valid ones and the nearest."""
    location = [part for part in error["loc"] if not str(part).startswith("function-")]
    written, node = _walk(schema, location)
    place = ".".join(filter(None, [path, *map(str, written)])) or "config"
    kind, given = error["type"], error["input"]
    if kind in UNKNOWN:
        valid = [*(more if len(written) == 1 else ()), *keys_of(schema, _walk(schema, location[:-1])[1])]
        return f"{place}: unknown key.{_near(written[-1], valid)} Valid keys: {', '.join(valid)}"
    if kind in MISSING:
        return f"{place}: it must be set"
    if kind in NO_KIND:
        return place + _no_kind(error["ctx"], _kinds(schema, node))
    if kind in SECTION:
        return f"{place}: it must be a section, `key: value` on each line (got {given!r})"
    if written and written[-1] == "[key]":
        return _no_name(".".join(map(str, written[:-2])), error)
    message = error["msg"].removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        message = f"it is too long, or has characters that cannot stand there; it must match {error['ctx']['pattern']}"
    shown = "" if kind == "value_error" else f" (got {given!r})"
    return f"{place}: {message}{shown}"


def _no_name(owner: str, error: Any) -> str:
    """A key that cannot be one. owner: where it stands."""
    given = error["input"]
    if error["type"] == "literal_error":
        valid = re.findall("'([^']+)'", error["ctx"]["expected"])
        return f"{owner}: there is no {given!r}.{_near(given, valid)} It is one of {', '.join(valid)}"
    shown = str(given) if len(str(given)) <= MOST_SHOWN else f"{str(given)[:MOST_SHOWN]}..."
    return f"{owner}.{shown}: a name begins with a letter and holds at most 100 letters, digits, `_`, `.` and `-`"


def _no_kind(context: dict[str, Any], kinds: Sequence[str]) -> str:
    key, tag, told = context["discriminator"].strip("'"), context.get("tag"), ", ".join(kinds)
    if tag is None:
        return f": it needs `{key}`, one of {told}"
    return f".{key}: there is no {tag!r}.{_near(tag, kinds)} It is one of {told}"


def _near(name: Any, valid: Sequence[str]) -> str:
    near = get_close_matches(str(name), valid, n=1)
    return f" Did you mean `{near[0]}`?" if near else ""


def keys_of(schema: Schema, node: Schema) -> list[str]:
    """The keys that a section knows."""
    node = _resolve(schema, node)
    choices = [_resolve(schema, choice) for choice in node.get("anyOf", [node])]  # an optional section has two
    return [key for choice in choices for key in choice.get("properties", {})]


def _kinds(schema: Schema, node: Schema) -> list[str]:
    node = _resolve(schema, node)
    choices = [_resolve(schema, choice) for choice in node.get("anyOf", [node])]
    return [kind for choice in choices for kind in choice.get("discriminator", {}).get("mapping", {})]


def written_path(schema: Schema, location: Sequence[Any]) -> list[Any]:
    """A location of pydantic's as it is written in the config."""
    return _walk(schema, [part for part in location if not str(part).startswith("function-")])[0]


def _walk(schema: Schema, location: Sequence[Any]) -> tuple[list[Any], Schema]:
    """A location as it is written in the config, without the kinds and classes that pydantic puts between; what stands there."""
    node, written = schema, []
    for part in location:
        node, is_key = _step(schema, _resolve(schema, node), part)
        written += [part] if is_key else []
    return written, node


def _resolve(schema: Schema, node: Schema) -> Schema:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def _step(schema: Schema, node: Schema, part: Any) -> tuple[Schema, bool]:
    """What stands at a part of a location, and whether the part is a key of the config."""
    if isinstance(part, int):
        return node.get("items", {}), True
    if part in node.get("properties", {}):
        return node["properties"][part], True
    choices = [node, *(_resolve(schema, choice) for choice in node.get("anyOf", []))]
    for choice in choices:  # an optional section: its location may name the model, or go straight on to the key
        if part in choice.get("discriminator", {}).get("mapping", {}):
            return {"$ref": choice["discriminator"]["mapping"][part]}, False
        if part == choice.get("title") and choice is not node:
            return choice, False
        if part in choice.get("properties", {}):
            return choice["properties"][part], True
    named = next(iter(node.get("patternProperties", {}).values()), None)
    below = named or node.get("additionalProperties")
    return below if isinstance(below, dict) else {}, True
