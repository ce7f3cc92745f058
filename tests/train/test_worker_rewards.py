"""One rank's work on a reward model: from a language model's folder to one that a further training, and a scorer, start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import write_inputs

from redi_ray.config.reward_objectives import BradleyTerryObjective, OutcomeBceObjective
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.modeling.rewards import load_reward_policy, values_told
from redi_ray.train.distributed import Distributed
from redi_ray.train.loop import Hooks
from redi_ray.train.monitors import read_metrics
from redi_ray.train.on_ray.launch import read_outcome
from redi_ray.train.on_ray.orders import Orders
from redi_ray.train.on_ray.worker import train_and_export


def work(orders: Orders, scratch: Path) -> str:
    scratch.mkdir()
    assert train_and_export(orders, Distributed(), scratch, Hooks()) == "done"
    outcome = read_outcome(orders.out_uri)
    assert outcome is not None
    return outcome.export_uri


def test_a_reward_model_is_trained_and_trained_on(tmp_path: Path) -> None:
    model, sequences = write_inputs(tmp_path)
    orders = Orders(
        model_path=model,
        overrides=ModelOverrides(),
        sequences_uri=sequences,
        mismatched_uri=None,
        objective=BradleyTerryObjective(),
        settings=TrainSettings(learning_rate=1e-2, batch_size=4, epochs=2, tokens_per_pack=128),
        out_uri=str(tmp_path / "first"),
        name="rm",
        threads=1,
        trackers=(),
        watch_nodes=False,
    )
    first = work(orders, tmp_path / "1")
    steps = read_metrics(tmp_path / "first" / "metrics.jsonl")
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-4), "a head of zeros"
    assert steps[-1]["chosen_logp"] is None
    assert {"chosen_value", "rejected_value", "pair_accuracy"} <= steps[-1].keys()
    trained = load_reward_policy(first, ModelOverrides())
    assert values_told(trained.model.config, first) == {"objective": "bradley_terry", "link": "identity", "at": "last"}

    settings = replace(orders.settings, max_steps=1, learning_rate=1e-9)
    again = replace(
        orders,
        model_path=first,
        objective=OutcomeBceObjective(head_init="normal"),
        settings=settings,
        out_uri=str(tmp_path / "second"),
    )
    second = work(again, tmp_path / "2")
    heads = [load_file(Path(folder) / "model.safetensors")["score.weight"] for folder in (first, second)]
    torch.testing.assert_close(*heads, atol=1e-6, rtol=0), "it keeps the head that it starts from"
