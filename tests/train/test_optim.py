"""The schedule's values, and norms that mean what they say."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from tiny_models import tiny_policy
from torch import nn
from transformers import CohereConfig, CohereForCausalLM, GptOssConfig, GptOssForCausalLM

from redi_ray.config.training import TrainSettings
from redi_ray.train.optim import clip_gradients, learning_rate_at, make_optimizer, update_norm


def schedule(total: int, **settings: object) -> list[float]:
    return [learning_rate_at(step, total, TrainSettings(learning_rate=1.0, **settings)) for step in range(total)]  # type: ignore[arg-type]


def test_linear_schedule_by_hand() -> None:
    """10 steps, 20% warm-up: 2 steps up to the peak, 8 steps down, the last one still above zero."""
    expected = [0.5, 1.0, *[1 - k / 8 for k in range(8)]]
    assert schedule(10, warmup_ratio=0.2) == pytest.approx(expected)


def test_other_shapes_and_floor() -> None:
    cosine = schedule(9, lr_schedule="cosine", warmup_ratio=0.1, min_lr_ratio=0.1)
    assert cosine[0] == 1.0  # one step of warm-up
    assert cosine[5] == pytest.approx(0.1 + 0.9 * 0.5)  # half way
    assert all(a >= b for a, b in pairwise(cosine))
    assert cosine[-1] > 0.1
    assert schedule(5, lr_schedule="constant", warmup_ratio=0.0) == [1.0] * 5
    assert schedule(1) == [1.0]  # a run of one step trains at the peak


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_update_norm_is_the_norm_of_the_change(weight_decay: float) -> None:
    """Worked out from the optimizer's state, it equals the difference of weights before and after, decay included."""
    policy = tiny_policy()
    settings = TrainSettings(learning_rate=0.01, weight_decay=weight_decay)
    optimizer = make_optimizer(policy, settings)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        before = [p.detach().clone() for p in policy.parameters()]
        for p in policy.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        optimizer.step()
        changes = [(p.detach() - b).flatten() for p, b in zip(policy.parameters(), before, strict=True)]
        assert update_norm(optimizer) == pytest.approx(float(torch.cat(changes).norm()), rel=1e-9)


def test_decay_is_for_matrices_only() -> None:
    groups = make_optimizer(tiny_policy(), TrainSettings(weight_decay=0.5)).param_groups
    decays = {p.ndim: group["weight_decay"] for group in groups for p in group["params"]}
    assert decays == {2: 0.5, 1: 0.0}


def decayed_names(model: nn.Module) -> set[str]:
    optimizer = make_optimizer(model, TrainSettings(weight_decay=0.5))
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}


def tiny(config: type, model: type, **sizes: object) -> nn.Module:
    common = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}
    return model(config(**(common | heads | sizes)))


def test_decay_goes_by_the_module_and_not_by_dimensions() -> None:
    """Cohere's norms have a weight per head and channel, GPT-OSS's experts biases in two dimensions and matrices in three."""
    cohere = tiny(CohereConfig, CohereForCausalLM, use_qk_norm=True)
    norms = {name: p for name, p in cohere.named_parameters() if "norm" in name}
    assert {p.ndim for p in norms.values()} == {1, 2}
    assert decayed_names(cohere) == {name for name, _ in cohere.named_parameters() if "norm" not in name}
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1, "layer_types": ["full_attention"]}
    oss = tiny(GptOssConfig, GptOssForCausalLM, head_dim=8, **experts)
    assert {p.ndim for name, p in oss.named_parameters() if "bias" in name} == {1, 2}
    spared = ("bias", "norm", "sinks")
    expected = {name for name, _ in oss.named_parameters() if not any(word in name for word in spared)}
    assert decayed_names(oss) == expected
    assert {dict(oss.named_parameters())[name].ndim for name in expected} == {2, 3}


def test_what_only_looks_like_a_matrix_or_a_vector() -> None:
    """A router's correction of shape [1, experts] is a bias, an adapter of rank 1 a matrix, tied weights count once; the rates
    of a state-space layer are no matrix, and an embedding that is normalised behind it is one."""

    class NormedEmbedding(nn.Embedding):
        pass

    model = nn.Module()
    model.statics = nn.Module()
    model.statics.e_score_correction_bias = nn.Parameter(torch.zeros(1, 4))
    model.scale = nn.Parameter(torch.ones(1, 1, 4))
    model.lora_A, model.embed = nn.Linear(4, 1, bias=False), nn.Embedding(5, 4)
    model.head = nn.Linear(4, 5)
    model.head.weight = model.embed.weight
    model.A_log, model.D = nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(2, 4))
    model.normed = NormedEmbedding(5, 4)
    assert decayed_names(model) == {"lora_A.weight", "embed.weight", "normed.weight"}


def test_clipping() -> None:
    """The norm before clipping comes back; 0 turns clipping off; a norm that is not finite leaves gradients alone."""

    def clipped(values: list[float], max_norm: float) -> tuple[float, list[float]]:
        parameter = nn.Parameter(torch.zeros(len(values)))
        parameter.grad = torch.tensor(values)
        return clip_gradients([parameter], max_norm), parameter.grad.tolist()

    assert clipped([3.0, 4.0], 1.0) == (5.0, pytest.approx([0.6, 0.8], rel=1e-5))
    assert clipped([3.0, 4.0], 0.0) == (5.0, [3.0, 4.0])
    assert clipped([3.0, 4.0], 10.0) == (5.0, [3.0, 4.0])
    norm, values = clipped([math.inf, 1.0], 1.0)
    assert math.isinf(norm)
    assert values == [math.inf, 1.0]
