"""What a process pays before it does anything: modules that load for seconds stay out of those that only pass work on."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "vllm", "scipy", "matplotlib", "datasets")


@pytest.mark.parametrize(
    ("module", "light"),
    [
        ("redi_ray.cli.app", ("ray", *HEAVY)),
        ("redi_ray.pipeline.runner", HEAVY),
        ("redi_ray.search.trial", HEAVY),
        ("redi_ray.train.on_ray.launch", HEAVY),
    ],
)
def test_importing_loads_nothing_heavy(module: str, light: tuple[str, ...]) -> None:
    """A search has a driver, a trial's process and Ray Train's controller for every worker: each would load them."""
    script = f"import sys, {module}; print([name for name in {light} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
