"""What a rank of a training reads before its first step: model, sequences, development problems, and what they belong to."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from redi_ray.config.reward_objectives import ValueHead
from redi_ray.errors import UserError, explain
from redi_ray.modeling.limits import longest_sequence
from redi_ray.modeling.policy import Policy, load_policy
from redi_ray.modeling.rewards import load_reward_policy, record_values
from redi_ray.modeling.tokenizer import ModelError, load_tokenizer
from redi_ray.objectives import OBJECTIVES
from redi_ray.store import storage
from redi_ray.train.distributed import Distributed, from_rank_zero, together
from redi_ray.train.fingerprints import check_arrays
from redi_ray.train.lengths import fit_lengths, require_vocabulary
from redi_ray.train.on_ray.development import development_problems
from redi_ray.train.on_ray.orders import Orders
from redi_ray.train.probe import DevProblem
from redi_ray.train.rehearsal import Rehearsed
from redi_ray.train.seals import checksum
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.shard import compute_dtype

T = TypeVar("T")

NOT_LEARNING = ("checkpoint_every", "keep_last", "keep_best", "export", "export_dtype", "patience", "compile")
"""Settings that may change between attempts: they do not touch the numbers, or only their last bits."""


def read_inputs(
    orders: Orders, model_path: str, sequences: str, mismatched: str | None
) -> tuple[SequenceStore, dict[str, int], Policy, list[DevProblem]]:
    """The sequences that fit with their counts, the policy, the probe's problems. Calls no other rank."""
    settings = orders.settings
    policy = policy_for(orders, model_path)
    store = SequenceStore.load(sequences, mismatched=mismatched)
    require_vocabulary(store, len(policy.model.get_input_embeddings().weight))  # type: ignore[arg-type]
    store, counts = fit_lengths(store, settings, longest_sequence(policy.model.config), orders.objective)
    return store, counts, policy, development_problems(orders, model_path)


def read_rehearsed(orders: Orders, policy: Policy, sequences: str | None) -> tuple[Rehearsed | None, dict[str, int]]:
    """What is rehearsed, of what fits, and counts of what does not. Calls no other rank."""
    if orders.rehearsing is None or sequences is None:
        return None, {}
    told, store = orders.rehearsing.settings, SequenceStore.load(sequences)
    require_vocabulary(store, len(policy.model.get_input_embeddings().weight))  # type: ignore[arg-type]
    store, counts = fit_lengths(store, orders.settings, longest_sequence(policy.model.config), told.objective)
    found = {f"rehearsed_{name}": count for name, count in counts.items() if count} | {"rehearsed": len(store)}
    return Rehearsed(store, told.objective, told.batch_size), found


def policy_for(orders: Orders, model_path: str) -> Policy:
    """The policy with the head that the objective trains."""
    objective, spec = orders.objective, OBJECTIVES[orders.objective.name]
    recompute, compile = orders.settings.gradient_checkpointing, orders.settings.compile
    if not isinstance(objective, ValueHead):
        return load_policy(model_path, orders.overrides, gradient_checkpointing=recompute, compile=compile)
    policy = load_reward_policy(
        model_path, orders.overrides, objective, gradient_checkpointing=recompute, compile=compile
    )
    record_values(policy.model.config, objective.name, spec.link, spec.at_last)
    return policy


def anchor_of(orders: Orders, model_path: str, device: torch.device, vocabulary: int) -> Policy:
    """The model that training starts from, frozen, which the policy is pulled towards: without adapters, in the type that is
    computed in. vocabulary: the policy's; ValueError where its own has another size. Calls no other rank."""
    dtype = compute_dtype(orders.settings.precision, device) or torch.float32
    anchor = load_policy(model_path, replace(orders.overrides, lora=None), dtype=dtype).to(device).eval()
    if len(anchor.head_weight) != vocabulary:
        raise ValueError(
            f"{model_path}: its vocabulary has {len(anchor.head_weight)} tokens and that of the trained model {vocabulary}: "
            "a KL over the vocabulary needs one vocabulary"
        )
    return anchor.requires_grad_(False)


def reading(path: str, action: Callable[[], T]) -> T:
    """`action()`; a file that this machine does not have, or may not read, is a StorageError that says so; weights that were
    cut off are a ModelError."""
    from safetensors import SafetensorError

    try:
        return action()
    except UserError:
        raise
    except SafetensorError as error:
        raise ModelError(f"{path}: its weights are cut off or damaged ({error}); fetch them again") from error
    except OSError as error:  # transformers' own have no number
        raise explain("read", str(error.filename or path), error) if error.errno else ModelError(str(error)) from error


def local_copy(uri: str, folder: Path, who: Distributed) -> str:
    """A local path of what is at `uri`: downloaded once per node from S3; folders and hub names as they are."""
    if not uri.startswith("s3://"):
        return uri
    together(lambda: storage.download(uri, folder) if who.local_rank == 0 else None)
    return str(folder)


def scratch_folder(out_uri: str, who: Distributed) -> Path:
    """A temporary folder that this node's ranks share. Those that killed attempts of the same run left are removed."""
    run = "redi_ray-" + hashlib.sha256(out_uri.encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"{run}-{from_rank_zero(uuid.uuid4().hex[:8])}"

    def make() -> None:
        for stale in folder.parent.glob(f"{run}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        folder.mkdir()

    together(lambda: make() if who.local_rank == 0 else None)
    return folder


def refuse_what_was_made_otherwise(
    orders: Orders, model_path: str, sequences: str, mismatched: str | None, rehearsed: str | None, who: Distributed
) -> None:
    """Raise FingerprintError, on rank 0, if the arrays were made with another tokenizer, template, data or reference."""
    if who.rank:
        return
    tokenizer = load_tokenizer(model_path, orders.overrides.trust_remote_code)
    reference = model_path if OBJECTIVES[orders.objective.name].needs_reference else None
    check_arrays(
        sequences, tokenizer=tokenizer, model_path=reference, overrides=orders.overrides, mismatched=mismatched
    )
    if rehearsed is not None:
        check_arrays(rehearsed, tokenizer=tokenizer, model_path=model_path, overrides=orders.overrides)


def fingerprint(orders: Orders, arrays: Sequence[Path], who: Distributed) -> dict[str, str]:
    """What a checkpoint must agree in to be resumed from: settings that touch the numbers, and the tokens."""
    settings = {name: value for name, value in asdict(orders.settings).items() if name not in NOT_LEARNING}
    told = [settings, asdict(orders.objective), *([asdict(orders.rehearsing.settings)] if orders.rehearsing else [])]

    def add_up() -> list[dict[str, Any]]:
        return [
            {p.relative_to(folder).as_posix(): checksum(p) for p in sorted(folder.rglob("*.npy"))} for folder in arrays
        ]

    sums = together(lambda: add_up() if who.rank == 0 else [])
    return from_rank_zero(
        {
            "settings": storage.content_hash([*told, asdict(orders.overrides)]),
            "sequences": storage.content_hash(sums),
        }
    )
