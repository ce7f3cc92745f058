"""Dropout that a model's config brings along: off unless asked for, since log-probs are compared with a reference's.

With it the policy differs from its own reference before the first step (DPO does not start at log 2), and the pass that
scores sees another network than the one that takes the gradient.
"""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

MARKS = ("dropout", "drop_rate", "pdrop", "layerdrop", "attn_drop")
"""Parts of the names of config keys that make a training-mode forward pass random, and do nothing else. PhiMoE's
`router_jitter_noise` is a threshold, too, and stays: routers are kept out of training mode (`Policy.train`)."""


def random_parts(config: PretrainedConfig, prefix: str = "") -> dict[str, float]:
    """Every dropout and layer drop of a config that is on, by its path in the config, sub-configs too."""
    found: dict[str, float] = {}
    for name, value in list(vars(config).items()):
        if isinstance(value, PretrainedConfig):
            found |= random_parts(value, f"{prefix}{name}.")
        elif isinstance(value, float) and value and any(mark in name for mark in MARKS):
            found[prefix + name] = value
    return found


def silence(config: PretrainedConfig) -> dict[str, float]:
    """Set all that `random_parts` finds to 0 in place -> what they were."""
    found = random_parts(config)
    _set(config, dict.fromkeys(found, 0.0))
    return found


def restore(config: PretrainedConfig, found: dict[str, float]) -> None:
    """Undo `silence` in place."""
    _set(config, found)


def _set(config: PretrainedConfig, values: dict[str, float]) -> None:
    for path, value in values.items():
        *parents, name = path.split(".")
        owner: Any = config
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, value)
