"""Reading a config: YAML, `key=value` overrides, and errors that say what, where and how to mend it."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from redi_ray.config.experiment import CONFLICTS, ExperimentConfig
from redi_ray.config.readable import MISSING, NO_KIND, SECTION, Schema, describe, written_path
from redi_ray.config.secrets import holds_a_key
from redi_ray.config.yaml_text import read_yaml
from redi_ray.errors import Gathered, UserError, listed
from redi_ray.store import storage


class ConfigError(UserError):
    """The config is wrong; the message lists every finding with its path."""


def load_config(uri: str, overrides: list[str] | None = None) -> ExperimentConfig:
    """The experiment in a YAML file (local or s3://), changed by `overrides` such as `redi.train.learning_rate=1e-6`.

    Raises ConfigError with every finding.
    """
    return parse_config(read_raw(uri, overrides), where=uri)


def read_raw(uri: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """The plain values of a config with its overrides. Raises ConfigError where they cannot be read."""
    if not storage.exists(uri):
        raise ConfigError(f"{uri}: no such config file; see configs/ for examples")
    try:
        raw = read_yaml(storage.read_bytes(uri))
    except yaml.YAMLError as error:
        raise ConfigError(f"{uri}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{uri}: expected a mapping with sections such as `problems:`, found {type(raw).__name__}")
    raw.setdefault("name", Path(uri).stem)
    gathered = Gathered()
    for override in overrides or []:
        with gathered():
            apply_override(raw, override)
    gathered.raise_all("overrides")
    return raw


def parse_config(raw: dict[str, Any], where: str = "config") -> ExperimentConfig:
    """A config from plain values.

    Raises ConfigError with every finding. A value that looks like a key is refused first and never repeated: the config
    is copied into the run's folder, for whoever reads that.
    """
    draft = draft_config(raw, where)
    if draft.findings:
        raise listed(ConfigError, f"{where}: {len(draft.findings)} error(s)", draft.findings)
    assert draft.config is not None
    return draft.config


@dataclass(frozen=True)
class Draft:
    """What plain values give, whether or not they are right."""

    config: ExperimentConfig | None
    """The experiment as far as it can be read: unknown keys and wrong values left out. None where too much is missing."""
    findings: list[str]
    broken: frozenset[str]
    """Sections of which something was left out: what is said of them beyond `findings` may not hold."""


def draft_config(raw: dict[str, Any], where: str = "config") -> Draft:
    """A config from plain values with all that is wrong with it. Raises ConfigError for what looks like a key."""
    if keyed := [str(name) for name, section in raw.items() if holds_a_key(section)]:
        raise ConfigError(
            f"{where}: {', '.join(keyed)} holds what looks like an API key; put it into an environment variable and name "
            "that in the config (api_key_env)"
        )
    left, whole = raw, True
    findings, broken, gone = list[str](), set[str](), set[str]()
    removed = set[tuple[Any, ...]]()
    for _ in range(MOST_ROUNDS):
        conflicts: list[str] = []
        try:
            config = ExperimentConfig.model_validate(left, context={CONFLICTS: conflicts})
        except ValidationError as error:
            errors = error.errors(include_url=False)
        else:
            found = [*findings, *unrelated(conflicts, broken)] if whole else findings
            return Draft(config if whole else None, found, frozenset(broken))
        schema = config_schema()
        places = [tuple(written_path(schema, item["loc"])) for item in errors]
        told = [
            item
            for item, place in zip(errors, places, strict=True)
            if item["type"] not in MISSING or place not in removed
        ]
        findings += unnamed([describe(item, schema) for item in told], gone)
        removed |= {*places}
        broken |= {str(item["loc"][0]) if item["loc"] else "" for item in errors}
        gone |= {str(item["loc"][-1]) for item in errors if item["loc"]}
        without = without_mistakes(left, errors, schema)
        if without is None:
            break
        left, whole = without[0], whole and without[1]
    return Draft(None, findings, frozenset(broken))


def unnamed(findings: Iterable[str], gone: Collection[str]) -> list[str]:
    """The findings that name none of the keys that were left out: others may come of their defaults."""
    said = re.compile(rf"\b({'|'.join(map(re.escape, gone))})\b") if gone else None
    return [finding for finding in findings if said is None or not said.search(finding.partition(": ")[2])]


def unrelated(findings: Iterable[str], broken: Collection[str]) -> list[str]:
    """The findings that speak of no section of which something was left out."""
    said = re.compile(rf"\b({'|'.join(map(re.escape, broken))})[.:]") if broken else None
    return [finding for finding in findings if said is None or not said.search(finding)]


MOST_ROUNDS = 4
"""A section is looked at as a whole only when each of its values can be read, and so on outwards."""
DECIDING = ("problems", "generate", "model", "steps", "evaluate")
"""Sections whose parts say what a run is: without one of them it would be another run."""


def without_mistakes(raw: dict[str, Any], errors: Iterable[Any], schema: Schema) -> tuple[dict[str, Any], bool] | None:
    """A copy of the values without the unknown keys and the wrong values, and whether it is still the same run; None where
    nobody knows what would stand there."""
    left, same = copy.deepcopy(raw), True
    for item in errors:
        *parents, leaf = written_path(schema, item["loc"]) or [None]
        node: Any = left
        for part in parents:
            node = node.get(part) if isinstance(node, dict) else None
        if item["type"] in (*MISSING, *SECTION, *NO_KIND) or not isinstance(node, dict) or leaf not in node:
            return None
        decides = isinstance(node.pop(leaf), dict) and item["loc"][0] in DECIDING
        same = same and not decides
    return left, same


@lru_cache(maxsize=1)
def config_schema() -> dict[str, Any]:
    """The JSON schema of a config. Making it takes longer than reading one, and whoever tries many configs asks for it often."""
    return ExperimentConfig.model_json_schema()


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one dotted path in place: `problems.source.num_problems=100`. The value is read as YAML."""
    path, separator, text = override.partition("=")
    if not separator or not path:
        raise ConfigError(f"override {override!r}: write it as key=value, for instance sft.train.epochs=2")
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: what stands behind the = is not valid YAML: {error}") from error
    set_path(raw, path, value, where=f"override {override!r}")


def set_path(raw: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Set one dotted path in place; sections on the way that are missing or null are made.

    Raises ConfigError, which says `where`, if the path leads through a plain value.
    """
    *parents, leaf = path.split(".")
    node: Any = raw
    for depth, key in enumerate(parents):
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
        if not isinstance(node, dict):
            raise ConfigError(f"{where}: {'.'.join(parents[: depth + 1])} is a value, not a section")
    node[leaf] = value


def dump_config(config: ExperimentConfig) -> str:
    """The resolved config as YAML: every field with its value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
