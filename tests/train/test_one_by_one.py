"""Architectures that packs would get wrong, trained sequence by sequence: on one rank, and sharded over two."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_on_ranks
from tiny_models import VOCABULARY, tiny_store
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import GPT2Config, PretrainedConfig, Qwen3_5TextConfig, Qwen3MoeConfig

from redi_ray.config.objectives import DpoObjective, RediObjective
from redi_ray.config.training import LoraSettings, ModelOverrides, TrainSettings
from redi_ray.modeling.miniature import build
from redi_ray.modeling.policy import Policy, load_policy
from redi_ray.train import step as step_module
from redi_ray.train.batches import plan_batches
from redi_ray.train.references import reference_logps
from redi_ray.train.results import StepResult
from redi_ray.train.shard import shard_policy
from redi_ray.train.step import forward_backward

STORE = tiny_store(num_pairs=7)
SETTINGS = TrainSettings(batch_size=7, tokens_per_pack=64)
NONE = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
HYBRID = Qwen3_5TextConfig(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2,
    linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8, tie_word_embeddings=True, **NONE,
)  # fmt: skip
GPT2 = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, **NONE)


def saved(config: PretrainedConfig, folder: Path) -> str:
    build(config, "eager").save_pretrained(folder)
    return str(folder)


def step(path: str, world_size: int, rank: int, objective, overrides: ModelOverrides) -> tuple[Policy, StepResult]:
    policy = load_policy(path, overrides, dtype=torch.float64, gradient_checkpointing=True)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                torch.manual_seed(len(name))
                parameter.normal_()
    shard_policy(policy, world_size=world_size, precision="fp32")
    plan = plan_batches(STORE, SETTINGS, world_size, objective)[0]
    assert len(plan.packs_of_rank[rank]) > 1
    if world_size > 1:
        counts = [[len(pack.sequences) for pack in packs] for packs in plan.packs_of_rank]
        assert counts[0] != counts[1], "ranks with equally many sequences would not show a thing"
    result = forward_backward(
        policy, STORE, plan, objective, progress=0.5, settings=SETTINGS, rank=rank, world_size=world_size
    )
    return policy, result


def gradients(policy: nn.Module) -> dict[str, torch.Tensor]:
    """Of the trained parameters, whole."""
    grads = {name: p.grad for name, p in policy.named_parameters() if p.requires_grad}
    return {name: g.full_tensor() if isinstance(g, DTensor) else g for name, g in grads.items() if g is not None}


def compare_with_one_process(rank: int, world_size: int, path: str, overrides: ModelOverrides) -> None:
    for objective in (RediObjective(), DpoObjective()):
        sharded, result = step(path, world_size, rank, objective, overrides)
        alone, expected = step(path, 1, 0, objective, overrides)
        assert result.loss == pytest.approx(expected.loss, rel=1e-6)
        ours, theirs = gradients(sharded), gradients(alone)
        assert ours.keys() == theirs.keys()
        for name, gradient in theirs.items():
            torch.testing.assert_close(
                ours[name], gradient, rtol=1e-4, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}"
            )


def compare_all(rank: int, world_size: int, cases: list[tuple[str, ModelOverrides]]) -> None:
    for path, overrides in cases:
        compare_with_one_process(rank, world_size, path, overrides)


def passes(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> tuple[StepResult, list[list[float]]]:
    """A DPO step over several packs, and the log-probs of every forward pass it made."""
    seen: list[list[float]] = []
    run = step_module.run_pack

    def noting(*args):
        total, logps = run(*args)
        seen.append(logps.tolist())
        return total, logps

    monkeypatch.setattr(step_module, "run_pack", noting)
    plan = plan_batches(STORE, SETTINGS, 1, DpoObjective())[0]
    return forward_backward(policy, STORE, plan, DpoObjective(), progress=0.5, settings=SETTINGS), seen


@pytest.mark.parametrize("overrides", [ModelOverrides(dropout=True), ModelOverrides(lora=LoraSettings(dropout=0.5))])
def test_scores_and_gradients_see_the_same_masks(tmp_path, monkeypatch, overrides):
    """With dropout asked for: what a pack scores in the first pass it scores in the second, and other packs differ."""
    config = GPT2 if overrides.dropout else HYBRID
    policy = load_policy(saved(config, tmp_path), overrides)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    _, seen = passes(policy, monkeypatch)
    half = len(seen) // 2
    assert half > 1
    assert seen[:half] == seen[half:]
    policy.eval()
    _, quiet = passes(policy, monkeypatch)
    assert seen[0] != quiet[0]


def test_dpo_starts_at_log_2_with_a_model_that_has_dropout(tmp_path):
    """GPT-2 with its default dropout of 0.1, several packs, scored by itself as the reference."""
    path = saved(GPT2, tmp_path)
    store = STORE.with_mismatched(None)
    reference = load_policy(path, ModelOverrides()).eval()
    index, logps = reference_logps(reference, store, np.arange(len(store)), tokens_per_pack=50, chunk_tokens=9)
    column = np.zeros(len(store.tokens), dtype=np.float32)
    column[index] = logps
    store = store.with_column("ref_logps", column)
    plan = plan_batches(store, SETTINGS, 1, DpoObjective())[0]
    policy = load_policy(path, ModelOverrides())
    result = forward_backward(policy, store, plan, DpoObjective(), progress=0.5, settings=SETTINGS)
    assert result.loss == pytest.approx(math.log(2), abs=1e-5)


MIXTURE = Qwen3MoeConfig(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, **NONE,
)  # fmt: skip


def test_two_ranks_give_the_gradients_of_one(tmp_path):
    """Ranks whose packs hold different numbers of sequences gather sharded layers equally often; blocks of any name are
    sharded, and adapters on experts' weights."""
    adapters = ModelOverrides(lora=LoraSettings(rank=2))
    cases = [(HYBRID, ModelOverrides()), (HYBRID, adapters), (GPT2, ModelOverrides()), (MIXTURE, adapters)]
    run_on_ranks(
        compare_all, 2, [(saved(config, tmp_path / str(i)), overrides) for i, (config, overrides) in enumerate(cases)]
    )
