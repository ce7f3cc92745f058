"""Values in a YAML text; apart from what checks them, which takes longer to load."""

from __future__ import annotations

from typing import Any

import yaml


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
