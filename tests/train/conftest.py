"""One run that nobody disturbs, on two gloo ranks without Ray, which other ways of running are compared with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_runs import PLAIN_SETTINGS, finish, torchrun, write_inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Folders of a tiny model and of its pairs."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="session")
def undisturbed(inputs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of the run: metrics.jsonl and export/."""
    out = tmp_path_factory.mktemp("undisturbed")
    finish(torchrun(*inputs, str(out), json.dumps(PLAIN_SETTINGS)))
    return out
