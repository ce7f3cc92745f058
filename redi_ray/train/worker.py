"""One rank of a training run on Ray Train: download, load, shard, train, export."""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device

from redi_ray import storage
from redi_ray.errors import FULL, StorageError, StorageUnavailable, explain
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.policy import Policy, load_policy
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.objectives import OBJECTIVES
from redi_ray.train.batches import plan_batches
from redi_ray.train.checkpoint import Checkpointer, CheckpointError
from redi_ray.train.development import development_fingerprint, development_problems, with_probe
from redi_ray.train.distributed import Distributed, barrier, from_rank_zero, together
from redi_ray.train.fingerprints import check_arrays
from redi_ray.train.guard import reach
from redi_ray.train.job import REFUSED, STOP, Job
from redi_ray.train.loop import Hooks, train
from redi_ray.train.monitors import Monitors, run_id_of
from redi_ray.train.seals import checksum
from redi_ray.train.sequences import SequenceStore, fit_lengths
from redi_ray.train.shard import compute_dtype, shard_policy
from redi_ray.train.uri_store import make_store

STOP_POLL_SECONDS = {"local": 0.3, "s3": 3.0}
"""Between two looks for the driver's word to save and stop."""
PREEMPTION_POLL_STEPS = 10
"""Steps between questions to Ray whether a node is about to go (each is a round trip of all ranks)."""
NOT_LEARNING = ("checkpoint_every", "keep_last", "keep_best", "export", "patience", "compile")
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
        with stop_flag(job, who) as asked:
            hooks = ray_hooks(job.watch_nodes, job.report_probes)
            train_and_export(job, who, scratch, replace(hooks, stop_requested=asked))
    except StorageUnavailable:
        raise  # the next attempt may find it back
    except (StorageError, ValueError, CheckpointError) as error:
        refuse(job, who, error)
    except OSError as error:
        if error.errno not in FULL:
            raise
        refuse(job, who, explain("written", job.out_uri, error))
    finally:
        if who.local_rank == 0:
            shutil.rmtree(scratch, ignore_errors=True)


def refuse(job: Job, who: Distributed, error: Exception) -> None:
    """Leave word for the driver. Raises the error where there is no room even for that: attempts then end by themselves."""
    told = {"error": str(error), "storage": isinstance(error, StorageError), "rank": who.rank}
    try:
        storage.write_json(storage.join(job.bookkeeping, REFUSED), told)
    except StorageError:
        raise error from None


@contextmanager
def stop_flag(job: Job, who: Distributed) -> Iterator[Callable[[], bool]]:
    """Whether the driver has asked to save and stop. Rank 0 looks, beside the steps, and the loop tells the others."""
    asked, done = threading.Event(), threading.Event()
    seconds = STOP_POLL_SECONDS["s3" if job.bookkeeping.startswith("s3://") else "local"]

    def look() -> None:
        while not asked.is_set() and not done.wait(seconds):
            with suppress(StorageError):  # it will be there at the next look
                if storage.exists(storage.join(job.bookkeeping, STOP)):
                    asked.set()

    if who.rank == 0:
        threading.Thread(target=look, name="stop-flag", daemon=True).start()
    try:
        yield asked.is_set
    finally:
        done.set()


def train_and_export(job: Job, who: Distributed, scratch: Path, hooks: Hooks) -> None:
    """Load, shard, train (from the newest checkpoint), export, unless asked to stop. Runs without Ray too."""
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
    checkpoints = Checkpointer(
        make_store(job.out_uri, scratch),
        fingerprint(job, [Path(folder) for folder in (sequences, mismatched) if folder], who)
        | development_fingerprint(job, problems),
        distributed=who,
        keep_last=settings.keep_last,
        keep_best=settings.keep_best,
        horizon=reach(settings) if settings.guard.action == "rollback" else None,
    )
    result = train(
        policy,
        store,
        job.objective,
        settings,
        distributed=who,
        checkpoints=checkpoints,
        monitors=make_monitors(job, scratch) if who.rank == 0 else None,
        hooks=hooks,
    )
    if result.status == "preempted":
        return
    facts = counts | {
        "notes": policy.notes,
        "sequences": len(store),
        "total_steps": result.total_steps,
        "skipped_steps": result.skipped_steps,
        "reason": result.reason,
        "seconds": round(time.time() - started, 1),
    }
    if who.rank == 0 and (best := checkpoints.best()) is not None:
        facts["best_checkpoint"] = {"name": best[0], settings.keep_best: best[1]}
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
