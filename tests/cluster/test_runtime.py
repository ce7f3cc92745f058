"""A Ray of our own: nothing starts one by mistake, and it says nothing of its own accord."""

from __future__ import annotations

import subprocess
import sys


def test_what_asks_ray_for_something_without_one_starts_none():
    """Evaluations in threads may outlive the end of the driver's Ray by a moment."""
    program = "import redi_ray.cluster.runtime, ray, sys\ntry: ray.put(1)\nexcept Exception: sys.exit(7)"
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 7


def test_nothing_of_ray_stands_before_our_lines():
    """Ray's core announces its log level at every start; what others say meanwhile stays."""
    program = (
        "import sys; from redi_ray.cluster.runtime import *; from redi_ray.config.resources import RaySettings\n"
        "with without_line(b'level'): print('one', file=sys.stderr); print('the level', file=sys.stderr)\n"
        "with ray_connection(RaySettings(object_store_gib=0.1)): pass\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "one\n")
