"""Small Qwen2 models with random weights, saved as Hugging Face folders that transformers and vLLM load."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from redi_ray.modeling.older_readers import write_older_forms


class ArchitectureLike(Protocol):
    """Sizes of a decoder; see `redi_ray.config.experiment.Architecture`."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def num_kv_heads(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def max_position_embeddings(self) -> int: ...
    @property
    def seed(self) -> int: ...


def save_scratch_model(architecture: ArchitectureLike, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> int:
    """Write a randomly initialised model with its tokenizer; returns the number of parameters."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.num_heads,
        num_key_value_heads=architecture.num_kv_heads,
        intermediate_size=architecture.intermediate_size,
        max_position_embeddings=architecture.max_position_embeddings,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        dtype="float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(architecture.seed)
        model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_older_forms(folder, tokenizer)
    return sum(parameter.numel() for parameter in model.parameters())
