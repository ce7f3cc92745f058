"""Half precision on the CPU does not take more memory with every new length of a pack."""

from __future__ import annotations

import subprocess
import sys

PRODUCTS = """
import resource, sys, torch
from redi_ray.train.shard import bound_product_caches
torch.set_num_threads(1)
bound_product_caches()
weight = torch.randn(1024, 256, dtype=torch.bfloat16)
def multiply(lengths):
    for length in lengths:
        torch.randn(length, 256, dtype=torch.bfloat16) @ weight.T
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = multiply([998, *range(400, 480, 2)])
print(multiply(range(480, 1000, 2)) - before)
"""


def test_products_of_many_shapes_leave_nothing_behind() -> None:
    """260 lengths; with torch's own settings they add about 1 MB each, where the processor has instructions for bfloat16."""
    done = subprocess.run([sys.executable, "-c", PRODUCTS], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60
