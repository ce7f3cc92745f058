"""Parameter counts: the planner's formula against models that transformers builds, and against published totals."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import tiny_config, tiny_model
from transformers import LlamaConfig, MixtralConfig, Phi3Config, PretrainedConfig, Qwen2Config, Qwen3Config

from redi_ray.config.student import Architecture
from redi_ray.config.training import LoraSettings
from redi_ray.modeling.lora import add_lora
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.plan.errors import PlanError
from redi_ray.plan.shapes import (
    EXAMPLE,
    TABLE,
    ModelShape,
    count_parameters,
    parse_shape,
    scratch_shape,
    shape_of,
    shape_of_config,
)

SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "vocab_size": 97,
}


@pytest.mark.parametrize(
    "config",
    [
        Qwen2Config(**SIZES, tie_word_embeddings=True),
        Qwen2Config(**SIZES, tie_word_embeddings=False),
        Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True),
        LlamaConfig(**SIZES, tie_word_embeddings=False),
        Phi3Config(**SIZES, pad_token_id=0),
    ],
    ids=lambda config: f"{config.model_type}-{'tied' if config.tie_word_embeddings else 'untied'}",
)
def test_parameters_are_those_that_transformers_builds(config: PretrainedConfig):
    """Phi3 has no formula here: it is counted, and its layers are what is left beside embedding and head."""
    shape = shape_of_config("tiny", config)
    assert shape.parameters == count_parameters(config)
    assert (shape.counted is not None) == (config.model_type == "phi3")
    rest = shape.parameters - shape.root_parameters
    assert shape.num_layers * shape.layer_parameters == rest


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-0.5B", 494_032_768),
        ("Qwen/Qwen2.5-Math-1.5B", 1_543_714_304),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-72B", 72_706_203_648),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
    ],
)
def test_the_table_gives_the_totals_that_the_model_cards_publish(name: str, parameters: int):
    assert ModelShape(name=name, **TABLE[name]).parameters == parameters


def test_the_built_in_model_has_as_many_as_it_is_saved_with(tmp_path: Path):
    tokenizer = character_tokenizer("0123456789+-*=")
    saved = save_scratch_model(Architecture(), tokenizer, tmp_path)
    assert scratch_shape("built-in", Architecture(), len(tokenizer)).parameters == saved
    assert shape_of("model.init.path", str(tmp_path)).parameters == saved  # its folder says the same


def test_adapters_are_counted_as_peft_makes_them():
    model = tiny_model()
    add_lora(model, LoraSettings(rank=3))
    made = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert shape_of_config("tiny", tiny_config()).adapter_parameters(3) == made


def test_a_model_that_is_not_at_hand_can_be_described():
    shape = parse_shape(f"some/model:{EXAMPLE},qkv_bias=true")
    assert shape.parameters == ModelShape(name="", **TABLE["Qwen/Qwen2.5-1.5B"]).parameters
    assert shape_of("generate.model", "some/model", {"some/model": shape}) is shape


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: shape_of("model.init.path", "nobody/nothing"), "model.init.path: nobody/nothing is not in the hub's local"),
        (lambda: shape_of("model.init.path", "./nowhere"), "./nowhere holds no config.json"),
        (lambda: parse_shape("m:hidden=3"), "write PATH:"),
        (lambda: parse_shape("m:hidden_size=3,num_heads=1"), "intermediate_size, num_kv_heads, num_layers, vocab_size missing"),
        (lambda: parse_shape(f"m:{EXAMPLE},num_layers=-2"), "num_layers must be a positive number"),
        (lambda: shape_of_config("moe", MixtralConfig()), "mixture of experts"),
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_said(call, told: str):
    with pytest.raises(PlanError, match=told):
        call()
