"""Configs of every decoder type that transformers has, and of the features that tell architectures apart."""

from __future__ import annotations

import gc
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from redi_ray.config.training import ModelOverrides
from redi_ray.modeling.exact import sequences, together, way_of
from redi_ray.modeling.miniature import build, miniature
from redi_ray.modeling.policy import Policy, load_policy

COMPLETED: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {"layer_types": ["sliding_attention"] * 3 + ["full_attention"], "num_hidden_layers": 4},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "topk_method": "group_limited_greedy"},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128, "num_experts": 4, "moe_topk": 2},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"], "num_hidden_layers": 4},
    "ministral": {"head_dim": 128, "num_key_value_heads": 8},
    "nemotron": {"num_key_value_heads": 48},
    "reformer": {"is_decoder": True},
    "bert": {"is_decoder": True},
}
"""What a type's default config lacks to be built."""

IDS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
WINDOW: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0}
LONG = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 4096, "factor": 4.0,
    "short_factor": [1.0] * 48, "long_factor": [4.0] * 48,
}  # fmt: skip
FEATURES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2, window": ("qwen2", WINDOW),
    "qwen2_moe, window": ("qwen2_moe", WINDOW),
    "qwen3, window": ("qwen3", WINDOW),
    "phimoe, window": ("phimoe", {"sliding_window": 64}),
    "mixtral, window": ("mixtral", {"sliding_window": 64}),
    "starcoder2, window": ("starcoder2", {"sliding_window": 64}),
    "phi3, longrope": ("phi3", {**IDS, "rope_parameters": LONG, "original_max_position_embeddings": 4096}),
    "llama, dynamic positions": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "llama, yarn": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 512,
            }
        },
    ),
    "lfm2, convolutions": ("lfm2", {"layer_types": ["conv", "conv", "full_attention", "conv"], "num_hidden_layers": 4}),
    "granitemoehybrid, attention only": ("granitemoehybrid", {"layer_types": ["attention"] * 32}),
    "falcon, alibi": ("falcon", {"alibi": True, "new_decoder_architecture": False, "num_attention_heads": 8}),
    "falcon, grouped heads": (
        "falcon",
        {"new_decoder_architecture": True, "num_kv_heads": 8, "num_attention_heads": 16},
    ),
    "gemma2, no softcap": ("gemma2", {"attn_logit_softcapping": None}),
    "granite, scaled logits": ("granite", {"logits_scaling": 4.0, "attention_multiplier": 0.3}),
    "bert, decoder": ("bert", {"is_decoder": True}),
}


def decoder_types() -> list[str]:
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def config_of(name: str) -> PretrainedConfig:
    """The config of a decoder type, or of one of the features."""
    kind, changes = FEATURES.get(name, (name, COMPLETED.get(name, {})))
    return CONFIG_MAPPING[kind](**changes)


LENGTHS = [50, 33, 33, 20, 9, 2, 50]


def tokens(config: PretrainedConfig) -> list[Tensor]:
    """Other sequences than those that the comparison at loading time takes."""
    return sequences(config, LENGTHS, seed=7)


def own(path: str, parts: list[Tensor], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Log-probs and the gradient of their weighted sum, each sequence alone through a plain model loaded anew."""
    logps, gradient = [], None
    for number, part in enumerate(parts):
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, attn_implementation="eager", experts_implementation="eager"
        ).eval()
        logits = model(input_ids=part[None], use_cache=False).logits[0, :-1].double()
        logps.append(logits.log_softmax(-1).gather(1, part[1:, None])[:, 0])
        (logps[-1] * weights(len(part) - 1, number)).sum().backward()
        flat = gradient_of(model)
        gradient = flat if gradient is None else gradient + flat
    return torch.cat(logps).detach(), gradient


def weights(count: int, seed: int) -> Tensor:
    return torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradient_of(model: torch.nn.Module) -> Tensor:
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in model.parameters()])


def ours(policy: Policy, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The same by the policy, all sequences in one pack."""
    total, logps = together(policy, parts, torch.cat([weights(len(part) - 1, i) for i, part in enumerate(parts)]))
    total.backward()
    return logps, gradient_of(policy.model)


AMOUNT = r" \(?by [0-9.e+-]+ (nats|%)\)?"
UNBUILT = {
    "blt": "its small copy has hundreds of millions of weights",
    "gemma3n": "needs the library timm",
    "git": "answers to images",
    "mllama": "answers to images",
    "moshi": "speaks in audio tokens",
    "musicgen": "makes audio tokens",
    "musicgen_melody": "makes audio tokens",
}
"""Types that this table does not try."""


@dataclass(frozen=True)
class Verdict:
    name: str
    way: str
    reason: str = ""
    exact: bool = False

    def row(self) -> str:
        """The table's, without amounts, which are another machine's business."""
        return f"| {self.name} | {self.way} | {re.sub(AMOUNT, '', self.reason)} |"


def verdict(name: str, folder: Path) -> Verdict:
    """How a miniature of a type is run, and whether that is exact against a plain model loaded anew."""
    if name in UNBUILT:
        return Verdict(name, "not tried", UNBUILT[name], True)
    try:
        config = miniature(config_of(name))
        build(config, "eager").save_pretrained(folder)
    except Exception as error:
        return Verdict(
            name, "not tried", f"transformers builds none from its default config ({type(error).__name__})", True
        )
    way = way_of(config, Policy)
    try:
        policy = load_policy(str(folder), ModelOverrides(), dtype=torch.float64)
    except Exception as error:
        reason = way.reason if way.name == "refused" else f"{type(error).__name__}: {error}"
        return Verdict(name, "refused", " ".join(reason.split())[:150])
    parts = tokens(config)
    (logps, gradient), (expected, theirs) = ours(policy, parts), own(str(folder), parts)
    near = float((logps - expected).abs().max()) < 5e-5
    exact = near and float((gradient - theirs).norm() / theirs.norm()) < 2e-4
    return Verdict(name, "one by one" if policy.one_by_one else "packed", way.reason, exact)


def main() -> None:
    """Print the table's rows, for docs/reference/architectures.md."""
    for name in [*decoder_types(), *FEATURES]:
        with tempfile.TemporaryDirectory() as folder:
            found = verdict(name, Path(folder))
        print(found.row() if found.exact or found.way == "refused" else f"WRONG {found}", flush=True)
        gc.collect()


if __name__ == "__main__":
    sys.exit(main())
