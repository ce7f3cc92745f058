"""What stage 1 begins with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from redi_ray.config.load import load_config
from redi_ray.config.student import Architecture
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.stages.model import base
from redi_ray.stages.references import start_of
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest


def test_the_built_in_base_is_kept_in_float32_beside_a_narrower_export(ray_session: None, tmp_path: Path) -> None:
    """Stage 1 starts from it: on GPUs, where exports are bfloat16, it would begin with rounded weights."""
    small = "{kind: arithmetic, corpus_size: 32, train: {batch_size: 16, max_steps: 2, export_dtype: bfloat16}}"
    run = Run.of(load_config("configs/demo.yaml", [f"storage.root={tmp_path}", f"model.init={small}"]))
    made = base(run, Manifest("problems", "k", str(tmp_path), {}, {}), None)
    types = {"export": torch.bfloat16, "float32": torch.float32}
    assert start_of(made) == made.facts["float32"] != made.facts["export"]
    for name, dtype in types.items():
        with safe_open(f"{made.facts[name]}/model.safetensors", framework="pt") as file:
            assert file.get_tensor("model.embed_tokens.weight").dtype == dtype
    assert made.facts["rounding"]["dtype"] == "bfloat16"


def test_a_model_that_moves_with_its_project_is_read_where_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key holds the path as the config has it and what lies there, so that the base is reused, and the old folder is gone."""
    changes = ["storage.root=runs", "model.init={kind: pretrained, path: ./model}"]
    config, alphabet = load_config("configs/demo.yaml", changes), "".join(map(chr, range(10, 127)))
    save_scratch_model(Architecture(num_layers=1), character_tokenizer(alphabet), tmp_path / "old" / "model")
    monkeypatch.chdir(tmp_path / "old")
    made = base(Run.of(config), None, {})
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    moved = base(Run.of(config), None, {})
    assert (moved.key, moved.facts["export"]) == (made.key, str(tmp_path / "new" / "model"))
    assert (tmp_path / "new" / "runs").is_dir()
