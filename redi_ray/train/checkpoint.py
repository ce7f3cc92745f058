"""Checkpoints that are known to be whole: written by torch.distributed.checkpoint, sealed by a list of SHA-256 sums.

    <root>/step-00000120.5f3a9c/__0_0.distcp ...   each rank's shards of the policy and of the optimizer
    <root>/step-00000120.5f3a9c/.metadata          which tensor is where; another world size can load it
    <root>/step-00000120.5f3a9c/files.json         written last: step, fingerprint, state, and every file's sum

Without `files.json` a folder is no checkpoint. On load every sum is compared (the format has none of its own, a flipped
bit would load silently); a damaged checkpoint is named in a warning and the next older one is taken. The random ending
keeps attempts apart that write the same step.
"""

from __future__ import annotations

import logging
import math
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from redi_ray.errors import StorageError, explain
from redi_ray.train.distributed import Distributed, barrier, from_all_ranks, from_rank_zero, has_group
from redi_ray.train.seals import checksum, read_seal, write_seal
from redi_ray.train.stores import SEAL, CheckpointStore

log = logging.getLogger("redi_ray")


class CheckpointError(RuntimeError):
    """A checkpoint belongs to another run; the message says in what it differs."""


@dataclass(frozen=True)
class Restored:
    """What `load` found: the number of steps done, and the loop's own state at that point."""

    step: int
    state: dict[str, Any]
    name: str


class Checkpointer:
    """Saves and loads policy + optimizer + state. Every method is a collective: all ranks call it together.

    fingerprint: what a checkpoint must agree in to be resumed from (hashes of settings, data, model). `world_size` may
        differ: the state is resharded, the run goes on, only no longer bit for bit.
    keep_last: complete checkpoints kept.
    keep_best: a metric; the checkpoint with its highest value is kept too. Those where it was not measured do not compete,
        nor those whose state says that they are `extra`.
    horizon: for a rollback, all of the newest so many steps are kept too, and the one before them.
    """

    def __init__(
        self,
        store: CheckpointStore,
        fingerprint: Mapping[str, Any],
        *,
        distributed: Distributed,
        keep_last: int = 2,
        keep_best: str | None = None,
        horizon: int | None = None,
    ) -> None:
        self.store, self.distributed = store, distributed
        self.fingerprint = {**fingerprint, "world_size": distributed.world_size}
        self.keep_last, self.keep_best, self.horizon = keep_last, keep_best, horizon
        self.damaged: set[str] = set()

    def save(self, policy: nn.Module, optimizer: torch.optim.Optimizer, step: int, state: Mapping[str, Any]) -> str:
        """Write a checkpoint after `step` steps and return its name; when this returns, it is durable for all ranks.

        Raises StorageError if there is no room, or the place cannot be written; nothing of it is left then.
        """
        name = from_rank_zero(f"step-{step:08d}.{uuid.uuid4().hex[:6]}")
        with whole_or_none(self.store, name) as workspace:
            self._write(name, workspace, gather_state(policy, optimizer), step, state)
        if self.distributed.rank == 0:
            self._prune(step)
        barrier()
        return name

    def _write(self, name: str, workspace: Path, tensors: dict[str, Any], step: int, state: Mapping[str, Any]) -> None:
        with quiet():
            dcp.save(tensors, checkpoint_id=workspace, no_dist=not has_group())
        sums = {}
        for path in sorted(workspace.iterdir()):
            if self._is_mine(path.name):
                sums[path.name] = checksum(path)
                self.store.publish(name, path.name)
        everyone = from_all_ranks(sums)
        if self.distributed.rank == 0:
            files = {file: entry for part in everyone for file, entry in part.items()}
            content = {"step": step, "fingerprint": self.fingerprint, "state": dict(state), "files": files}
            write_seal(workspace / SEAL, content)
            self.store.publish(name, SEAL)

    def best(self) -> tuple[str, float] | None:
        """Name of the checkpoint that `keep_best` keeps, and the metric's value there; of equals the earliest."""
        if self.keep_best is None:
            return None
        found: tuple[str, float] | None = None
        for name in sorted(n for n in self.store.names() if step_of(n) is not None and n not in self.damaged):
            content, problem = self._read_seal(name)
            state = {} if problem or content["state"].get("extra") else content["state"]
            value = state.get("metrics", {}).get(self.keep_best)
            if value is not None and math.isfinite(value) and (found is None or value > found[1]):
                found = name, value
        return found

    def load(
        self, policy: nn.Module, optimizer: torch.optim.Optimizer, *, at_most: int | None = None
    ) -> Restored | None:
        """Restore the newest valid checkpoint (of at most `at_most` steps) in place; None if there is none.

        Raises CheckpointError if it was made from other settings, data or another model.
        """
        names = sorted((n for n in from_rank_zero(self.store.names()) if step_of(n) is not None), reverse=True)
        for name in names:
            if at_most is not None and (step_of(name) or 0) > at_most:
                continue
            if (restored := self._restore(name, policy, optimizer)) is not None:
                return restored
        return None

    def load_best(self, policy: nn.Module, optimizer: torch.optim.Optimizer) -> Restored | None:
        """Restore what `best` names in place, or the next best if that is damaged; None if no checkpoint competes."""
        while (best := from_rank_zero(self.best() if self.distributed.rank == 0 else None)) is not None:
            if (restored := self._restore(best[0], policy, optimizer)) is not None:
                return restored
        return None

    def _restore(self, name: str, policy: nn.Module, optimizer: torch.optim.Optimizer) -> Restored | None:
        """Load a checkpoint; None, with a warning, if it is damaged."""
        content, problem = from_rank_zero(self._read_seal(name) if self.distributed.rank == 0 else ({}, None))
        if problem is None:
            folder = self.store.fetch(name, self.distributed.local_rank == 0)
            barrier()
            problems = from_all_ranks(self._first_damage(folder, content["files"]))
            problem = next((p for p in problems if p is not None), None)
        if problem is not None:
            self.damaged.add(name)
            if self.distributed.rank == 0:
                log.warning("checkpoint %s is skipped: %s", name, problem)
            return None
        self._check_fingerprint(name, content["fingerprint"])
        target = gather_state(policy, optimizer)
        with quiet():
            dcp.load(target, checkpoint_id=folder, no_dist=not has_group())
        set_state_dict(
            policy,
            optimizer,
            model_state_dict=target["model"],
            optim_state_dict=target["optimizer"],
            options=StateDictOptions(strict=False),  # what is not in it was not trained
        )
        return Restored(content["step"], content["state"], name)

    def _is_mine(self, file: str) -> bool:
        """Ranks on one node share a workspace: each vouches for its own shards, rank 0 also for the index."""
        rank = self.distributed.rank
        return file.startswith(f"__{rank}_") or (rank == 0 and file == ".metadata")

    def _read_seal(self, name: str) -> tuple[dict[str, Any], str | None]:
        """The content of `files.json`, or what is wrong with it."""
        raw = self.store.seal(name)
        if raw is None:
            return {}, f"{SEAL} is missing, the save was cut off"
        content = read_seal(raw)
        return ({}, f"{SEAL} is damaged") if content is None else (content, None)

    def _first_damage(self, folder: Path, files: Mapping[str, Any]) -> str | None:
        """What is wrong with this rank's share of the files; the ranks of a node share the work."""
        who = self.distributed
        for file in sorted(files)[who.local_rank :: who.local_world_size]:
            path = folder / file
            if not path.exists():
                return f"{file} is missing"
            if path.stat().st_size != files[file]["bytes"]:
                return f"{file} has {path.stat().st_size} bytes instead of {files[file]['bytes']}"
            if checksum(path) != files[file]:
                return f"{file} does not have its SHA-256"
        return None

    def _check_fingerprint(self, name: str, found: Mapping[str, Any]) -> None:
        differing = sorted(key for key in {*found, *self.fingerprint} if found.get(key) != self.fingerprint.get(key))
        if differing == ["world_size"] and self.distributed.rank == 0:
            log.warning(
                "checkpoint %s is resharded from %s to %s ranks: the run goes on, but not bit for bit",
                name,
                found["world_size"],
                self.fingerprint["world_size"],
            )
        elif differing and differing != ["world_size"]:
            raise CheckpointError(
                f"checkpoint {name} belongs to another run ({', '.join(differing)} differ); use another output folder"
            )

    def _prune(self, newest: int) -> None:
        """Remove what is no longer needed: older checkpoints, and folders whose save was cut off or got damaged."""
        steps = {n: s for n in self.store.names() if (s := step_of(n)) is not None}
        complete = [n for n in sorted(steps, reverse=True) if n not in self.damaged and self.store.seal(n) is not None]
        kept = set(complete[: self.keep_last])
        if (best := self.best()) is not None:
            kept.add(best[0])
        if self.horizon is not None:
            before = [n for n in complete if steps[n] <= newest - self.horizon]
            oldest_needed = steps[before[0]] if before else 0
            kept.update(n for n in complete if steps[n] >= oldest_needed)
        for name in steps:
            if name not in kept:
                self.store.remove(name)


def gather_state(policy: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The (sharded) tensors of policy and optimizer by name; nothing is copied.

    Frozen weights (under LoRA) come from the base model and are left out, and so is the second name of tied weights.
    """
    untouched = not optimizer.state
    model_state, optimizer_state = get_state_dict(policy, optimizer)
    if untouched:  # torch has made the state by a step without effect, but has counted it
        for state in optimizer.state.values():
            state["step"].zero_()
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    left_out = {name for name, _ in policy.named_parameters(remove_duplicate=False)} - trained
    kept = {name: value for name, value in model_state.items() if name not in left_out}
    return {"model": kept, "optimizer": optimizer_state}


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's warning that a process without a group saves alone, which is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


@contextmanager
def whole_or_none(store: CheckpointStore, name: str) -> Iterator[Path]:
    """A workspace; if what is written in the block fails, it is removed, which frees what it took of a full disk.

    Raises StorageError where the disk is the reason: torch says so only as an error of its own.
    """
    folder: Path | None = None
    try:
        folder = store.workspace(name)
        yield folder
    except (OSError, RuntimeError, CheckpointException) as error:
        reason = error if isinstance(error, OSError) else why_not_written(folder)
        with suppress(OSError):
            store.remove(name)
        if reason is None or isinstance(reason, StorageError):
            raise
        raise explain("written", str(folder or name), reason) from error


def why_not_written(folder: Path | None) -> OSError | None:
    """What the disk says when the files in `folder` are to grow; None if it lets them."""
    for path in folder.iterdir() if folder else ():
        try:
            with path.open("ab") as file:
                file.write(bytes(1 << 16))
        except OSError as error:
            return error
    return None


def step_of(name: str) -> int | None:
    """The step in a checkpoint's name; None for a folder that is none.

    Example: "step-00000120.5f3a9c" -> 120.
    """
    digits = name.removeprefix("step-").split(".")[0]
    return int(digits) if name.startswith("step-") and digits.isdigit() else None
