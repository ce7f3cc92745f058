"""Pages that list every field of a config, made from the JSON schema that the config's own classes give.

A class stands on one page, the first in `PAGES` that needs it; the others link there.
"""

from __future__ import annotations

import dataclasses
import html
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

import redi_ray.config
from redi_ray.config.described import described_schema

FOLDER = "reference/config"
PAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "resources": ("`resources`: Ray, engines, workers", ("resources",)),
    "objectives": ("Settings of the objectives", ("sft.objective", "redi.arms")),
    "training": ("`sft` and `redi`: trainings", ("sft", "redi")),
    "model": ("`model`: the student", ("model",)),
    "problems": ("`problems`: what to solve", ("problems",)),
    "generate": ("`generate`: traces", ("generate",)),
    "verify": ("`verify`: verdicts", ("verify",)),
    "curate": ("`curate`: positives and pairs", ("curate",)),
    "evaluate": ("`evaluate`: benchmarks", ("evaluate",)),
    "search": ("`search`: hyper-parameters", ("search",)),
    "steps": ("`steps` and `repeat`: the graph", ("steps", "repeat")),
    "index": ("Every field of a config", ("",)),
}
"""Page -> its title, and the fields whose classes it holds."""
WORDS = {
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "string": "text",
    "null": "`null`",
    "object": "mapping",
}
"""Types of the schema as a reader says them."""
LONGEST = 300
"""Characters of a default that are shown; `redi-ray config` prints the rest."""
MOST_PATHS = 3
"""Places in a config that a class is said to stand at."""


def pages() -> dict[str, str]:
    """Path below `docs/` -> Markdown."""
    homes = _homes()
    return {f"{FOLDER}/{page}.md": _page(page, homes) for page in PAGES}


def home_of(name: str) -> str:
    """Where a settings class is described, from `docs/`: `reference/config/steps.md#PairsStep`."""
    return f"{FOLDER}/{_homes()[name]}.md#{name}"


@lru_cache(maxsize=1)
def _homes() -> dict[str, str]:
    """Class -> the page that it stands on."""
    homes: dict[str, str] = {}
    for page, (_, fields) in PAGES.items():
        for field in fields:
            for name in _reached(_at(field)):
                homes.setdefault(name, page)
    homes["ExperimentConfig"] = "index"
    return homes


def _definitions() -> dict[str, Any]:
    schema = described_schema()
    return schema["$defs"] | {"ExperimentConfig": {key: value for key, value in schema.items() if key != "$defs"}}


def _at(path: str) -> Any:
    """The schema of a dotted field; of no path the whole config's."""
    node: Any = _definitions()["ExperimentConfig"]
    for part in filter(None, path.split(".")):
        node = _definitions()[_name(node["$ref"])] if "$ref" in node else node
        node = node["properties"][part]
    return node


def _reached(node: Any) -> Iterator[str]:
    """Names of the classes that a piece of schema needs, each once, in the order of the fields."""
    seen: dict[str, None] = {}
    waiting = [node]
    while waiting:
        for name in _references(waiting.pop(0)):
            if name not in seen:
                seen[name] = None
                waiting.append(_definitions()[name])
    yield from seen


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield _name(node["$ref"])
        for key, value in node.items():
            if key not in ("default", "discriminator"):
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _name(reference: str) -> str:
    return reference.rsplit("/", 1)[1]


def _page(page: str, homes: dict[str, str]) -> str:
    title, _ = PAGES[page]
    names = [name for name in _reached(_definitions()["ExperimentConfig"]) if homes[name] == page]
    if page == "index":
        names.insert(0, "ExperimentConfig")
    lines = [f"# {title}", "", *_introduction(page)]
    for name in names:
        lines += _section(name, page, homes)
    return "\n".join(lines) + "\n"


def _introduction(page: str) -> list[str]:
    made = (
        "Made from the code. A field with a default may be left out; one without says *required*. "
        "`redi-ray config CONFIG` prints a config with every field and its value, `redi-ray config --schema` the JSON schema, "
        "by which editors complete and check."
    )
    return [made, ""] if page == "index" else []


def _section(name: str, page: str, homes: dict[str, str]) -> list[str]:
    """Heading, docstring, where it stands in a config, and its fields."""
    definition = _definitions()[name]
    tag = next((_tag(key, field) for key, field in definition.get("properties", {}).items() if "const" in field), "")
    lines = [f"## {name}{tag} {{ #{name} }}", "", prose(definition.get("description", "")), ""]
    if paths := _paths().get(name):
        more = ", …" if len(paths) > MOST_PATHS else ""
        lines += ["Stands at " + ", ".join(f"`{path}`" for path in paths[:MOST_PATHS]) + more + ".", ""]
    required = definition.get("required", [])
    for key, field in definition.get("properties", {}).items():
        default = "*required*" if key in required else f"default: {_default(name, key, field)}"
        kind = _type(field, page, homes)
        lines.append(f'<a id="{name}.{key}"></a>`{key}` <span class="field" markdown>{kind}; {default}</span>')
        lines += [":   " + (prose(field.get("description", "")) or "Not described."), ""]
    if definition.get("additionalProperties") is True:
        lines += ["Further keys are allowed, see above.", ""]
    return lines


def _tag(key: str, field: dict[str, Any]) -> str:
    return f": `{key}: {field['const']}`"


def prose(text: str) -> str:
    """A docstring as one paragraph of Markdown, in which nothing but code is markup. Longer runs of backticks are text."""
    marked = re.sub(r"``+", lambda run: "\0" * len(run[0]), " ".join(text.split()))
    escape = str.maketrans({"*": r"\*", "_": r"\_", "[": r"\[", "]": r"\]", "|": r"\|"})
    pieces = [
        piece if place % 2 else html.escape(piece, quote=False).translate(escape)
        for place, piece in enumerate(marked.split("`"))
    ]
    return "`".join(pieces).replace("\0", "&#96;")


def _type(field: Any, page: str, homes: dict[str, str]) -> str:
    """A type in words, with links to the classes in it."""
    if "$ref" in field:
        name = _name(field["$ref"])
        return f"[{name}]({'' if homes[name] == page else homes[name] + '.md'}#{name})"
    if "const" in field or "enum" in field:
        return ", ".join(code(value) for value in field.get("enum", [field.get("const")]))
    if options := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(_type(option, page, homes) for option in options)
    if field.get("type") == "array":
        one_by_one = ", ".join(_type(item, page, homes) for item in field.get("prefixItems", []))
        words = f"[{one_by_one}]" if one_by_one else f"list of {_type(field.get('items', {}), page, homes)}"
        return words + ("" if one_by_one else _bounds(field))
    if values := _values(field):
        return f"name → {_type(values, page, homes)}"
    return WORDS.get(field.get("type", ""), "any value") + _bounds(field)


def _bounds(field: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field]
    found += [f"at least {field['minItems']}"] if "minItems" in field else []
    found += [f"`{field['pattern']}`"] if "pattern" in field else []
    return f" ({', '.join(found)})" if found else ""


def _default(name: str, key: str, field: dict[str, Any]) -> str:
    """What stands where a field is left out. Of a section only what differs from that section's own defaults."""
    value = field["default"] if "default" in field else _made_default(name, key)
    if isinstance(value, dict) and "$ref" in field:
        value = {inner: given for inner, given in value.items() if given != _own_default(_name(field["$ref"]), inner)}
        return f"its own defaults, but {code(value)}" if value else "its own defaults"
    return code(value)


def _own_default(name: str, key: str) -> Any:
    field = _definitions()[name]["properties"][key]
    return field.get("const", field["default"] if "default" in field else _made_default(name, key))


def _made_default(name: str, key: str) -> Any:
    """A default that is made anew for each config, which a schema leaves out."""
    owner = _classes()[name]
    if issubclass(owner, BaseModel):
        made = owner.model_fields[key].get_default(call_default_factory=True, validated_data={})
    else:
        (field,) = (field for field in dataclasses.fields(owner) if field.name == key)
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    return to_jsonable_python(made)


@lru_cache(maxsize=1)
def _classes() -> dict[str, type[Any]]:
    """Every settings class by name."""
    modules = [
        importlib.import_module(f"redi_ray.config.{found.name}")
        for found in pkgutil.iter_modules(redi_ray.config.__path__)
    ]
    return {
        name: found
        for module in modules
        for name, found in vars(module).items()
        if isinstance(found, type) and found.__module__ == module.__name__
    }


def code(value: Any) -> str:
    """A value as a config would have it, as a piece of code on one line; of a long text its beginning."""
    quoted = '"' if isinstance(value, str) and "\n" in value else None
    text = yaml.safe_dump(
        value, default_flow_style=True, default_style=quoted, sort_keys=False, width=10_000, allow_unicode=True
    )
    text = text.removesuffix("\n").removesuffix("\n...")
    shown = text if len(text) <= LONGEST else text[:LONGEST] + " …"
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    return f"{fence}{shown}{fence}"


@lru_cache(maxsize=1)
def _paths() -> dict[str, list[str]]:
    """Class -> the places in a config where it may stand, the shortest first."""
    paths: dict[str, list[str]] = {}
    waiting = [("ExperimentConfig", "")]
    while waiting:
        name, path = waiting.pop(0)
        for key, field in _definitions()[name].get("properties", {}).items():
            here = f"{path}.{key}" if path else key
            for inner, place in _placed(field, here):
                places = paths.setdefault(inner, [])
                if place not in places and len(places) <= MOST_PATHS and path.count(".") < 6:
                    places.append(place)
                    waiting.append((inner, place))
    return paths


def _placed(field: Any, path: str) -> Iterator[tuple[str, str]]:
    """The classes that a field may hold, each with its place."""
    if "$ref" in field:
        yield _name(field["$ref"]), path
    for option in [*field.get("anyOf", []), *field.get("oneOf", []), *field.get("prefixItems", [])]:
        yield from _placed(option, path)
    if isinstance(field.get("items"), dict):
        yield from _placed(field["items"], f"{path}[]")
    if values := _values(field):
        yield from _placed(values, f"{path}.NAME")


def _values(field: dict[str, Any]) -> dict[str, Any] | None:
    """What a mapping from names holds, where the schema says so."""
    found = [field.get("additionalProperties"), *field.get("patternProperties", {}).values()]
    return next((one for one in found if isinstance(one, dict)), None)
