"""A checkpoint is whole or it is not used; another world size can read it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_on_ranks
from tiny_models import tiny_policy
from torch.distributed.checkpoint import FileSystemReader

from redi_ray.config.training import LoraSettings, TrainSettings
from redi_ray.modeling.lora import add_lora
from redi_ray.modeling.policy import Policy
from redi_ray.train.checkpoint import Checkpointer, CheckpointError
from redi_ray.train.distributed import Distributed
from redi_ray.train.optim import make_optimizer
from redi_ray.train.shard import shard_policy
from redi_ray.train.stores import LocalStore

SETTINGS = TrainSettings(learning_rate=0.01)


def checkpointer(root: Path, fingerprint: dict[str, str] | None = None, **options: Any) -> Checkpointer:
    return Checkpointer(LocalStore(root), fingerprint or {"data": "d"}, distributed=Distributed(), **options)


def trained(steps: int, policy: Policy | None = None) -> tuple[Policy, torch.optim.Optimizer]:
    """A policy after some optimizer steps on made-up gradients, the same in every process and at every world size."""
    policy = policy or tiny_policy()
    optimizer = make_optimizer(policy, SETTINGS)
    step_on(policy, optimizer, steps)
    return policy, optimizer


def step_on(policy: Policy, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        for p in policy.parameters():
            if p.requires_grad:
                p.grad = (p.detach() * 0.5 + 0.01).clone()
        optimizer.step()


def weights(policy: Policy) -> list[torch.Tensor]:
    return [p.detach().clone() for p in policy.parameters()]


def assert_equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    assert len(one) == len(other)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def newest(root: Path) -> Path:
    return max(root.iterdir())


def test_training_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    """Weights, both moments and the step count come back: three more steps end at the same bits."""
    policy, optimizer = trained(2)
    checkpointer(tmp_path).save(policy, optimizer, 2, {"note": [1, 2]})
    step_on(policy, optimizer, 3)
    fresh, fresh_optimizer = trained(0)
    restored = checkpointer(tmp_path).load(fresh, fresh_optimizer)
    assert restored is not None
    assert (restored.step, restored.state) == (2, {"note": [1, 2]})
    step_on(fresh, fresh_optimizer, 3)
    assert_equal(weights(policy), weights(fresh))


@pytest.mark.parametrize("load", [False, True])
def test_saving_before_the_first_step_changes_nothing(tmp_path: Path, load: bool) -> None:
    """Adam's bias correction counts steps: the checkpoint, and the run that goes on, must still be at none."""
    undisturbed, _ = trained(3)
    policy, optimizer = trained(0)
    checkpointer(tmp_path).save(policy, optimizer, 0, {})
    if load:
        policy, optimizer = trained(0)
        assert checkpointer(tmp_path).load(policy, optimizer)
    step_on(policy, optimizer, 3)
    assert_equal(weights(undisturbed), weights(policy))


def flip_a_bit(folder: Path) -> str:
    path = folder / "__0_0.distcp"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return "__0_0.distcp does not have its SHA-256"


def truncate(folder: Path) -> str:
    path = folder / "__0_0.distcp"
    os.truncate(path, path.stat().st_size - 1)
    return "__0_0.distcp has"


def remove_index(folder: Path) -> str:
    (folder / ".metadata").unlink()
    return ".metadata is missing"


def cut_off(folder: Path) -> str:
    (folder / "files.json").unlink()
    return "the save was cut off"


def change_the_seal(folder: Path) -> str:
    path = folder / "files.json"
    path.write_text(path.read_text().replace('"step": 2', '"step": 3'))
    return "files.json is damaged"


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, remove_index, cut_off, change_the_seal])
def test_damage_falls_back_to_the_one_before(
    tmp_path: Path, damage: Callable[[Path], str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happened to the newest checkpoint, it is named in a warning and the older one is loaded; the next save
    clears the wreck away."""
    monkeypatch.setattr(logging.getLogger("redi_ray"), "propagate", True)
    policy, optimizer = trained(1)
    writer = checkpointer(tmp_path)
    writer.save(policy, optimizer, 1, {})
    before = weights(policy)
    step_on(policy, optimizer, 1)
    writer.save(policy, optimizer, 2, {})
    wreck = newest(tmp_path)
    problem = damage(wreck)

    fresh, fresh_optimizer = trained(0)
    reader = checkpointer(tmp_path)
    restored = reader.load(fresh, fresh_optimizer)
    assert restored is not None
    assert restored.step == 1
    assert_equal(before, weights(fresh))
    assert wreck.name in caplog.text
    assert problem in caplog.text
    reader.save(fresh, fresh_optimizer, 2, {})
    assert not wreck.exists()


def test_nothing_valid_starts_afresh(tmp_path: Path) -> None:
    policy, optimizer = trained(1)
    checkpointer(tmp_path).save(policy, optimizer, 1, {})
    flip_a_bit(newest(tmp_path))
    fresh, fresh_optimizer = trained(0)
    before = weights(fresh)
    assert checkpointer(tmp_path).load(fresh, fresh_optimizer) is None
    assert checkpointer(tmp_path / "empty").load(fresh, fresh_optimizer) is None
    assert_equal(before, weights(fresh))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    policy, optimizer = trained(1)
    checkpointer(tmp_path, {"data": "a", "settings": "s"}).save(policy, optimizer, 1, {})
    with pytest.raises(CheckpointError, match=r"\(data differ\)"):
        checkpointer(tmp_path, {"data": "b", "settings": "s"}).load(policy, optimizer)


def test_retention(tmp_path: Path) -> None:
    """The newest ones, and for a rollback what reaches back beyond the horizon, however often it was saved."""
    policy, optimizer = trained(0)
    kept = []
    writer = checkpointer(tmp_path, keep_last=1, horizon=10)
    for step in (0, 4, 8, 12, 16, 20):
        writer.save(policy, optimizer, step, {})
        kept.append(sorted(int(p.name[5:13]) for p in tmp_path.iterdir()))
    assert kept == [[0], [0, 4], [0, 4, 8], [0, 4, 8, 12], [4, 8, 12, 16], [8, 12, 16, 20]]
    restored = writer.load(policy, optimizer, at_most=11)
    assert restored is not None
    assert restored.step == 8
    checkpointer(tmp_path, keep_last=2).save(policy, optimizer, 24, {})
    assert sorted(int(p.name[5:13]) for p in tmp_path.iterdir()) == [20, 24]


def test_the_best_is_kept_besides_the_newest(tmp_path: Path) -> None:
    """By the highest value, the earliest of equals; a checkpoint where it was not measured, or is no number, does not compete."""
    policy, optimizer = trained(0)
    writer = checkpointer(tmp_path, keep_last=1, keep_best="dev_accuracy")
    kept = []
    for step, value in ((2, 0.5), (4, None), (6, 0.7), (8, 0.7), (10, float("nan")), (12, 0.6), (14, 0.9)):
        metrics = {"loss": 1.0} | ({} if value is None else {"dev_accuracy": value})
        writer.save(policy, optimizer, step, {"metrics": metrics})
        kept.append(sorted(int(p.name[5:13]) for p in tmp_path.iterdir()))
    assert kept == [[2], [2, 4], [6], [6, 8], [6, 10], [6, 12], [14]]
    assert writer.best() == (newest(tmp_path).name, 0.9)
    assert checkpointer(tmp_path).best() is None


def test_a_damaged_checkpoint_is_not_the_best(tmp_path: Path) -> None:
    policy, optimizer = trained(0)
    writer = checkpointer(tmp_path, keep_best="margin")
    for step in (1, 2):
        writer.save(policy, optimizer, step, {"metrics": {"margin": float(step)}})
    change_the_seal(newest(tmp_path))
    best = writer.best()
    assert best is not None
    assert best[0].startswith("step-00000001")


def test_frozen_weights_are_not_saved(tmp_path: Path) -> None:
    """Under LoRA a checkpoint holds the adapters only, and restores them."""

    def adapted() -> Policy:
        policy = tiny_policy()
        torch.manual_seed(1)
        add_lora(policy.model, LoraSettings(rank=2))
        return policy

    policy, optimizer = trained(2, adapted())
    checkpointer(tmp_path).save(policy, optimizer, 2, {})
    saved = FileSystemReader(newest(tmp_path)).read_metadata().state_dict_metadata
    assert saved
    assert all("lora_" in name or "param_groups" in name for name in saved)
    fresh, fresh_optimizer = trained(0, adapted())
    assert checkpointer(tmp_path).load(fresh, fresh_optimizer) is not None
    assert_equal(weights(policy), weights(fresh))


def rank_process(rank: int, world_size: int, folder: str) -> None:
    """Load what one process saved, go on, save again."""
    who = Distributed(rank, world_size, local_rank=rank, local_world_size=world_size)
    policy = tiny_policy()
    shard_policy(policy, world_size=world_size)
    optimizer = make_optimizer(policy, SETTINGS)
    store = Checkpointer(LocalStore(Path(folder) / "checkpoints"), {}, distributed=who)
    restored = store.load(policy, optimizer)
    assert restored is not None
    step_on(policy, optimizer, 2)
    store.save(policy, optimizer, restored.step + 2, {})


def test_another_world_size_reads_it(tmp_path: Path) -> None:
    """Saved by one process, loaded and saved by two (sharded), loaded by one: as if nothing had been in between."""
    policy, optimizer = trained(2)
    root = tmp_path / "checkpoints"
    Checkpointer(LocalStore(root), {}, distributed=Distributed()).save(policy, optimizer, 2, {})
    run_on_ranks(rank_process, 2, str(tmp_path))
    seal = json.loads((newest(root) / "files.json").read_text())
    assert set(seal["files"]) == {"__0_0.distcp", "__1_0.distcp", ".metadata"}
    fresh, fresh_optimizer = trained(0)
    restored = Checkpointer(LocalStore(root), {}, distributed=Distributed()).load(fresh, fresh_optimizer)
    assert restored is not None
    assert restored.step == 4
    step_on(fresh, fresh_optimizer, 1)
    step_on(policy, optimizer, 3)
    assert_equal(weights(policy), weights(fresh))
