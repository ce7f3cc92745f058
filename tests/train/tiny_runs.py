"""A tiny model and pairs on disk, for the tests that train from folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from tiny_models import VOCABULARY, tiny_store

from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.train.monitors import read_metrics

ALPHABET = "".join(chr(ord("0") + i) for i in range(VOCABULARY - 8))
SIZES = SimpleNamespace(
    hidden_size=64,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    intermediate_size=128,
    max_position_embeddings=64,
    seed=0,
)


def write_inputs(folder: Path, num_pairs: int = 40) -> tuple[str, str]:
    """A Qwen2 of 2 layers x 64 with its tokenizer, and pairs; returns both folders."""
    model, sequences = folder / "model", folder / "sequences"
    tokenizer = character_tokenizer(ALPHABET)
    assert len(tokenizer) >= VOCABULARY
    save_scratch_model(SIZES, tokenizer, model)
    tiny_store(num_pairs).save(sequences)
    return str(model), str(sequences)


PLAIN_SETTINGS = {"learning_rate": 1e-3, "batch_size": 4, "epochs": 8, "tokens_per_pack": 128}
"""80 steps on the pairs of `write_inputs`."""
TOTAL_STEPS = 80


def torchrun(model: str, sequences: str, out: str, settings: str) -> subprocess.Popen[str]:
    """Start `plain_run.py` on two gloo ranks, one thread each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*command, str(Path(__file__).with_name("plain_run.py")), model, sequences, out, settings],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output


def assert_same_run(out: Path, other: Path) -> None:
    """Every step once, the same numbers at every step, the same exported weights: bit for bit."""
    rows, expected = (read_metrics(folder / "metrics.jsonl") for folder in (out, other))
    assert [row["step"] for row in rows] == list(range(TOTAL_STEPS))
    for name in ("loss", "chosen_logp", "grad_norm", "update_norm"):
        assert [row[name] for row in rows] == [row[name] for row in expected], name
    weights, reference = (load_file(folder / "export" / "model.safetensors") for folder in (out, other))
    assert weights.keys() == reference.keys()
    assert all(torch.equal(weights[name], reference[name]) for name in reference)
