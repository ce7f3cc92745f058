"""Memory against what torch holds: saved tensors of a real pack, the optimizer's state; and the search for what fits."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from tiny_models import tiny_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Qwen2Config, Qwen2ForCausalLM

from redi_ray.config.training import LoraSettings, TrainSettings
from redi_ray.modeling import products
from redi_ray.modeling.attention import NAME, pack_layout
from redi_ray.modeling.policy import Policy
from redi_ray.plan.memory import (
    BUDGET_STEP,
    Setup,
    activation_bytes,
    largest_budget,
    layer_bytes,
    rank_memory,
    ranks_needed,
)
from redi_ray.plan.shapes import TABLE, ModelShape, shape_of_config
from redi_ray.train.optim import make_optimizer

TOKENS = 256
SMALL, BIG = (ModelShape(name=name, **TABLE[f"Qwen/Qwen2.5-{name}"]) for name in ("1.5B", "72B"))
GB80 = 80e9


def setup(shape: ModelShape, checkpointing: bool = True, lora: LoraSettings | None = None) -> Setup:
    return Setup(shape, bf16=True, checkpointing=checkpointing, head_chunk_tokens=512, lora=lora)


def small_policy(dtype: torch.dtype) -> Policy:
    config = tiny_config(hidden=128, layers=4)
    config._attn_implementation = NAME
    torch.manual_seed(0)
    return Policy(Qwen2ForCausalLM(config).to(dtype)).train()


def saved_bytes(policy: Policy) -> int:
    """Bytes of distinct storages that autograd saves for the decoder's backward pass, parameters apart."""
    found: dict[int, torch.UntypedStorage] = {}
    parameters = {parameter.untyped_storage().data_ptr() for parameter in policy.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy.hidden_states(torch.arange(TOKENS) % 61, torch.arange(TOKENS), pack_layout([TOKENS]))
    return sum(storage.nbytes() for storage in found.values())


class LiveBytes(TorchDispatchMode):
    """Follows every storage that an operation makes until it is freed; `known` ones apart."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.seen = weakref.WeakKeyDictionary({tensor.untyped_storage(): 0 for tensor in known})

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage()) not in self.seen:
                self.seen[storage] = storage.nbytes()
                self.live += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return out

    def _freed(self, size: int) -> None:
        self.live -= size


@pytest.mark.parametrize("layers", [2, 12])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_pass_peaks_below_the_estimate_but_not_far(checkpointing: bool, layers: int):
    """Forward and backward in float32 on a lone rank, head and all: what is allocated at the most."""
    config = tiny_config(hidden=128, layers=layers)
    config._attn_implementation, config.vocab_size = NAME, 1024
    policy = Policy(Qwen2ForCausalLM(config)).train()
    if checkpointing:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    ids, kept = (
        torch.arange(TOKENS),
        [*policy.parameters(), *(p.grad for p in policy.parameters() if p.grad is not None)],
    )
    with LiveBytes(kept) as measured:
        loss, _ = policy(ids, ids, layout=pack_layout([TOKENS]), rows=ids[:-1], targets=ids[1:],
                         coefficients=-torch.ones(TOKENS - 1), chunk_tokens=64)  # fmt: skip
        loss.backward()
    estimate = rank_memory(Setup(shape_of_config("tiny", config), False, checkpointing, 64), TOKENS, 1)
    assert 0.7 < measured.peak / (estimate.activations + estimate.head) < 1.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_what_torch_saves_within_15_percent(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, checkpointing: bool
):
    monkeypatch.setattr(products, "bfloat16_is_slower", lambda: False)  # as on a GPU, whatever processor this is
    policy = small_policy(dtype)
    shape, b = shape_of_config("tiny", tiny_config(hidden=128, layers=4)), dtype.itemsize
    if checkpointing:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    layers = shape.num_layers * (b * shape.hidden_size if checkpointing else layer_bytes(shape, b))
    last_norm = (4 + 2 * b) * shape.hidden_size
    assert saved_bytes(policy) / TOKENS == pytest.approx(layers + last_norm, rel=0.15)


def test_a_lone_rank_holds_what_a_step_leaves_in_memory():
    """Weights, gradients and moments of a model in float32: 16 bytes a parameter."""
    policy = small_policy(torch.float32)
    optimizer = make_optimizer(policy, TrainSettings())
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    tensors = [*policy.parameters(), *(p.grad for p in policy.parameters())]
    tensors += [t for state in optimizer.state.values() for t in state.values() if t.ndim]
    held = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    shape = shape_of_config("tiny", tiny_config(hidden=128, layers=4))
    assert rank_memory(Setup(shape, False, False, 512), TOKENS, 1).state == held


@pytest.mark.parametrize(
    ("checkpointing", "tokens", "chunk", "kept", "gib"),
    [
        (True, 4096, 512, False, 25.35),
        (True, 8192, 2048, False, 27.33),
        (True, 32_768, 512, False, 31.28),
        (False, 8192, 512, False, 48.28),
        (False, 8192, 1024, True, 51.47),
        (False, 16_384, 1024, True, 74.78),
    ],
)
def test_what_a_gpu_held(checkpointing, tokens, chunk, kept, gib):
    """Peaks of a Qwen2.5-1.5B in bf16 on one H200, eager layers (benchmarks/README.md)."""
    config = Qwen2Config(
        vocab_size=151_936, hidden_size=1536, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2,
        intermediate_size=8960, tie_word_embeddings=True,
    )  # fmt: skip
    held = rank_memory(Setup(shape_of_config("qwen", config), True, checkpointing, chunk, None, kept), tokens, 1).peak
    assert held == pytest.approx(gib * 2**30, rel=0.07)


def test_checkpointing_and_ranks_spare_what_they_should():
    kept = activation_bytes(setup(SMALL, checkpointing=False)) * 20_000
    recomputed = activation_bytes(setup(SMALL)) * 20_000
    assert SMALL.num_layers * 2 * SMALL.hidden_size * 20_000 == pytest.approx(1.7e9, rel=0.02)  # layers' inputs alone
    assert recomputed < 0.1 * kept
    one, eight = (rank_memory(setup(SMALL), 8192, ranks) for ranks in (1, 8))
    assert eight.state == one.state / 8
    assert (eight.activations, eight.gathered) == (one.activations, one.gathered)  # these are every rank's own


def test_adapters_need_moments_only_for_themselves():
    full, lora = rank_memory(setup(SMALL), 8192, 8), rank_memory(setup(SMALL, lora=LoraSettings(rank=16)), 8192, 8)
    assert lora.optimizer < 0.02 * full.optimizer
    assert lora.weights > full.weights
    assert lora.peak < full.peak


def test_the_budget_is_the_largest_that_fits():
    budget = largest_budget(setup(SMALL), 8, GB80)
    assert budget % BUDGET_STEP == 0
    assert rank_memory(setup(SMALL), budget, 8).peak <= GB80 < rank_memory(setup(SMALL), budget + BUDGET_STEP, 8).peak
    assert largest_budget(setup(BIG), 1, GB80) == 0  # 16 bytes a parameter alone are 1.2 TB


def test_ranks_are_found_or_it_is_said_that_none_do():
    needed = ranks_needed(setup(BIG), 4096, GB80)
    assert needed is not None
    assert rank_memory(setup(BIG), 4096, needed).peak <= GB80 < rank_memory(setup(BIG), 4096, needed // 2).peak
    assert ranks_needed(setup(BIG, checkpointing=False), 32_768, GB80) is None  # a pack's activations are not shared
