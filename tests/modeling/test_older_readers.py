"""Both versions of transformers read an export: 5 as the very model, 4 by the names that it knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_config
from transformers import (
    AutoConfig,
    AutoTokenizer,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    ModernBertDecoderConfig,
    PreTrainedTokenizerFast,
    Qwen2ForCausalLM,
)

from redi_ray.modeling.attention import NAME
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.older_readers import older_config, write_older_forms
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.tokenizer import CHAT_TEMPLATE, character_tokenizer, tokenizer_fingerprints

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


def saved(config: object, folder: Path) -> dict:
    config.save_pretrained(folder)  # type: ignore[attr-defined]
    write_older_forms(folder, None)
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(rope_parameters={"rope_theta": 500000.0, "rope_type": "default"}), {"rope_theta": 500000.0}),
        (
            LlamaConfig(rope_parameters={"rope_theta": 500000.0, **LLAMA3}),
            {"rope_theta": 500000.0, "rope_scaling": LLAMA3},
        ),
        (
            Gemma3TextConfig(),
            {"rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0},
        ),
        (
            GPTNeoXConfig(rope_parameters={"rope_theta": 5e5, "rope_type": "default", "partial_rotary_factor": 1.0}),
            {"rotary_emb_base": 5e5, "rotary_pct": 1.0},
        ),
        (ModernBertDecoderConfig(), {"global_rope_theta": 160_000.0, "local_rope_theta": 10_000.0}),
    ],
    ids=["plain", "scaled", "per-layer", "own-names", "own-names-per-layer"],
)  # fmt: skip
def test_the_rotary_embedding_is_written_both_ways(tmp_path: Path, config: object, expected: dict) -> None:
    found = saved(config, tmp_path)
    assert {name: found.get(name) for name in expected} == expected
    assert ("rope_scaling" in found) == ("rope_scaling" in expected)
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.rope_parameters == config.rope_parameters  # type: ignore[attr-defined]


def test_nested_configs_and_partial_rotation() -> None:
    text = {
        "rope_parameters": {"rope_theta": 5.0, "rope_type": "default", "partial_rotary_factor": 0.5},
        "dtype": "bfloat16",
    }
    assert older_config({"model_type": "x", "text_config": text})["text_config"] == {
        **text,
        "rope_theta": 5.0,
        "partial_rotary_factor": 0.5,
        "torch_dtype": "bfloat16",
    }


@pytest.mark.parametrize("generic", [False, True])
def test_an_export_keeps_its_tokenizer_and_its_base(tmp_path: Path, generic: bool) -> None:
    """rope_theta other than the default, a tokenizer of a class of its own or of version 5's generic one."""
    config, model = tiny_config(), Qwen2ForCausalLM
    if generic:
        sizes = {name: getattr(config, name) for name in ("vocab_size", "hidden_size", "num_attention_heads")}
        config, model = LlamaConfig(**sizes, intermediate_size=64, num_hidden_layers=1), LlamaForCausalLM
    config.rope_parameters = {"rope_theta": 500000.0, "rope_type": "default"}
    config._attn_implementation = NAME
    tokenizer = character_tokenizer("0123456789")
    if generic:
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer,
            eos_token="<|end|>",
            pad_token="<|pad|>",
            extra_special_tokens=["<|user|>"],
            chat_template=CHAT_TEMPLATE,
        )
    export_policy(Policy(model(config)), tmp_path / "export", tokenizer=tokenizer, dtype=torch.bfloat16)
    found, told = (
        json.loads((tmp_path / "export" / name).read_text()) for name in ("config.json", "tokenizer_config.json")
    )
    assert (found["rope_theta"], found["rope_parameters"]["rope_theta"]) == (500000.0, 500000.0)
    assert (found["dtype"], found["torch_dtype"]) == ("bfloat16", "bfloat16")
    assert told["tokenizer_class"] == ("PreTrainedTokenizerFast" if generic else "Qwen2Tokenizer")
    assert "extra_special_tokens" not in told
    assert "<|user|>" in told["additional_special_tokens"]
    again = AutoTokenizer.from_pretrained(tmp_path / "export")
    assert tokenizer_fingerprints(again) == tokenizer_fingerprints(tokenizer)
    assert set(tokenizer.all_special_tokens) == set(again.all_special_tokens)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_llama_tokenizer_reads_as_before(tmp_path: Path, legacy: bool) -> None:
    """`legacy` decides whether a word behind a special token gets a space in front; transformers saves it for nobody."""
    vocabulary = {token: number for number, token in enumerate(["<unk>", "<s>", "</s>", "\u2581", "a", "\u2581a"])}
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=[("\u2581", "a")], legacy=legacy)
    tokenizer.chat_template = CHAT_TEMPLATE
    config = LlamaConfig(vocab_size=6, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4)
    config._attn_implementation = NAME
    export_policy(Policy(LlamaForCausalLM(config)), tmp_path / "export", tokenizer=tokenizer)
    again = AutoTokenizer.from_pretrained(tmp_path / "export")
    assert again("a</s>a")["input_ids"] == tokenizer("a</s>a")["input_ids"]
    assert len(again("a</s>a", add_special_tokens=False)["input_ids"]) == 3
    assert tokenizer_fingerprints(again) == tokenizer_fingerprints(tokenizer)
