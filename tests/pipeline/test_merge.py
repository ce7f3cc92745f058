"""A merge is made again when its output would be another, and leaves out no weight of any model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from redi_ray.config.load import parse_config
from redi_ray.pipeline.graph import Step
from redi_ray.pipeline.kinds.merge import MergeError, merge, place
from redi_ray.stages.run import Run


def key(tmp_path: Path, **shares: float) -> str:
    run = Run.of(parse_config({"name": "x", "storage": {"root": str(tmp_path)}}))
    models = {name: run.stage(f"checkpoints/{name}", {}, {}) for name in shares}
    return place(run, Step("soup", "merge", settings=shares), models).key


def test_the_first_model_counts_and_the_order_of_the_others_does_not(tmp_path: Path) -> None:
    """The first one's tokenizer, config and type are the merged model's."""
    first = key(tmp_path, a=1, b=1, c=2)
    assert first == key(tmp_path, a=1, c=2, b=1) == key(tmp_path, a=2, b=2, c=4)
    assert first != key(tmp_path, b=1, a=1, c=2)
    assert first != key(tmp_path, a=2, b=1, c=1)


def test_a_tensor_that_only_another_model_has_is_refused(tmp_path: Path) -> None:
    """But for the second copy of a tied one, and what the config gives anyway."""
    few = {"embed": torch.ones(2, 2), "layer": torch.zeros(3)}
    same = {"lm_head": few["embed"].clone(), "layers.0.rotary_emb.inv_freq": torch.ones(1)}
    for name, tensors in {"few": few, "tied": few | same, "more": few | {"bias": torch.ones(3)}}.items():
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
    places = {name: str(tmp_path / name) for name in ("few", "tied", "more")}
    merge([(places["few"], 0.5), (places["tied"], 0.5)], places["few"], str(tmp_path / "out"))
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == set(few)
    with pytest.raises(MergeError, match=r"more has bias, and .*few has not: they must be of one architecture"):
        merge([(places["few"], 0.5), (places["more"], 0.5)], places["few"], str(tmp_path / "none"))
    with pytest.raises(MergeError, match="differ in bias"):
        merge([(places["few"], 0.5), (places["more"], 0.5)], places["more"], str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
