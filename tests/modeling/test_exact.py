"""How a model may be run is judged on a small copy: it must have whatever the model has."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from redi_ray.modeling.exact import way_of
from redi_ray.modeling.miniature import miniature
from redi_ray.modeling.policy import Policy

SIZES = {"num_hidden_layers": 12, "vocab_size": 300}
IDS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("qwen3_next", {"layer_types": ["full_attention"] * 10 + ["linear_attention"] * 2}, "carry a state"),
        ("minimax", {"layer_types": ["full_attention"] * 10 + ["linear_attention"] * 2}, "differ from its own"),
        ("bamba", {"attn_layer_indices": list(range(10))}, "its small copy has no Bamba"),  # told by no list of layers
    ],
)
def test_layers_that_come_late_are_judged_too(kind: str, changes: dict[str, Any], reason: str):
    """Ten layers of plain attention first: a copy of the first eight would be packed."""
    way = way_of(CONFIG_MAPPING[kind](**SIZES, **changes), Policy)
    assert way.name == "one by one"
    assert reason in way.reason


def test_the_copy_keeps_the_first_layer_of_each_kind():
    types = ["sliding_attention"] * 9 + ["full_attention", "sliding_attention", "chunked_attention"]
    small = miniature(CONFIG_MAPPING["qwen3"](**SIZES, layer_types=types))
    assert small.layer_types == ["sliding_attention"] * 6 + ["full_attention", "chunked_attention"]


@pytest.mark.parametrize(
    ("kind", "changes", "pairs"),
    [("phi3", {"partial_rotary_factor": 0.75, **IDS}, 36), ("minicpm3", {"qk_rope_head_dim": 32}, 16)],
)
def test_longrope_over_a_part_of_a_head_is_judged_on_a_copy(kind: str, changes: dict[str, Any], pairs: int):
    """Phi-4-mini, MiniCPM3: factors are as many as the copy's rotary frequencies."""
    rope = {
        "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 4096, "factor": 4.0,
        "short_factor": [1.0] * pairs, "long_factor": [4.0] * pairs,
    }  # fmt: skip
    way = way_of(CONFIG_MAPPING[kind](rope_parameters=rope, original_max_position_embeddings=4096, **changes), Policy)
    assert way.settled
    assert "differ from its own" in way.reason
