"""What of the benchmarks is more than timing: the GPU benchmark's code runs where there is no GPU, on a toy, and its
arithmetic is that of the model it names.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.distributed as dist

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("gpu_train")
    if dist.is_initialized():
        dist.destroy_process_group()


def test_the_gpu_benchmark_runs_at_toy_size(benchmark: ModuleType) -> None:
    """Both objectives through bf16 FSDP2 steps; packing adds next to nothing to bf16's own rounding."""
    arguments = ["--device", "cpu", "--tiny", "--quick", "--warmup", "1", "--steps", "1", "--peak-tflops", "1"]
    arguments += ["--ways", "least"]  # compiling takes longer than all the rest
    result = benchmark.run(benchmark.parse(arguments))
    assert [run["objective"] for run in result["runs"]] == ["sft", "redi"]
    assert all(run["tokens_per_s"] > 0 and run["mfu"] > 0 and run["peak_gib"] > 0 for run in result["runs"])
    assert 0.3 < result["parity"]["logp_error_ratio"] < 2
    assert 0 < result["parity"]["gradient_error"] < 0.05


def test_flops_are_those_of_qwen_1_5b(benchmark: ModuleType) -> None:
    """1.54 billion parameters; 10.5 GFLOP a token at 5,000 tokens and 14.4 at 20,000, worked out by hand."""
    model = benchmark.make_model(benchmark.QWEN_1_5B, torch.device("meta"))
    assert model.num_parameters() == pytest.approx(1.5437e9, rel=1e-4)
    assert benchmark.flops_per_token(model, [5000] * 2) == pytest.approx(10.55e9, rel=0.01)
    assert benchmark.flops_per_token(model, [20_000]) == pytest.approx(14.42e9, rel=0.01)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(benchmark: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no CUDA GPU is visible"):
        benchmark.parse([])
