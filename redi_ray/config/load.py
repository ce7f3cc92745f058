"""Reading a config: YAML, `key=value` overrides, and errors that say what, where and how to mend it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.readable import describe
from redi_ray.config.secrets import holds_a_key
from redi_ray.errors import UserError
from redi_ray.store import storage


class _Loader(yaml.SafeLoader):
    """YAML whose keys are never truth values: `on: hard` is a key `on`, as every reader but YAML 1.1 takes it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:bool":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def read_yaml(text: str | bytes) -> Any:
    """The values in a YAML text. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)


class ConfigError(UserError):
    """The config is wrong; the message lists every finding with its path."""


def load_config(uri: str, overrides: list[str] | None = None) -> ExperimentConfig:
    """The experiment in a YAML file (local or s3://), changed by `overrides` such as `redi.train.learning_rate=1e-6`.

    Raises ConfigError with every finding.
    """
    if not storage.exists(uri):
        raise ConfigError(f"{uri}: no such config file; see configs/ for examples")
    try:
        raw = read_yaml(storage.read_bytes(uri))
    except yaml.YAMLError as error:
        raise ConfigError(f"{uri}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{uri}: expected a mapping with sections such as `problems:`, found {type(raw).__name__}")
    raw.setdefault("name", Path(uri).stem)
    for override in overrides or []:
        apply_override(raw, override)
    return parse_config(raw, where=uri)


def parse_config(raw: dict[str, Any], where: str = "config") -> ExperimentConfig:
    """A config from plain values.

    Raises ConfigError with every finding. A value that looks like a key is refused first and never repeated: the config
    is copied into the run's folder, for whoever reads that.
    """
    if keyed := [str(name) for name, section in raw.items() if holds_a_key(section)]:
        raise ConfigError(
            f"{where}: {', '.join(keyed)} holds what looks like an API key; put it into an environment variable and name "
            "that in the config (api_key_env)"
        )
    try:
        return ExperimentConfig.model_validate(raw)
    except ValidationError as error:
        lines = [describe(item, config_schema()) for item in error.errors(include_url=False)]
        raise ConfigError(f"{where}: {len(lines)} error(s)\n" + "\n".join(f"  - {line}" for line in lines)) from error


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
