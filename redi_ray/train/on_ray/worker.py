"""One rank of a training run on Ray Train: download, load, shard, train, export."""

from __future__ import annotations

import errno
import math
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device

from redi_ray.config.training import TrainSettings
from redi_ray.errors import FORBIDDEN, FULL, StorageError, StorageUnavailable, explain
from redi_ray.modeling.cards import CARD
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.store import storage
from redi_ray.train.batches import plan_batches
from redi_ray.train.checkpoint import Checkpointer, CheckpointError
from redi_ray.train.distributed import Distributed, agreed, barrier, together
from redi_ray.train.guard import reach
from redi_ray.train.loop import Hooks, train
from redi_ray.train.monitors import Monitors, run_id_of
from redi_ray.train.on_ray.development import development_fingerprint, with_probe
from redi_ray.train.on_ray.inputs import (
    anchor_of,
    fingerprint,
    local_copy,
    read_inputs,
    read_rehearsed,
    reading,
    refuse_what_was_made_otherwise,
    scratch_folder,
)
from redi_ray.train.on_ray.orders import REFUSED, Orders
from redi_ray.train.on_ray.outside import GivingWay, listening
from redi_ray.train.on_ray.uri_store import make_store
from redi_ray.train.progress import NonfiniteError, Status, TrainResult
from redi_ray.train.seals import checksum
from redi_ray.train.shard import compute_dtype, shard_policy
from redi_ray.train.step import kl_weight

LASTING = FULL | FORBIDDEN | {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
"""What a disk says that it will say again."""


def run(orders: Orders) -> None:
    """One rank, from the download to the export. What no second attempt can mend is left for the driver to raise.

    What all ranks have agreed on ends them all at once. An error of one rank alone is raised: Ray Train then ends the
    others, which may wait for this one, and what it starts in their place finds the refusal and returns.
    """
    torch.set_num_threads(orders.threads)
    context = ray.train.get_context()
    who = Distributed(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=get_device(),
        local_rank=context.get_local_rank(),
        local_world_size=context.get_local_world_size(),
    )
    if storage.exists(storage.join(orders.bookkeeping, REFUSED)):
        return
    scratch: Path | None = None
    try:
        scratch = scratch_folder(orders.out_uri, who)
        with listening(orders, who) as outside:
            ended = train_and_export(orders, who, scratch, outside.hooks())
        if ended == "preempted" and outside.gives_way and outside.notice is not None:
            raise GivingWay(outside.notice)
    except StorageUnavailable:
        raise  # the next attempt may find it back
    except (StorageError, ValueError, CheckpointError) as error:
        refuse(orders, who, error)
        if not agreed(error) and not isinstance(error, CheckpointError):  # which all ranks find alike
            raise
    except OSError as error:
        if error.errno not in LASTING:
            raise
        refuse(orders, who, explain("written", orders.out_uri, error))
        if not agreed(error):
            raise
    finally:
        if who.local_rank == 0 and scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def refuse(orders: Orders, who: Distributed, error: Exception) -> None:
    """Leave word for the driver. Raises the error where there is no room even for that: attempts then end by themselves."""
    notes = [] if agreed(error) or who.world_size == 1 else [f"on rank {who.rank} of {who.world_size}"]
    notes = [*getattr(error, "__notes__", []), *notes]
    told = {
        "error": f"{error} ({socket.gethostname()}, {', '.join(notes)})" if notes else str(error),
        "storage": isinstance(error, StorageError),
        "nonfinite": isinstance(error, NonfiniteError),
        "rank": who.rank,
    }
    try:
        storage.write_json(storage.join(orders.bookkeeping, REFUSED), told)
    except StorageError:
        raise error from None


def train_and_export(orders: Orders, who: Distributed, scratch: Path, hooks: Hooks) -> Status:
    """Load, shard, train (from the newest checkpoint), export, unless asked to stop; how it ended. Runs without Ray too."""
    started, settings = time.time(), orders.settings
    model_path = local_copy(orders.model_path, scratch / "model", who)
    sequences = local_copy(orders.sequences_uri, scratch / "sequences", who)
    mismatched = local_copy(orders.mismatched_uri, scratch / "mismatched", who) if orders.mismatched_uri else None
    again = local_copy(orders.rehearsing.sequences_uri, scratch / "rehearsed", who) if orders.rehearsing else None
    store, counts, policy, problems = together(
        partial(reading, model_path, partial(read_inputs, orders, model_path, sequences, mismatched))
    )
    rehearsed, counted = together(partial(reading, model_path, partial(read_rehearsed, orders, policy, again)))
    together(partial(refuse_what_was_made_otherwise, orders, model_path, sequences, mismatched, again, who))
    shard_policy(
        policy,
        world_size=who.world_size,
        precision=settings.precision,
        device=who.device,
        keep_gathered=settings.keep_gathered,
    )
    anchor = None
    if kl_weight(orders.objective):
        anchor = together(partial(anchor_of, orders, model_path, who.device, len(policy.head_weight)))
    total_steps = together(lambda: plan_batches(store, settings, who.world_size, orders.objective)).total_steps
    hooks = with_probe(hooks, orders, problems, policy, model_path=model_path, total_steps=total_steps, who=who)
    checkpoints = Checkpointer(
        make_store(orders.out_uri, scratch),
        fingerprint(orders, [Path(folder) for folder in (sequences, mismatched, again) if folder], who)
        | development_fingerprint(orders, problems),
        distributed=who,
        keep_last=settings.keep_last,
        keep_best=settings.keep_best,
        horizon=reach(settings) if settings.guard.action == "rollback" else None,
    )
    result = train(
        policy,
        store,
        orders.objective,
        settings,
        rehearsed=rehearsed,
        distributed=who,
        checkpoints=checkpoints,
        monitors=together(lambda: make_monitors(orders, scratch) if who.rank == 0 else None),
        hooks=hooks,
        anchor=anchor,
    )
    if result.status == "preempted":
        return result.status
    if result.status == "nonfinite":
        together(partial(refuse_nonfinite, orders, result))
    facts = counts | counted | {"notes": policy.notes, "sequences": len(store)} | facts_of(result, started)
    if who.rank == 0 and (best := checkpoints.best()) is not None:
        facts["best_checkpoint"] = {"name": best[0], settings.keep_best: best[1]}
    final = {name: value for name, value in result.metrics.items() if math.isfinite(value)}
    outcome = {"steps": result.steps, "status": result.status, "final": final, "facts": facts}
    export(orders, policy, model_path, outcome, who, scratch)
    return result.status


def facts_of(result: TrainResult, started: float) -> dict[str, Any]:
    """What a run's manifest says of how it went."""
    return {
        "total_steps": result.total_steps,
        "world_sizes": result.world_sizes,
        "skipped_steps": result.skipped_steps,
        "reason": result.reason,
        "guard_trips": result.trips,
        "first_trip": result.first_trip,
        "seconds": round(time.time() - started, 1),
    }


def refuse_nonfinite(orders: Orders, result: TrainResult) -> None:
    skip = ", or on_nonfinite: skip where single steps are at fault" if orders.settings.on_nonfinite == "stop" else ""
    raise NonfiniteError(
        f"{orders.name}: {result.reason}; training ended after {result.steps} of {result.total_steps} steps. Its weights are no "
        f"result: nothing is exported, and nothing starts from them. Mend: a lower learning_rate, a longer warm-up, a lower "
        f"max_grad_norm{skip}"
    )


def make_monitors(orders: Orders, scratch: Path) -> Monitors:
    """Metrics straight into a local `out_uri`; for S3 into the scratch folder, uploaded at every checkpoint."""
    config = {"objective": asdict(orders.objective), "settings": asdict(orders.settings), "model": orders.model_path}
    monitors = partial(
        Monitors, trackers=orders.trackers, run_name=orders.name, run_id=run_id_of(orders.out_uri), config=config
    )
    if not orders.out_uri.startswith("s3://"):
        return monitors(Path(orders.out_uri))
    folder = scratch / "monitors"
    folder.mkdir(exist_ok=True)
    earlier = storage.join(orders.out_uri, "metrics.jsonl")
    if storage.exists(earlier):
        (folder / "metrics.jsonl").write_bytes(storage.read_bytes(earlier))
    return monitors(folder, upload=partial(storage.upload, uri=orders.out_uri))


def export(
    orders: Orders, policy: Policy, model_path: str, outcome: Mapping[str, Any], who: Distributed, scratch: Path
) -> None:
    """Publish the Hugging Face folder; the manifest with the outcome and every file's SHA-256 is written last."""
    folder, target = scratch / "export", storage.join(orders.out_uri, "export")
    facts = {"objective": orders.objective.name, "steps": outcome["steps"]}
    dtype, found = export_dtype(orders.settings, who), dict(outcome["facts"])
    write = partial(
        export_policy,
        policy,
        tokenizer=load_tokenizer(model_path, orders.overrides.trust_remote_code),
        name=orders.name,
        facts=facts,
        rank=who.rank,
    )
    if dtype is not None and orders.keep_float32:
        write(scratch / "float32")
        if who.rank == 0:
            found["float32"] = storage.join(orders.out_uri, "float32")
            storage.delete(found["float32"])
            storage.upload(scratch / "float32", found["float32"])
            shutil.rmtree(scratch / "float32")
    rounding = write(folder, dtype=dtype, start=model_path if dtype is not None else None)
    if who.rank == 0:
        if rounding is not None:
            found["rounding"] = {"dtype": str(dtype).removeprefix("torch."), **asdict(rounding)}
        outcome = {**outcome, "facts": found}
        written = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != CARD]  # which is written again
        files = {p.relative_to(folder).as_posix(): checksum(p) for p in written}
        storage.delete(target)
        storage.upload(folder, target)
        storage.write_json(storage.join(target, "manifest.json"), {**outcome, "files": files})
    barrier()


def export_dtype(settings: TrainSettings, who: Distributed) -> torch.dtype | None:
    """Of the exported weights; None leaves them in float32, as they are trained."""
    if settings.export_dtype == "auto":
        return compute_dtype(settings.precision, who.device)
    return torch.bfloat16 if settings.export_dtype == "bfloat16" else None
