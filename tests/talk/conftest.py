"""The run that models are asked of, made once."""

from __future__ import annotations

import pytest
from talk_runs import talker_run


@pytest.fixture(scope="session")
def talk_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return talker_run(tmp_path_factory.mktemp("talk"))
