"""A decoder's config made small: the same kinds of layers, heads and routers, a few thousand weights, windows of a few tokens.

What an architecture computes is found out on such a copy in a second, whatever the size of the model. Windows, chunks and
top-k shrink too, so that short sequences reach beyond them.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from redi_ray.modeling.sizes import (
    AT_MOST,
    FEWER,
    HEAD_DIM,
    HEADS,
    KEY_VALUE_HEADS,
    LAYERS,
    LENGTH_LIMIT,
    MOST_LAYERS,
    OF_TYPE,
    POSITIONS,
    REACH,
    REACHING,
)  # fmt: skip

SPREAD = 0.15
"""Standard deviation of the copy's weights, at least: with HIDDEN inputs nothing stays nearly uniform."""

SIGHT, NO_SIGHT = (
    re.compile("window|chunk|local_att|top_?k$|extent|span"),
    re.compile("layer|pattern|feed_forward|_k_dense"),
)
NO_PART = frozenset(PretrainedConfig().to_dict()) | {"_name_or_path", "output_attentions", "model_type"}


def miniature(config: PretrainedConfig, vocabulary: int = 199) -> PretrainedConfig:
    """A small config of the same architecture."""
    values = config.to_dict()
    shrink(values, vocabulary)
    return type(config).from_dict(values)


def shrink(values: dict[str, Any], vocabulary: int) -> None:
    """Make a config's dictionary small in place, sub-configs included."""
    layers = next((values[key] for key in LAYERS if isinstance(values.get(key), int)), 0)
    chosen = chosen_layers(values, layers)
    heads = next((values[k] for k in ("num_attention_heads", "n_heads", "num_heads") if values.get(k)), 0)
    for key, value in list(values.items()):
        if isinstance(value, dict) and key.endswith("_config") and key != "per_layer_config":
            shrink(value, vocabulary)
            if not value.get("model_type"):  # a part that is no config of its own knows only its own keys
                values[key] = {k: v for k, v in value.items() if k not in NO_PART}
        elif isinstance(value, list) and len(value) == layers and layers:
            values[key] = [min(v, FEWER[key]) if key in FEWER else v for v in (value[i] for i in chosen)]
        elif key.endswith("_token_id"):
            values[key] = small_ids(value, vocabulary)
        elif isinstance(value, int) and not isinstance(value, bool):
            values[key] = small_number(key, value, len(chosen), heads, vocabulary)
    shrink_positions(values)
    if layered := values.get("per_layer_config"):
        small = {int(n): {k: min(v, 2 * HEAD_DIM) for k, v in layer.items()} for n, layer in layered.items()}
        values["per_layer_config"] = {n: small[i] for n, i in enumerate(chosen) if i in small}
    if values.get("head_dim") is not None and "qk_rope_head_dim" in values:
        values["head_dim"] = values["qk_rope_head_dim"]
    values |= {k: v for k, v in OF_TYPE.get(values.get("model_type", ""), {}).items() if k in values}


def small_number(key: str, value: int, layers: int, heads: int, vocabulary: int) -> int:
    """A count of a config made small; what is not known stays."""
    if key in LAYERS:
        return min(value, layers)
    if key in KEY_VALUE_HEADS:
        return 1 if value == 1 else min(HEADS, heads or HEADS) if value >= heads else 2
    if key in ("vocab_size", "decoder_vocab_size"):
        return min(value, vocabulary)
    return min(value, FEWER.get(key, AT_MOST.get(key, REACH if limits_sight(key) else value)))


def limits_sight(key: str) -> bool:
    """Whether a config key counts tokens that a layer looks at, under a name of ours or under one that says so."""
    return key in REACHING or (key not in FEWER and bool(SIGHT.search(key)) and not NO_SIGHT.search(key))


def small_ids(value: Any, vocabulary: int) -> Any:
    """Token ids within the vocabulary."""
    if isinstance(value, list):
        return [small_ids(v, vocabulary) for v in value]
    return value % vocabulary if isinstance(value, int) and value >= vocabulary else value


def chosen_layers(values: dict[str, Any], layers: int) -> list[int]:
    """Numbers of the layers that the copy has: from the first on until every kind has been there, or, where that takes too
    many, the first of each kind. Kinds are told by the lists that have a value per layer."""
    lists = [v for v in values.values() if isinstance(v, list) and len(v) == layers and layers]
    lists = [v for v in lists if all(isinstance(kind, str | int) for kind in v)]
    lists.sort(key=lambda v: not isinstance(v[0], str))  # names tell more than numbers
    firsts = [value.index(kind) for value in lists for kind in dict.fromkeys(value)]
    needed = max(min(2, layers), *(first + 1 for first in firsts), 0)
    if values.get("num_kv_shared_layers"):
        needed += 2
    for period in ("attn_layer_period", "no_rope_layer_interval", "global_attn_every_n_layers"):
        needed = max(needed, values.get(period) or 0)
    return sorted(list(dict.fromkeys([*firsts, *range(min(needed, layers))]))[:MOST_LAYERS])


def shrink_positions(values: dict[str, Any]) -> None:
    """Let position embeddings that depend on the longest position change within the copy's sequences."""
    for rope in (values.get("rope_parameters"), values.get("rope_scaling")):
        for part in [rope, *(rope.values() if isinstance(rope, dict) else ())]:
            if not isinstance(part, dict):
                continue
            if "original_max_position_embeddings" in part:
                part["original_max_position_embeddings"] = LENGTH_LIMIT
            for factor in ("short_factor", "long_factor"):
                if isinstance(part.get(factor), list):
                    part[factor] = part[factor][: rotary_pairs(values, part)]
            if part.get("rope_type") == "dynamic":
                values["max_position_embeddings"] = LENGTH_LIMIT
    if values.get("original_max_position_embeddings"):
        values["original_max_position_embeddings"] = LENGTH_LIMIT


def rotary_pairs(values: dict[str, Any], rope: dict[str, Any]) -> int:
    """Frequencies of the copy's rotary embeddings, which have factors of their own in "longrope"."""
    share = rope.get("partial_rotary_factor") or values.get("partial_rotary_factor") or 1.0
    return int(values.get("qk_rope_head_dim", HEAD_DIM) * share) // 2


def reach(config: PretrainedConfig) -> int:
    """Tokens after which the last of a config's windows, chunks and top-k tells."""
    values, found = config.to_dict(), [0]
    nested = [values, *(v for k, v in values.items() if isinstance(v, dict))]
    nested += [v for part in nested for v in part.values() if isinstance(v, dict)]
    for part in nested:
        found += [v for k, v in part.items() if isinstance(v, int) and limits_sight(k)]
        if isinstance(part.get("original_max_position_embeddings"), int):
            found.append(part["original_max_position_embeddings"])
    if is_dynamic(values):
        found += [part["max_position_embeddings"] for part in nested if part.get("max_position_embeddings")]
    return max(found)


def room(config: PretrainedConfig) -> int:
    """Longest sequence that a config has positions for."""
    values = config.get_text_config().to_dict()
    limits = [values[k] for k, v in FEWER.items() if v == POSITIONS and isinstance(values.get(k), int)]
    return 1 << 30 if is_dynamic(values) or not limits else min(limits)


def is_dynamic(values: dict[str, Any]) -> bool:
    """Whether rotary embeddings grow with the longest position beyond `max_position_embeddings`."""
    return "'rope_type': 'dynamic'" in str(values)


def build(config: PretrainedConfig, attention: str, trust_remote_code: bool = False) -> PreTrainedModel:
    """A model with random weights in float64, the same ones at every call, larger than usual so that mistakes show."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(
            copy.deepcopy(config),
            attn_implementation=attention,
            dtype=torch.float64,
            experts_implementation="eager",
            trust_remote_code=trust_remote_code,
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim >= 2 and 0 < (spread := float(parameter.std())) < SPREAD:
                    parameter.mul_(SPREAD / spread)
                elif name.endswith("bias") or "sink" in name:
                    parameter.normal_(0, 0.3)
    return model.eval()
