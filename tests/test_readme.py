"""What the README shows of configs is one: each piece is read, and its steps fit together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from redi_ray.config.load import parse_config
from redi_ray.config.yaml_text import read_yaml
from redi_ray.pipeline.standard import graph_of

TEXT = (Path(__file__).resolve().parent.parent / "README.md").read_text()
BESIDE: dict[str, Any] = {
    "own": {"do": "sample", "model": "sft"},
    "length": {"do": "score", "of": "verified", "scorer": {"name": "length"}},
    "located": {"do": "locate", "of": "verified", "locator": {"kind": "exact"}},
    "lost": {"do": "locate", "of": "verified", "ask": "all", "locator": {"kind": "exact"}},
    "critical": {"do": "contrast", "of": "verified", "right": "sft", "wrong": "base"},
}
"""Steps of other pieces that pieces build on."""


def pieces() -> list[dict[str, Any]]:
    """Those with steps; a piece that goes on in the list before it has no heading."""
    blocks = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    read = [read_yaml(f"steps:\n{block}" if block.startswith("  ") else block) for block in blocks]
    return [piece for piece in read if "steps" in piece]


@pytest.mark.parametrize("piece", pieces(), ids=lambda piece: ",".join(piece["steps"]))
def test_steps_fit_together(piece: dict[str, Any]):
    imports = any(step["do"] == "import" for step in piece["steps"].values())
    model = {"model": {"init": {"kind": "pretrained", "path": "a/model"}}} if imports else {}
    config = {"name": "x", "evaluate": {"models": ["base"]}, **model, **piece}
    found = graph_of(parse_config(config | {"steps": ({} if imports else BESIDE) | piece["steps"]})).steps
    assert [name for name in piece["steps"] if name not in found and f"{name}@1" not in found] == []
