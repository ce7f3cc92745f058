"""The weighted mean of models of one architecture, tensor by tensor, in float32."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from redi_ray.errors import UserError
from redi_ray.pipeline.kinds.kind import MANY, Kind, Outputs, Places
from redi_ray.stages.references import start_of
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

WEIGHTS = ".safetensors"


class MergeError(UserError):
    """Models that cannot be merged; the message says which tensor differs."""


def place(run: Run, step: Step, inputs: Places) -> Stage:
    """The key counts each model by its own key, whatever it is called here."""
    shares = sorted([inputs[name].key, share] for name, share in shares_of(step.settings).items())
    return run.stage(f"checkpoints/{step.name}", {"shares": shares}, {})


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, shares = time.monotonic(), shares_of(step.settings)
    models = [(start_of(inputs[name]), share) for name, share in shares.items()]
    first = inputs[next(iter(shares))]
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
        for file in sorted(target.glob(f"*{WEIGHTS}")):
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


def _tensor(folder: Path, name: str) -> Any:
    """One tensor of a model, from whichever file has it; None if it has none of this name."""
    from safetensors import safe_open

    for file in sorted(folder.glob(f"*{WEIGHTS}")):
        with safe_open(file, "pt") as tensors:
            if name in tensors.keys():  # noqa: SIM118, it is no mapping
                return tensors.get_tensor(name)
    return None


KIND = Kind(name="merge", takes={MANY: ("model",)}, gives="model", stage="checkpoints/{name}", place=place, make=make)
