"""A run of the built-in world that is made in a minute or two, real engine and all; tests add their steps."""

from __future__ import annotations

from typing import Any

SHORT: dict[str, Any] = {"batch_size": 8, "max_steps": 2, "epochs": 1, "max_length": 128}


def small_world(name: str, steps: dict[str, Any], concurrent_steps: int) -> dict[str, Any]:
    """A config: 240 samples of a model that has learnt little, mostly wrong ones."""
    shape = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 2, "intermediate_size": 256}
    return {
        "name": name,
        "problems": {
            "source": {"kind": "arithmetic", "num_problems": 40, "num_test": 8, "num_dev": 8, "min_digits": 2, "max_digits": 3,
                       "misconception_share": 0.3, "misconception_rate": 0.8},
        },
        "generate": {"kind": "vllm", "model": "base", "samples_per_round": 6, "max_rounds": 1, "max_tokens": 40,
                     "shard_rows": 48},
        "model": {
            "init": {
                "kind": "arithmetic", "corpus_size": 3000, "architecture": shape,
                "train": {"learning_rate": 3e-3, "batch_size": 16, "epochs": 1, "max_length": 128, "tokens_per_pack": 4096},
            },
        },
        "sft": {"train": {**SHORT, "learning_rate": 5e-4}},
        "redi": {"arms": {}, "train": {**SHORT, "learning_rate": 1e-4}},
        "steps": steps,
        "evaluate": {"benchmarks": []},
        "resources": {
            "concurrent_steps": concurrent_steps, "ray": {"num_cpus": 5}, "verify_workers": 1, "curate_workers": 1,
            "trainer": {"num_workers": 1}, "engine": {"device": "cpu", "dtype": "float32", "max_model_len": 128},
        },
    }  # fmt: skip
