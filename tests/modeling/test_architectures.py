"""Every decoder type that transformers has trains exactly, packed or one sequence at a time, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from architectures import FEATURES, config_of, decoder_types, ours, own, tokens, verdict, weights
from transformers import AutoModelForCausalLM

from redi_ray.config.training import LoraSettings, ModelOverrides
from redi_ray.modeling.exact import own_logps, together
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.miniature import build, miniature
from redi_ray.modeling.policy import load_policy
from redi_ray.modeling.tokenizer import character_tokenizer


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("qwen2, window", "packed"),
        ("gemma2", "packed"),  # soft-capped scores
        ("gpt_oss", "packed"),  # sinks
        ("phi", "packed"),  # a head with a bias
        ("gpt2", "packed"),  # blocks under another name
        ("gemma3_text", "packed"),
        ("deepseek_v3", "packed"),
        ("phimoe, window", "one by one"),
        ("phi3, longrope", "one by one"),
        ("llama, dynamic positions", "one by one"),
        ("deepseek_v32", "one by one"),
        ("qwen3_5", "one by one"),
        ("falcon_h1", "one by one"),
        ("mamba", "one by one"),
        ("bloom", "one by one"),
        ("stablelm", "one by one"),
        ("llama4_text", "one by one"),
    ],
)
def test_loaded_models_are_exact(tmp_path, name, way):
    """Log-probs and gradients past windows, chunks, top-k and position limits, against a plain model on each sequence."""
    config = miniature(config_of(name))
    build(config, "eager").save_pretrained(tmp_path)
    policy = load_policy(str(tmp_path), ModelOverrides(), dtype=torch.float64)
    assert policy.one_by_one == (way == "one by one")
    parts = tokens(config)
    expected, gradient = own(str(tmp_path), parts)
    logps, found = ours(policy, parts)
    torch.testing.assert_close(logps, expected, rtol=0, atol=5e-5)
    assert float((found - gradient).norm() / gradient.norm()) < 2e-4


@pytest.mark.parametrize("name", ["qwen2", "glm4_moe", "gpt_oss", "phimoe", "gpt2", "mamba", "qwen3_5"])
def test_adapters_reach_experts_and_export(tmp_path, name):
    """Trained adapters on all linear layers and experts: the exported plain model computes what was trained."""
    pytest.importorskip("peft")
    config = miniature(config_of(name))
    build(config, "eager").save_pretrained(tmp_path)
    policy = load_policy(str(tmp_path), ModelOverrides(lora=LoraSettings(rank=2)), dtype=torch.float64).eval()
    parts, trained = tokens(config)[:2], {n: p for n, p in policy.named_parameters() if p.requires_grad}
    before = together(policy, parts, None)[1]
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter_name, parameter in trained.items():
            if "lora_B" in parameter_name:
                parameter.normal_(0, 0.1)
    total, after = together(policy, parts, weights(len(before), 0))
    total.backward()
    assert not [n for n, p in trained.items() if p.grad is None], "an adapter that the forward pass does not read"
    assert float((after - before).abs().max()) > 0.1
    export_policy(policy, tmp_path / "export", tokenizer=character_tokenizer("0123456789"))
    plain = AutoModelForCausalLM.from_pretrained(
        tmp_path / "export", dtype=torch.float64, attn_implementation="eager", experts_implementation="eager"
    ).eval()
    expected = torch.cat([own_logps(plain, part) for part in parts])
    torch.testing.assert_close(after, expected.detach(), rtol=0, atol=2e-4)
    experts = [n for n, p in plain.named_parameters() if p.ndim == 3 and "experts" in n and "bias" not in n]
    assert len([n for n in trained if "experts" in n and "lora_A" in n]) >= len(experts)


@pytest.mark.parametrize("name", ["mamba2", "qwen3_5", "gpt_oss", "gemma2", "gpt2"])
def test_half_precision(tmp_path, name):
    """Near the model's own in that type, and for those that keep hidden states in float32 all the same (Mamba 2)."""
    config = miniature(config_of(name))
    build(config, "eager").save_pretrained(tmp_path)
    policy = load_policy(str(tmp_path), ModelOverrides(), dtype=torch.bfloat16)
    parts = tokens(config)
    (logps, gradient), (expected, theirs) = ours(policy, parts), own(str(tmp_path), parts, torch.bfloat16)
    assert float((logps - expected).abs().median()) < 0.1
    assert float(torch.cosine_similarity(gradient.double(), theirs.double(), dim=0)) > 0.9


@pytest.mark.parametrize(("name", "reason"), [("roberta", "looks ahead"), ("bert, decoder", "differ from its own")])
def test_what_cannot_be_exact_is_refused(tmp_path, name, reason):
    build(miniature(config_of(name)), "eager").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=reason):
        load_policy(str(tmp_path), ModelOverrides())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*decoder_types(), *FEATURES])
def test_the_documentation_says_what_every_decoder_type_does(tmp_path, name):
    """Each type of the installed transformers: exact or refused, and as the table has it."""
    found = verdict(name, tmp_path)
    assert found.exact or found.way == "refused"
    assert (
        found.row() in (Path(__file__).parents[2] / "docs" / "reference" / "architectures.md").read_text().splitlines()
    )
