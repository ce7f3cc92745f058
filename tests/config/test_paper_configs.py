"""The papers' configs at their real scale load, their steps fit together, and they hold the papers' numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from redi_ray.config.load import load_config
from redi_ray.pipeline.standard import graph_of

PAPER = Path(__file__).resolve().parents[2] / "configs" / "paper"
NUMBERS: dict[str, dict[str, Any]] = {
    "step_dpo_qwen2_7b": {
        "steps.step_dpo.objective.beta": 0.5, "redi.train.learning_rate": 5e-7, "redi.train.lr_schedule": "cosine",
        "redi.train.warmup_ratio": 0.1, "redi.train.batch_size": 128, "redi.train.epochs": 8, "redi.train.max_length": 1024,
        "redi.train.outside_spans": 0, "redi.train.seed": 42,
    },
    "multi_turn_gemma_7b": {
        "steps.m_dpo.objective.beta": 0.1, "repeat.times": 3, "redi.train.learning_rate": 2e-7, "redi.train.batch_size": 32,
        "redi.train.epochs": 1, "redi.train.max_length": 2048, "redi.train.weight_decay": 0.0, "evaluate.tools.max_turns": 6,
        "evaluate.tools.max_turn_tokens": 1024, "steps.own_pairs.max_prompt_tokens": 1000,
        "steps.own_pairs.max_response_tokens": 2048, "steps.own_pairs.per_side": 1,
    },
    "cdpo_llama3_8b": {
        "generate.samples_per_round": 64, "generate.temperature": 0.5, "generate.max_tokens": 1024, "steps.critical.beta": 1.0,
        "steps.often.frequent_answers": 0.5, "steps.cdpo.objective.beta": 0.1, "sft.train.learning_rate": 3e-4,
        "sft.train.batch_size": 6, "redi.train.learning_rate": 4e-5, "redi.train.epochs": 3, "redi.train.weight_decay": 0.01,
        "redi.train.max_length": 1500, "model.overrides.lora.rank": 16, "model.overrides.lora.alpha": 32,
    },
    "oreal_7b": {
        "generate.samples_per_round": 16, "generate.top_p": 0.9, "generate.max_tokens": 14000, "redi.train.learning_rate": 5e-7,
        "redi.train.min_lr_ratio": 0.2, "redi.train.max_steps": 90, "redi.train.batch_size": 64, "steps.oreal.objective.kl": 0.01,
        "steps.oreal.objective.negative": 0.5, "steps.rollouts.per_side": 1,
    },
    "s2r_outcome_qwen2.5_math_7b": {
        "steps.s2r.objective.clip": 0.2, "steps.s2r.objective.kl": 0.15, "steps.between.min_rate": 0.1,
        "steps.between.max_rate": 0.7, "redi.train.learning_rate": 1e-6, "redi.train.max_length": 8192,
    },
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(PAPER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_papers_config_fits_together(path: Path):
    config = load_config(str(path))
    assert len(list(graph_of(config))) > 3
    for place, expected in NUMBERS.get(path.stem, {}).items():
        found: Any = config
        for name in place.split("."):
            found = found[name] if isinstance(found, dict) else getattr(found, name)
        assert found == expected, place
