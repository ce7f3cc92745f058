"""What a process pays before it does anything: modules that load for seconds stay out of those that only pass work on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from starting_data import gsm8k_rows, write_jsonl

HEAVY = ("torch", "transformers", "vllm", "scipy", "matplotlib", "datasets")
SLOW = ("ray", "torch", "vllm", "transformers")


@pytest.mark.parametrize(
    ("module", "light"),
    [
        ("redi_ray.cli.app", ("ray", "redi_ray.config.experiment", *HEAVY)),
        ("redi_ray.pipeline.runner", ("ray", *HEAVY)),
        ("redi_ray.search.trial", HEAVY),
        ("redi_ray.train.on_ray.launch", HEAVY),
    ],
)
def test_importing_loads_nothing_heavy(module: str, light: tuple[str, ...]) -> None:
    """A search has a driver, a trial's process and Ray Train's controller for every worker: each would load them."""
    script = f"import sys, {module}; print([name for name in {light} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


COMMANDS: dict[str, tuple[str, ...]] = {
    "--help": (),
    "run --help": (),
    "recipes": (),
    "recipes cdpo": (),
    "init {data} --out {folder}/x.yaml": (),
    "config configs/demo.yaml": (),
    "graph configs/demo.yaml storage.root={folder}": (),
    "graph {folder}/x.yaml storage.root={folder}": (),
    "report configs/demo.yaml storage.root={folder}": (),
    "inspect {folder}/nothing": (),
    "status configs/demo.yaml": (),
    "plan configs/demo.yaml": ("transformers",),
}
"""Commands that start no Ray -> what of SLOW they take all the same: a plan counts tokens, behind its first line."""


def test_commands_that_start_no_ray_load_neither_ray_nor_torch(tmp_path: Path) -> None:
    """Their first output has to come within two seconds, and each of these modules takes one of them, or more."""
    given = {"data": write_jsonl(tmp_path / "x.jsonl", gsm8k_rows()), "folder": tmp_path}
    script = f"""
import contextlib, io, sys
from redi_ray.cli import main
for command, taken in {[(command.format(**given), taken) for command, taken in COMMANDS.items()]}:
    sys.argv = ["redi-ray", *command.split()]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        main()
    if found := [name for name in {SLOW} if name in sys.modules and name not in taken]:
        print(command, found)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("", "")
