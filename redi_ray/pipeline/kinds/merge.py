"""The weighted mean of models of one architecture, tensor by tensor, in float32."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redi_ray.errors import UserError
from redi_ray.pipeline.kinds.kind import MANY, Kind, Outputs, Places
from redi_ray.stages.references import start_of
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

WEIGHTS = ".safetensors"
COMPUTED = "rotary_emb.inv_freq"
"""Ends names of tensors that old models have stored, though the config gives them."""
MOST_TOLD = 3


class MergeError(UserError):
    """Models that cannot be merged; the message says which tensor differs."""


def place(run: Run, step: Step, inputs: Places) -> Stage:
    """The key counts each model by its own key, whatever it is called here, and says which comes first: config, tokenizer,
    prompt and type of the weights are its."""
    shares = shares_of(step.settings)
    counted = sorted([inputs[name].key, share] for name, share in shares.items())
    return run.stage(f"checkpoints/{step.name}", {"shares": counted, "like": inputs[next(iter(shares))].key}, {})


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    import ray

    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, shares = time.monotonic(), shares_of(step.settings)
    first = inputs[next(iter(shares))]
    added = sorted(shares, key=lambda name: (inputs[name].key, shares[name]))  # in one order, so that sums round alike
    models = [(start_of(inputs[name]), shares[name]) for name in added]
    export = storage.join(stage.uri, "export")
    try:
        ray.get(ray.remote(num_cpus=1, max_retries=2)(merge).remote(models, first.facts["export"], export))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return run.publish(stage, started, facts={"export": export, "prompt": first.facts["prompt"], "merged": shares})


def shares_of(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights over their sum."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def merge(models: list[tuple[str, float]], like: str, out_uri: str) -> None:
    """Write the folder `like` with the mean of the models' weights in its own types; (folder, share) each.

    A file at a time, so that one shard of each model is in memory. Raises MergeError where they have other tensors.
    """
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory() as scratch:
        folders = []
        for number, (uri, _) in enumerate(models):
            storage.download(uri, Path(scratch) / str(number))
            folders.append(Path(scratch) / str(number))
        target = Path(scratch) / "merged"
        storage.download(like, target)
        files = sorted(target.glob(f"*{WEIGHTS}"))
        if not files:
            raise MergeError(f"{like}: no {WEIGHTS} file there, and a merge reads no other weights")
        for folder, (uri, _) in zip(folders, models, strict=True):
            if others := _only_in(folder, target):
                raise MergeError(
                    f"{uri} has {', '.join(others[:MOST_TOLD])}{' and more' * (len(others) > MOST_TOLD)}, and {like} has not: "
                    "they must be of one architecture"
                )
        for file in files:
            merged = load_file(file)
            for name, tensor in merged.items():
                parts = [_tensor(folder, name) for folder in folders]
                other = next((p for p in parts if p is None or p.shape != tensor.shape), tensor)
                if other is None or other.shape != tensor.shape:
                    raise MergeError(
                        f"{like} and the other models of the merge differ in {name}: they must be of one architecture"
                    )
                mean = sum(share * part.float() for part, (_, share) in zip(parts, models, strict=True))
                merged[name] = mean.to(tensor.dtype)
            save_file(merged, file, metadata={"format": "pt"})
        storage.upload(target, out_uri)


def _names(folder: Path) -> list[str]:
    from safetensors import safe_open

    names = []
    for file in sorted(folder.glob(f"*{WEIGHTS}")):
        with safe_open(file, "pt") as tensors:
            names += list(tensors.keys())
    return names


def _only_in(folder: Path, like: Path) -> list[str]:
    """Tensors that one model has and the other has not, but for what says nothing: frequencies that the config gives, and a
    second copy of a tied one."""
    from torch import equal

    shared = set(_names(like))
    found = [name for name in _names(folder) if name not in shared and not name.endswith(COMPUTED)]
    inner = [name for name in shared if "embed" in name] if found else []
    embeddings = [tensor for name in inner if (tensor := _tensor(folder, name)) is not None]
    return [name for name in found if not any(equal(_tensor(folder, name), one) for one in embeddings)]


def _tensor(folder: Path, name: str) -> Any:
    """One tensor of a model, from whichever file has it; None if it has none of this name."""
    from safetensors import safe_open

    for file in sorted(folder.glob(f"*{WEIGHTS}")):
        with safe_open(file, "pt") as tensors:
            if name in tensors.keys():  # noqa: SIM118, it is no mapping
                return tensors.get_tensor(name)
    return None


KIND = Kind(name="merge", takes={MANY: ("model",)}, gives="model", stage="checkpoints/{name}", place=place, make=make)
