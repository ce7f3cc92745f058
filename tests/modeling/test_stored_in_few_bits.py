"""Weights that are stored in few bits are trained as plain numbers, all masters of one type, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import VOCABULARY, tiny_config
from torch import Tensor
from transformers import AutoModelForCausalLM, GptOssConfig, PretrainedConfig

from redi_ray.config.training import ModelOverrides
from redi_ray.modeling.exact import own_logps
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.policy import load_policy
from redi_ray.modeling.tokenizer import character_tokenizer

MIXTURE = GptOssConfig(
    vocab_size=VOCABULARY, hidden_size=64, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, head_dim=16,
    num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, pad_token_id=None, eos_token_id=None,
)  # fmt: skip


def stored(config: PretrainedConfig, folder: Path, quantization: dict[str, object]) -> str:
    """A model whose experts are 4-bit blocks with scales, as gpt-oss comes, and whose config says how they are stored."""
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    weights: dict[str, Tensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if "experts" in name and weight.ndim == 3:
            experts, inputs, outputs = weight.shape
            blocks = (experts, outputs, inputs // 32)
            weights[f"{name}_blocks"] = torch.randint(0, 256, (*blocks, 16), dtype=torch.uint8)
            weights[f"{name}_scales"] = torch.randint(118, 124, blocks, dtype=torch.uint8)
        else:
            weights[name] = weight
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "quantization_config": quantization}))
    return str(folder)


def test_gpt_oss_as_it_is_published(tmp_path):
    """4-bit experts become float32 masters with the values that transformers unpacks; the export is a plain model."""
    path = stored(MIXTURE, tmp_path / "stored", {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    policy = load_policy(path, ModelOverrides()).eval()
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    unpacked = dict(AutoModelForCausalLM.from_pretrained(path).named_parameters())
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(parameter, unpacked[name].float()), name
    export_policy(policy, tmp_path / "export", tokenizer=character_tokenizer("0123456789"))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "export", attn_implementation="eager").eval()
    ids = torch.arange(3, 30)
    torch.testing.assert_close(own_logps(plain, ids), own_logps(policy.model, ids), rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes"])
def test_what_cannot_be_unpacked_is_refused(tmp_path, method):
    path = stored(tiny_config(), tmp_path, {"quant_method": method, "load_in_4bit": True, "bits": 4})
    with pytest.raises(ValueError, match=rf"quantised \({method}\).*train the model that it was made of"):
        load_policy(path, ModelOverrides())
