"""What of the benchmarks is more than timing: the GPU benchmark's code runs where there is no GPU, on a toy, and its
arithmetic is that of the model it names; the comparison of losses on parts of traces seeks learning rates and wrong tokens as it
says.
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


@pytest.fixture(scope="module")
def wrong_parts() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("wrong_parts")


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


def test_a_learning_rate_is_sought_until_the_best_lies_between_others(wrong_parts: ModuleType) -> None:
    """`wrong_parts.py` must treat all arms alike: a further rate where the best is at an end, up to a limit."""
    further = wrong_parts.further
    assert further({1e-4: 0.2, 4e-4: 0.5, 1.6e-3: 0.3}, 6) == []
    assert further({1e-4: 0.5, 4e-4: 0.5, 1.6e-3: 0.3}, 6) == [pytest.approx(2.5e-5)]  # of equal ones the lowest
    assert further({1e-4: 0.2, 4e-4: 0.3, 1.6e-3: 0.5}, 6) == [pytest.approx(6.4e-3)]
    assert further({1e-4: 0.2, 4e-4: 0.3, 1.6e-3: 0.5}, 3) == []


def test_the_first_wrong_token_is_found(wrong_parts: ModuleType) -> None:
    """What cDPO's weights are held against, in `3+4*2-1` (7, 4, 3): a wrong result, a wrong copy of a number, a wrong answer."""
    found = wrong_parts.facts.first_wrong_character
    assert found("3+4*2-1", "<think>\n3+4=7\n", "7*2=5") == len("<think>\n3+4=7\n7*2=")
    assert found("3+4*2-1", "<think>\n3+4=7\n", "6*2=2") == len("<think>\n3+4=7\n")
    right = "<think>\n3+4=7\n7*2=4\n4-1=3\n</think>\n"
    assert found("3+4*2-1", right, "\\boxed{5}") == len(right + "\\boxed{")


def test_a_problem_meets_the_misconceptions_of_its_right_solution(wrong_parts: ModuleType) -> None:
    known = {(7, "*", 2): 5, (5, "-", 1): 0}
    assert wrong_parts.digits.misconceptions_in("3+4*2-1", known) == 1


def test_later_rounds_at_the_frontier_bring_no_fewer_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the built-in world, whose pass rates are heaps at 0 and 1: with a smooth distribution of them it was 8 % fewer."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = importlib.import_module("adaptive_sampling")
    found = script.run(script.parse(["--quick", "--sets", "world", "--seeds", "2"]))["world"]["policies"]
    assert found["expected"]["gain"] > -2
    assert found["every"]["gain"] < -10, "all problems again and again is no peer there"
