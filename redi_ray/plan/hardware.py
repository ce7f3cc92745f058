"""GPUs by name.

Sources: NVIDIA's data sheets of the A100 (2021), H100 and H200 (2023), DGX B200 (2024), L40S, L4 and A10, and the Ada
white paper for the RTX 4090. Peak is dense bfloat16 on the tensor cores (half of what a sheet gives with sparsity), SXM
parts unless the name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from redi_ray.config.engine_limits import SchedulerLimits, gpu_limits
from redi_ray.plan.errors import PlanError


@dataclass(frozen=True)
class Gpu:
    """A GPU as its data sheet has it."""

    name: str
    bf16_tflops: float
    """Dense peak, 1e12 operations per second."""
    memory_gb: float
    """1e9 bytes. Drivers show up to 7% more for parts whose sheet means GiB; the plan does not count on it."""
    bandwidth_gb_s: float
    """Of the memory, 1e9 bytes per second."""

    @property
    def limits(self) -> SchedulerLimits:
        """Of an engine's scheduler on it, where the config says nothing."""
        return gpu_limits(self.name, self.memory_gb * 1e9 / 2**30)


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A10", 125, 24, 600),
        Gpu("A100-40GB", 312, 40, 1555),
        Gpu("A100-80GB", 312, 80, 2039),
        Gpu("B200", 2250, 180, 8000),
        Gpu("H100", 989, 80, 3350),
        Gpu("H100-PCIe", 756, 80, 2000),
        Gpu("H200", 989, 141, 4800),
        Gpu("L4", 121, 24, 300),
        Gpu("L40S", 362, 48, 864),
        Gpu("RTX-4090", 165, 24, 1008),
    )
}
"""Name -> GPU."""


def find_gpu(name: str) -> Gpu:
    """The GPU of that name, in any case of letters. Raises PlanError, which lists the known ones."""
    known = {gpu.lower(): gpu for gpu in GPUS}
    if name.lower() not in known:
        raise PlanError(f"--gpu {name}: unknown; there are {', '.join(GPUS)}")
    return GPUS[known[name.lower()]]
