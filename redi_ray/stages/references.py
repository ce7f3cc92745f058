"""Log-probs of the reference model as one more array beside the tokens: computed once, shared by every arm and trial.

The stage's key holds the keys of the reference checkpoint and of the sequences, so log-probs of another model or of other
data lie under another key. What they were really made with is recorded by content (`redi_ray.train.fingerprints`): in
every shard when it is written, in the joined arrays, and training compares.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from redi_ray.cluster.capacity import CapacityError, require_room
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.modeling.limits import count_parameters, embedding_rows, longest_sequence
from redi_ray.modeling.tokenizer import load_tokenizer, local_folder, tokenizer_fingerprints
from redi_ray.stages.arrays import read_range, writing
from redi_ray.stages.bars import WorkBar, label_of
from redi_ray.stages.remote import remotely
from redi_ray.stages.run import Run
from redi_ray.stages.sequences import ARRAYS_FORMAT
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.train.fingerprints import (
    RECORD,
    REFERENCE,
    FingerprintError,
    check_record,
    data_fingerprint,
    model_fingerprint,
    read_record,
    write_record,
)

if TYPE_CHECKING:
    from redi_ray.train.sequences import SequenceStore

GPU_SHARE = 0.9
"""Of a GPU's memory that weights may take; the rest is for activations."""
SHARD_TOKENS = 200_000
"""Tokens per task and file."""


def start_of(checkpoint: Manifest) -> str:
    """The model that a training starts from, and that is its reference: in float32, where the export is narrower."""
    return checkpoint.facts.get("float32", checkpoint.facts["export"])


def references_stage(
    run: Run,
    sequences: Manifest | Stage,
    reference: Manifest | Stage,
    settings: TrainSettings,
    *,
    mismatched: bool = False,
) -> Stage:
    deciding = {
        "overrides": run.config.model.overrides.scoring,
        "precision": settings.precision,
        "format": ARRAYS_FORMAT,
    }
    name = "references/mismatched" if mismatched else "references"
    return run.stage(name, deciding, {"sequences": sequences, "reference": reference})


def references(run: Run, sequences: Manifest, reference: Manifest, settings: TrainSettings) -> Manifest:
    """The token arrays with `ref_logps` of the reference model, at `<uri>/arrays`.

    Raises FingerprintError where the reference's tokenizer or template is not the one that made the tokens.
    """
    overrides, export = run.config.model.overrides.scoring, start_of(reference)
    others = sequences.stage.endswith("sequences/mismatched")
    stage = references_stage(run, sequences, reference, settings, mismatched=others)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    arrays = storage.join(sequences.uri, "arrays")
    ranges = remotely(split_store, arrays, export, overrides.trust_remote_code)
    todo = [item for item in ranges if not storage.exists(_shard(stage.uri, item["first"]))]
    with WorkBar(label_of("reference", run.step), sum(item["tokens"] for item in ranges), "tokens") as progress:
        there = sum(item["tokens"] for item in ranges) - sum(item["tokens"] for item in todo)
        progress(there, found=there)
        if todo:
            for row in _score(todo, stage, arrays, export, overrides, settings, run):
                progress(row["tokens"])
    remotely(join_shards, arrays, [_shard(stage.uri, item["first"]) for item in ranges], stage.uri)
    return run.publish(stage, started, counts={"groups": sequences.counts["groups"]}, facts=sequences.facts)


def _score(
    todo: list[dict[str, int]],
    stage: Stage,
    arrays: str,
    model: str,
    overrides: ModelOverrides,
    settings: TrainSettings,
    run: Run,
) -> Iterable[dict[str, Any]]:
    import ray.data

    trainer: TrainerSettings = run.config.resources.trainer
    resources = {"CPU": trainer.cpus_per_worker} | ({"GPU": 1.0} if trainer.on_gpu else {})
    if (parameters := count_parameters(model)) is not None:
        resources["memory"] = parameters * (2 if half_precision(settings, trainer) else 4)
        require_room("the reference's scoring", [resources], trainer.label_selector)
        if trainer.on_gpu:
            require_gpu_memory(int(resources["memory"]), trainer.label_selector)
    fewest, most = trainer.pool
    scored = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        _ScoreShard,
        fn_constructor_args=(arrays, model, stage.uri, overrides, settings),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=min(fewest, len(todo)), max_size=min(most, len(todo))),
        num_cpus=trainer.cpus_per_worker,
        num_gpus=1 if trainer.on_gpu else 0,
        memory=resources.get("memory"),
        label_selector=trainer.label_selector or None,
    )
    return scored.iter_rows()


def half_precision(settings: TrainSettings, trainer: TrainerSettings) -> bool:
    """Whether the reference's weights are held in two bytes each."""
    return settings.precision == "bf16" or (settings.precision == "auto" and trainer.on_gpu)


def require_gpu_memory(weights: int, selector: Mapping[str, str]) -> None:
    """Raise CapacityError where a GPU does not hold the reference, which is scored whole on each."""
    room = remotely(gpu_bytes, num_gpus=1, label_selector=dict(selector) or None)
    if weights > GPU_SHARE * room:
        raise CapacityError(
            f"the reference's weights take {weights / 2**30:.1f} GiB, and a GPU here has {room / 2**30:.1f} GiB: it is scored "
            "whole on one GPU. Mend: larger GPUs (resources.trainer.label_selector), precision: bf16, or an objective without "
            "a reference (redi, simpo, orpo, cpo)"
        )


def gpu_bytes() -> int:
    """Memory of this task's GPU; without bound where torch sees none, and the weights go into the machine's memory."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else sys.maxsize


def _shard(uri: str, first: int) -> str:
    return storage.join(uri, "shards", f"from-{first:09d}.npz")


def _first_of(shard: str) -> int:
    """The sequence that a shard begins with."""
    return int(shard.rpartition("from-")[2].removesuffix(".npz"))


def split_store(arrays: str, model: str, trust_remote_code: bool = False) -> list[dict[str, int]]:
    """Ranges of sequences [first, last) of about SHARD_TOKENS tokens.

    Raises FingerprintError where the arrays are not those of their record, or the model would read them differently;
    UserError where they hold tokens that the model has no vector for.
    """
    from transformers import AutoConfig  # loads torch, which the driver does without

    from redi_ray.train.lengths import require_vocabulary
    from redi_ray.train.sequences import SequenceStore

    with storage.at_hand(arrays) as folder:
        used = {**tokenizer_fingerprints(load_tokenizer(model, trust_remote_code)), "data": data_fingerprint(folder)}
        check_record(arrays, read_record(folder), used)
        config = AutoConfig.from_pretrained(local_folder(model), trust_remote_code=trust_remote_code)
        require_vocabulary(SequenceStore.load(folder), embedding_rows(config))
        offsets = np.load(folder / "offsets.npy")
    borders, start = [0], 0
    for sequence in range(1, len(offsets)):
        if offsets[sequence] - start >= SHARD_TOKENS or sequence == len(offsets) - 1:
            borders.append(sequence)
            start = offsets[sequence]
    return [{"first": a, "last": b, "tokens": int(offsets[b] - offsets[a])} for a, b in pairwise(borders)]


class _ScoreShard:
    """An actor that holds the reference model; of the sequences it reads those that it scores."""

    def __init__(
        self, arrays: str, model: str, out_uri: str, overrides: ModelOverrides, settings: TrainSettings
    ) -> None:
        import torch

        from redi_ray.modeling.policy import load_policy
        from redi_ray.train.shard import compute_dtype

        self.arrays, self.out_uri, self.settings = arrays, out_uri, settings
        self.folder = tempfile.TemporaryDirectory()
        if model.startswith("s3://"):
            storage.download(model, Path(self.folder.name) / "model")
            model = str(Path(self.folder.name) / "model")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = compute_dtype(settings.precision, self.device) or torch.float32
        self.policy = load_policy(model, overrides, dtype=dtype).to(self.device).eval()
        self.model = model_fingerprint(model, overrides)
        self.positions = longest_sequence(self.policy.model.config)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from redi_ray.train.references import reference_logps

        for first, last in zip(batch["first"], batch["last"], strict=True):
            before, store = read_sequences(self.arrays, int(first), int(last))
            index, logps = reference_logps(
                self.policy,
                store,
                np.arange(len(store)),
                tokens_per_pack=self.settings.tokens_per_pack,
                chunk_tokens=self.settings.head_chunk_tokens,
                device=self.device,
                positions=self.positions,
            )
            with tempfile.TemporaryFile() as file:
                reach = np.array(self.positions or 0)
                np.savez(file, index=before + index, logps=logps, model=np.array(self.model), positions=reach)
                file.seek(0)
                storage.write_bytes(_shard(self.out_uri, int(first)), file.read())
        return {"tokens": batch["tokens"]}


def read_sequences(arrays: str, first: int, last: int) -> tuple[int, SequenceStore]:
    """Tokens before the sequences `[first, last)`, and these as a store of their own; nothing else is read."""
    from redi_ray.train.sequences import SequenceStore

    def part(name: str, start: int, stop: int) -> np.ndarray:
        return read_range(storage.join(arrays, f"{name}.npy"), start, stop)

    offsets = part("offsets", first, last + 1)
    begin, end = int(offsets[0]), int(offsets[-1])
    arrays_here = {
        "tokens": part("tokens", begin, end),
        "weights": part("weights", begin, end),
        "offsets": offsets - begin,
        "group": np.arange(last - first),  # whose neighbour a sequence is does not matter here
        "side": part("side", first, last),
        "prompt_lengths": part("prompt_lengths", first, last),
    }
    return begin, SequenceStore.from_arrays(arrays_here)


def join_shards(arrays: str, shards: list[str], out_uri: str) -> None:
    """Write `<out_uri>/arrays`: the sequences' arrays, `ref_logps.npy` (zero where nothing is scored, and beyond the model's
    positions), and the record. A shard is in memory at a time.

    Raises FingerprintError if not all shards, which an earlier attempt may have left, are of one model.
    """
    with storage.at_hand(arrays) as own, tempfile.TemporaryDirectory() as folder:
        weights, offsets = np.load(own / "weights.npy", mmap_mode="r"), np.load(own / "offsets.npy")
        models: set[str] = set()
        firsts = [*map(_first_of, shards), len(offsets) - 1]
        written = f"{REFERENCE}.npy"
        with writing(Path(folder) / written, np.float32, len(weights)) as write:
            for shard, (first, last) in zip(shards, pairwise(firsts), strict=True):
                model, logps = _read_shard(shard, weights[offsets[first] : offsets[last]], offsets[first : last + 1])
                models.add(model)
                write(logps)
        if len(models) > 1:
            raise FingerprintError(
                f"{out_uri}/shards: the reference model has changed since the first of these were written; remove that folder"
            )
        target = storage.join(out_uri, "arrays")
        for path in sorted(own.rglob("*.npy")):
            storage.copy_in(path, storage.join(target, path.relative_to(own).as_posix()))
        storage.copy_in(Path(folder) / written, storage.join(target, written))
        write_record(folder, {**read_record(own), "model": models.pop()}, data=data_fingerprint(own))
        storage.copy_in(Path(folder) / RECORD, storage.join(target, RECORD))


def _read_shard(shard: str, weights: np.ndarray, offsets: np.ndarray) -> tuple[str, np.ndarray]:
    """The model that made a shard, and its log-probs `[T]`, a number for every token of its sequences.

    weights: `[T]` theirs. offsets: `[n + 1]` where they begin among all.
    """
    part = np.load(io.BytesIO(storage.read_bytes(shard)))
    logps, filled = np.zeros(len(weights), np.float32), np.zeros(len(weights), bool)
    index = part["index"] - offsets[0]
    logps[index], filled[index] = part["logps"], True
    place = np.arange(len(weights)) - np.repeat(offsets[:-1] - offsets[0], np.diff(offsets))
    reach = int(part["positions"])
    expected = (np.asarray(weights) != 0) & ((place < reach) if reach else True)
    assert (filled == expected).all(), f"{shard}: reference log-probs do not cover the scored tokens"
    return str(part["model"]), logps
