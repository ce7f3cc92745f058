"""Finding the models of a run that can be asked, by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import load_config
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import is_folder
from redi_ray.pipeline.asked import is_reward
from redi_ray.pipeline.graph import Graph
from redi_ray.pipeline.rounds import written
from redi_ray.pipeline.standard import graph_of
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, current_manifest
from redi_ray.store.own_folder import own_folder

FOLDER = "checkpoints"
"""Where a run's models lie, by name."""


class TalkError(UserError):
    """A model that cannot be asked, served or pushed; the message says which could be."""


@dataclass(frozen=True)
class RunModel:
    """A finished model of a run."""

    name: str
    run_uri: str
    config: ExperimentConfig
    """Of the run: how the model was prompted, sampled and judged there."""
    manifest: Manifest
    is_reward: bool
    """Whether it gives numbers in place of text."""

    @property
    def export(self) -> str:
        """Its Hugging Face folder (local or s3://), or its name on the hub."""
        return str(self.manifest.facts["export"])

    @property
    def recorded(self) -> dict[str, Any]:
        """Prompts that it was trained with; see `redi_ray.text.recorded`."""
        return dict(self.manifest.facts["prompt"])

    @property
    def trusts_code(self) -> bool:
        return self.config.model.overrides.trust_remote_code or self.config.resources.engine.trusts_code

    def local(self) -> str:
        """A folder on this machine (of what is on S3 a copy, made once for each output), or the name on the hub."""
        if not self.export.startswith("s3://"):
            return self.export
        name = storage.content_hash([self.export, self.manifest.key])[:16]
        folder = own_folder("exports") / name
        if not folder.exists():
            draft = folder.with_name(f"{name}.{os.getpid()}.part")
            storage.download(self.export, draft)
            if folder.exists():  # another process was faster
                return str(folder)
            draft.rename(folder)
        return str(folder)


def run_of(target: str) -> tuple[str, ExperimentConfig]:
    """A run's folder and config, by the folder or a config file. Raises TalkError where no run is there."""
    if target.endswith((".yaml", ".yml")):
        target = load_config(target).run_uri
    uri = storage.resolve(target)
    config = storage.join(uri, "config.yaml")
    if not storage.exists(config):
        raise TalkError(f"{target}: no run is there (it has no config.yaml); name a run's folder, or its config")
    return uri, load_config(config)


def find_models(target: str, names: list[str]) -> list[RunModel]:
    """The finished models of these names. target: see `run_of`. Of a repeated step the bare name means its last round.

    Raises TalkError for a name that is none, or is not finished.
    """
    uri, config = run_of(target)
    graph = graph_of(config)
    there = finished_models(uri, graph)
    return [_found(uri, config, graph, there, name) for name in names]


def finished_models(run_uri: str, graph: Graph) -> list[str]:
    """Names of the models of a run that are there: the graph's, then those that its config no longer names."""
    root = storage.join(run_uri, FOLDER)
    files = storage.list_files(root, "/manifest.json")
    parts = [file.removeprefix(root).strip("/").split("/") for file in files]
    found = {name for name, *rest in parts if rest == ["manifest.json"]}
    return [name for name in dict.fromkeys([*graph.giving("model"), *sorted(found)]) if name in found]


def _found(uri: str, config: ExperimentConfig, graph: Graph, there: list[str], name: str) -> RunModel:
    planned = graph.giving("model")
    if name not in (*planned, *there):  # of a repeated step its last round
        name = next((model for model in reversed([*planned, *there]) if written(model) == name), name)
    listed = ", ".join(there) or "none yet"
    if name not in there:
        if name in planned:
            raise TalkError(
                f"{uri}: {name} is not finished (redi-ray run CONFIG --until {name}); finished models: {listed}"
            )
        near = get_close_matches(name, [*there, *planned], 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise TalkError(f"{uri}: no model named {name}{meant}; finished models: {listed}")
    manifest = current_manifest(uri, f"{FOLDER}/{name}")
    step = graph.steps.get(name)
    model = RunModel(name, uri, config, manifest, step is not None and is_reward(step))
    if is_folder(model.export) and not storage.exists(storage.join(model.export, "config.json")):
        raise TalkError(
            f"{model.export}: the weights of {name} are gone; `redi-ray run` with the run's config makes them"
        )
    return model


def find_speakers(target: str, names: list[str]) -> list[RunModel]:
    """The same of models that write text. Raises TalkError for a reward model."""
    models = find_models(target, names)
    if rewards := [model.name for model in models if model.is_reward]:
        raise TalkError(
            f"{', '.join(rewards)}: a reward model writes no text; the scorer `reward` of a step `score` asks it"
        )
    return models
