"""What a narrow export leaves of a training's update is measured, and stage 2 does not start from less."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import tiny_policy
from transformers import AutoModelForCausalLM

from redi_ray.modeling.export import export_policy
from redi_ray.modeling.rounding import rounding_of
from redi_ray.modeling.tokenizer import character_tokenizer


def test_by_hand(tmp_path: Path) -> None:
    """Around 1 the last bit of bfloat16 is 1 / 128: an update of 0.001 is gone, one of 0.01 rounded to it, half of them each."""
    save_file(
        {
            "w": torch.ones(4),
            "other": torch.ones(2),
            "ids": torch.ones(2, dtype=torch.int64),
            "scaled": torch.ones(2).to(torch.float8_e4m3fn),
        },
        tmp_path / "model.safetensors",
    )
    trained = {
        "w": torch.tensor([1.0, 1.001, 1.01, 0.9]),
        "unknown": torch.ones(3),
        "ids": torch.zeros(2, dtype=torch.int64),
        "scaled": torch.zeros(2),
    }
    found = rounding_of(trained, str(tmp_path), torch.bfloat16)
    assert found is not None
    update = torch.tensor([0.0, 0.001, 0.01, -0.1], dtype=torch.float64)
    rounded = torch.tensor([0.0, 0.0, 1 / 128, 0.8984375 - 1], dtype=torch.float64)
    assert (found.moved, found.kept) == (3, pytest.approx(2 / 3))
    assert found.cosine == pytest.approx(float(torch.cosine_similarity(update, rounded, dim=0)), abs=1e-5)
    assert rounding_of({"x": torch.ones(1)}, str(tmp_path), torch.bfloat16) is None
    still = rounding_of({"w": torch.ones(4)}, str(tmp_path), torch.bfloat16)
    assert still is not None
    assert (still.moved, still.kept, still.cosine) == (0, 1.0, 1.0)


@pytest.mark.parametrize(("step", "least", "most"), [(1e-6, 0.0, 0.1), (1e-1, 0.95, 1.0)])
def test_of_a_model(tmp_path: Path, step: float, least: float, most: float) -> None:
    """Every weight moves by `step`: of small steps little is left, of large ones nearly all."""
    policy, tokenizer = tiny_policy(True, torch.float32), character_tokenizer("0123456789")
    assert export_policy(policy, tmp_path / "start", tokenizer=tokenizer) is None
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(step)
    options = {"tokenizer": tokenizer, "dtype": torch.bfloat16, "start": str(tmp_path / "start")}
    found = export_policy(policy, tmp_path / "end", **options)
    assert found is not None
    assert found.moved > 0.9 * sum(p.numel() for p in policy.parameters())
    assert least <= found.kept <= most
    before, after = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("start", "end"))
    pairs = list(zip(before.parameters(), after.parameters(), strict=True))
    differing = sum(int((a.bfloat16() != b).sum()) for a, b in pairs)
    assert found.kept * found.moved == pytest.approx(differing, abs=2)
