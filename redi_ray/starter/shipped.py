"""The recipes that come with the package: configs of papers' methods, each with a page of what was read and what was seen.

They lie in `configs/recipes/` of the repository, and in `recipes/` of an installed package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from redi_ray.config.yaml_text import read_yaml
from redi_ray.errors import UserError

WORLDS = {"tool_arithmetic", "queries", "arithmetic", "orders"}
"""Kinds of sources that are made here."""


class RecipeError(UserError):
    """A recipe that there is none of."""


@dataclass(frozen=True)
class Shipped:
    """One recipe."""

    name: str
    yaml: Traversable
    page: Traversable

    @property
    def text(self) -> str:
        """The YAML."""
        return self.yaml.read_text()

    @property
    def about(self) -> str:
        """What the YAML says of itself in the comment at its head, as one paragraph."""
        lines = re.match(r"(?:#.*\n)+", self.text)
        return " ".join(line.lstrip("# ") for line in lines[0].splitlines()) if lines else ""

    @property
    def title(self) -> str:
        """The method and its paper: what stands before the first colon or full stop that is in no brackets."""
        bare = re.sub(r"\([^)]*\)", lambda found: "_" * len(found[0]), self.about)
        end = re.search(r":|\.(?:\s|$)", bare)
        return self.about[: end.start()] if end else self.about

    @property
    def needs(self) -> list[str]:
        """What has to be there."""
        return list(needs_of(read_yaml(self.text)))

    @property
    def command(self) -> str:
        """The subcommand that it is made for."""
        return "tune" if "search" in read_yaml(self.text) else "run"


def needs_of(raw: Mapping[str, Any]) -> dict[str, None]:
    """What a config takes from outside, as far as its text says: files, models, sets of the hub, vLLM."""
    found = dict[str, None]()
    for section in _sections(raw):
        kind = section.get("kind")
        if kind == "files" and section.get("paths"):
            found |= dict.fromkeys(map(str, section["paths"]))
        if kind in ("hub", "openr1") and not section.get("paths"):
            found[f"the hub's {section.get('dataset', 'OpenR1-Math-Raw')}"] = None
        if kind == "pretrained":
            found[f"the model {section.get('path')}"] = None
    benchmarks = (raw.get("evaluate") or {}).get("benchmarks") or []
    found |= {
        f"the benchmark {one['name']}": None for one in benchmarks if one["name"] not in WORLDS and "path" not in one
    }
    samples = {"sample", "rectify", "critical"} & {step.get("do") for step in (raw.get("steps") or {}).values()}
    if samples or benchmarks or (raw.get("generate") or {}).get("kind") == "vllm":
        found["vLLM"] = None
    return found


def _sections(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        return [value, *(section for item in value.values() for section in _sections(item))]
    return [section for item in value for section in _sections(item)] if isinstance(value, list) else []


def shipped() -> dict[str, Shipped]:
    """All recipes by name."""
    folder = files("redi_ray") / "recipes"
    names = sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
    return {name: Shipped(name, folder / f"{name}.yaml", folder / f"{name}.md") for name in names}


def shipped_recipe(name: str) -> Shipped:
    """The recipe of this name. Raises RecipeError, which names those that there are."""
    found = shipped()
    if name not in found:
        near = get_close_matches(name, found, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise RecipeError(f"no recipe named {name}{meant}; there are {', '.join(found)}")
    return found[name]
