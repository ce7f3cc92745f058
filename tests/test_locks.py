"""The files that an installation is made from name every package that the project says it needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def names(lines: list[str]) -> set[str]:
    """Packages of requirement lines, as PyPI spells them."""
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


def locked(*files: str) -> set[str]:
    return names([line for file in files for line in (ROOT / "requirements" / file).read_text().splitlines()])


@pytest.mark.parametrize(
    ("extra", "files"), [("cpu", ["cpu.lock"]), ("gpu", ["gpu.lock"]), ("dev", ["cpu.lock", "dev.lock"])]
)
def test_what_is_needed_is_locked(extra: str, files: list[str]) -> None:
    """Packages are installed from the locks alone: one that is missing there is missing on every fresh machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = names(project["dependencies"]) | names(project["optional-dependencies"][extra])
    assert needed <= locked("torch.lock", *files)
