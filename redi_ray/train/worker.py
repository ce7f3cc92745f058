"""One rank of a training run on Ray Train: download, load, shard, train, export."""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.train
import torch
from ray.train.torch import get_device

from redi_ray import storage
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.policy import Policy, load_policy
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.objectives import OBJECTIVES
from redi_ray.train.batches import plan_batches
from redi_ray.train.checkpoint import SEAL, Checkpointer, CheckpointError, CheckpointStore, LocalStore, checksum
from redi_ray.train.development import development_fingerprint, development_problems, with_probe
from redi_ray.train.distributed import Distributed, barrier, from_rank_zero, together
from redi_ray.train.fingerprints import check_arrays
from redi_ray.train.guard import reach
from redi_ray.train.launch import REFUSED, Job
from redi_ray.train.loop import Hooks, train
from redi_ray.train.monitors import Monitors, run_id_of
from redi_ray.train.sequences import SequenceStore, fit_lengths
from redi_ray.train.shard import compute_dtype, shard_policy

PREEMPTION_POLL_STEPS = 10
"""Steps between questions to Ray whether a node is about to go (each is a round trip of all ranks)."""
NOT_LEARNING = ("checkpoint_every", "keep_last", "compile")
"""Settings that may change between attempts: they do not touch the numbers, or only their last bits."""


def run(job: Job) -> None:
    """One rank, from the download to the export. What no second attempt can mend is left for the driver to raise."""
    torch.set_num_threads(job.threads)
    context = ray.train.get_context()
    who = Distributed(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=get_device(),
        local_rank=context.get_local_rank(),
        local_world_size=context.get_local_world_size(),
    )
    scratch = scratch_folder(job.out_uri, who)
    try:
        train_and_export(job, who, scratch, ray_hooks(job.watch_nodes, job.report_probes))
    except (ValueError, CheckpointError) as error:
        storage.write_json(storage.join(job.bookkeeping, REFUSED), {"error": str(error), "rank": who.rank})
    finally:
        if who.local_rank == 0:
            shutil.rmtree(scratch, ignore_errors=True)


def train_and_export(job: Job, who: Distributed, scratch: Path, hooks: Hooks) -> None:
    """Load, shard, train (from the newest checkpoint), export. Runs without Ray too."""
    started, settings = time.time(), job.settings
    model_path = local_copy(job.model_path, scratch / "model", who)
    sequences = local_copy(job.sequences_uri, scratch / "sequences", who)
    mismatched = local_copy(job.mismatched_uri, scratch / "mismatched", who) if job.mismatched_uri else None
    store, counts = fit_lengths(SequenceStore.load(sequences, mismatched=mismatched), settings)
    policy = load_policy(
        model_path, job.overrides, gradient_checkpointing=settings.gradient_checkpointing, compile=settings.compile
    )
    together(partial(refuse_what_was_made_otherwise, job, model_path, sequences, mismatched, who))
    shard_policy(policy, world_size=who.world_size, precision=settings.precision, device=who.device)
    problems = development_problems(job, model_path)
    total_steps = plan_batches(store, settings, who.world_size, job.objective).total_steps
    hooks = with_probe(hooks, job, problems, policy, model_path=model_path, total_steps=total_steps, who=who)
    result = train(
        policy,
        store,
        job.objective,
        settings,
        distributed=who,
        checkpoints=Checkpointer(
            make_store(job.out_uri, scratch),
            fingerprint(job, [Path(folder) for folder in (sequences, mismatched) if folder], who)
            | development_fingerprint(job, problems),
            distributed=who,
            keep_last=settings.keep_last,
            horizon=reach(settings) if settings.guard.action == "rollback" else None,
        ),
        monitors=make_monitors(job, scratch) if who.rank == 0 else None,
        hooks=hooks,
    )
    facts = counts | {
        "sequences": len(store),
        "total_steps": result.total_steps,
        "skipped_steps": result.skipped_steps,
        "reason": result.reason,
        "seconds": round(time.time() - started, 1),
    }
    final = {name: value for name, value in result.metrics.items() if math.isfinite(value)}
    outcome = {"steps": result.steps, "status": result.status, "final": final, "facts": facts}
    export(job, policy, model_path, outcome, who, scratch)


def ray_hooks(watch_nodes: bool, report_probes: bool) -> Hooks:
    """Reports to Ray Train at every checkpoint (and probe), and a checkpoint when Ray says that a node is about to go."""
    asked, warned = 0, False

    def about_to_lose_a_node() -> bool:
        nonlocal asked, warned
        asked += 1
        if not watch_nodes or warned or asked % PREEMPTION_POLL_STEPS:
            return False
        warned = ray.train.get_preemption_info() is not None
        return warned

    def report(steps: int, metrics: Mapping[str, float]) -> None:
        ray.train.report({**metrics, "step": steps})

    hooks = Hooks(on_checkpoint=report, checkpoint_requested=about_to_lose_a_node)
    return replace(hooks, on_probe=report) if report_probes else hooks


def make_monitors(job: Job, scratch: Path) -> Monitors:
    """Metrics straight into a local `out_uri`; for S3 into the scratch folder, uploaded at every checkpoint."""
    config = {"objective": asdict(job.objective), "settings": asdict(job.settings), "model": job.model_path}
    monitors = partial(Monitors, trackers=job.trackers, run_name=job.name, run_id=run_id_of(job.out_uri), config=config)
    if not job.out_uri.startswith("s3://"):
        return monitors(Path(job.out_uri))
    folder = scratch / "monitors"
    folder.mkdir(exist_ok=True)
    earlier = storage.join(job.out_uri, "metrics.jsonl")
    if storage.exists(earlier):
        (folder / "metrics.jsonl").write_bytes(storage.read_bytes(earlier))
    return monitors(folder, upload=partial(storage.upload, uri=job.out_uri))


def export(
    job: Job, policy: Policy, model_path: str, outcome: Mapping[str, Any], who: Distributed, scratch: Path
) -> None:
    """Publish the Hugging Face folder; the manifest with the outcome and every file's SHA-256 is written last."""
    folder, target = scratch / "export", storage.join(job.out_uri, "export")
    facts = {"start": job.model_path, "objective": job.objective.name, "steps": outcome["steps"]} | dict(job.facts)
    export_policy(
        policy,
        folder,
        tokenizer=load_tokenizer(model_path),
        dtype=compute_dtype(job.settings.precision, who.device),
        name=job.name,
        facts=facts,
        rank=who.rank,
    )
    if who.rank == 0:
        files = {p.relative_to(folder).as_posix(): checksum(p) for p in sorted(folder.rglob("*")) if p.is_file()}
        storage.delete(target)
        storage.upload(folder, target)
        storage.write_json(storage.join(target, "manifest.json"), {**outcome, "files": files})
    barrier()


def local_copy(uri: str, folder: Path, who: Distributed) -> str:
    """A local path of what is at `uri`: downloaded once per node from S3; folders and hub names as they are."""
    if not uri.startswith("s3://"):
        return uri
    if who.local_rank == 0:
        storage.download(uri, folder)
    barrier()
    return str(folder)


def scratch_folder(out_uri: str, who: Distributed) -> Path:
    """A temporary folder that this node's ranks share. Those that killed attempts of the same run left are removed."""
    run = "redi_ray-" + hashlib.sha256(out_uri.encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"{run}-{from_rank_zero(uuid.uuid4().hex[:8])}"
    if who.local_rank == 0:
        for stale in folder.parent.glob(f"{run}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        folder.mkdir()
    barrier()
    return folder


def refuse_what_was_made_otherwise(
    job: Job, model_path: str, sequences: str, mismatched: str | None, who: Distributed
) -> None:
    """Raise FingerprintError, on rank 0, if the arrays were made with another tokenizer, template, data or reference."""
    if who.rank:
        return
    check_arrays(
        sequences,
        tokenizer=load_tokenizer(model_path),
        model_path=model_path if OBJECTIVES[job.objective.name].needs_reference else None,
        overrides=job.overrides,
        mismatched=mismatched,
    )


def fingerprint(job: Job, arrays: Sequence[Path], who: Distributed) -> dict[str, str]:
    """What a checkpoint must agree in to be resumed from: settings that touch the numbers, and the tokens."""
    settings = {name: value for name, value in asdict(job.settings).items() if name not in NOT_LEARNING}
    sums = []
    if who.rank == 0:
        sums = [{p.name: checksum(p) for p in sorted(folder.glob("*.npy"))} for folder in arrays]
    return from_rank_zero(
        {
            "settings": storage.content_hash([settings, asdict(job.objective), asdict(job.overrides)]),
            "sequences": storage.content_hash(sums),
        }
    )


def make_store(out_uri: str, scratch: Path) -> CheckpointStore:
    """The checkpoints' place below `out_uri`."""
    root = storage.join(out_uri, "checkpoints")
    return UriStore(root, scratch / "checkpoints") if root.startswith("s3://") else LocalStore(root)


class UriStore:
    """Checkpoints in object storage: written to a local folder and uploaded, downloaded before they are read.

    Implements `redi_ray.train.checkpoint.CheckpointStore`.
    """

    def __init__(self, root: str, scratch: Path) -> None:
        self.root, self.scratch = root, scratch

    def names(self) -> list[str]:
        prefix = len(self.root) + 1
        return sorted({uri[prefix:].split("/")[0] for uri in storage.list_files(self.root)})

    def workspace(self, name: str) -> Path:
        folder = self.scratch / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, name: str, file: str) -> None:
        """Upload, then free the local copy: a checkpoint may fill a small disk."""
        path = self.scratch / name / file
        with pa.memory_map(str(path)) as mapped:
            storage.write_bytes(storage.join(self.root, name, file), mapped.read_buffer())
        path.unlink()

    def seal(self, name: str) -> bytes | None:
        uri = storage.join(self.root, name, SEAL)
        return storage.read_bytes(uri) if storage.exists(uri) else None

    def fetch(self, name: str, first_on_node: bool) -> Path:
        folder = self.scratch / name
        if first_on_node:
            shutil.rmtree(folder, ignore_errors=True)
            storage.download(storage.join(self.root, name), folder)
        return folder

    def remove(self, name: str) -> None:
        storage.delete(storage.join(self.root, name))
