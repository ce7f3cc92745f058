"""Operations as torch counts them on a real model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import tiny_config
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2ForCausalLM

from redi_ray.plan.flops import forward, scoring, training
from redi_ray.plan.shapes import TABLE, ModelShape, shape_of_config

TOKENS = 96


def counted(checkpointing: bool) -> tuple[int, int]:
    """Operations of forward, and of forward and backward, of one sequence of TOKENS tokens."""
    config = tiny_config(hidden=64, layers=3)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with FlopCounterMode(display=False) as once:
        logits = model(input_ids=torch.arange(TOKENS)[None] % 61, use_cache=False).logits
    with FlopCounterMode(display=False) as again:
        logits.sum().backward()
    return once.get_total_flops(), once.get_total_flops() + again.get_total_flops()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_operations_are_those_that_torch_counts(checkpointing: bool):
    """Eager attention computes all S x S products, of which the formula counts the half that is needed."""
    shape, lengths = shape_of_config("tiny", tiny_config(hidden=64, layers=3)), np.array([float(TOKENS)])
    half = forward(shape, lengths, TOKENS).attention
    once, both = counted(checkpointing)
    assert scoring(shape, lengths, TOKENS).model + half == pytest.approx(once, rel=0.01)
    work = training(shape, lengths, TOKENS, checkpointing=checkpointing)
    assert work.hardware + (4 if checkpointing else 3) * half == pytest.approx(both, rel=0.01)
    assert work.model == training(shape, lengths, TOKENS, checkpointing=False).hardware


def test_long_sequences_cost_more_than_their_tokens():
    """The mean length is not enough: attention goes by the mean square, here of Qwen2.5-1.5B at 5k and 20k tokens."""
    shape = ModelShape(name="", **TABLE["Qwen/Qwen2.5-1.5B"])
    even = training(shape, np.array([10_000.0, 10_000.0]), 10_000, checkpointing=False).model
    uneven = training(shape, np.array([1_000.0, 19_000.0]), 10_000, checkpointing=False).model
    assert uneven > 1.1 * even
    for length, giga in ((5_000, 10.5), (20_000, 14.4)):  # worked by hand: 6 N + 6 L d S
        each = training(shape, np.array([float(length)]), length, checkpointing=False).model / length
        assert each / 1e9 == pytest.approx(giga, rel=0.02)
