"""A run: its config, its folder, and how a stage opens and publishes its output there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from redi_ray.cluster.runtime import log
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.identity import identity
from redi_ray.config.load import dump_config
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

MODELS = ("checkpoints/", "eval/")
"""Where models and their scores lie by name, whatever step makes them."""


def folder_of(stage: str, step: str) -> str:
    """Where a stage's output lies in the run's folder; step: a named one, whose outputs lie in folders of their own."""
    return f"steps/{step}/{stage}" if step and not stage.startswith(MODELS) else stage


@dataclass(frozen=True)
class Run:
    """An experiment and where it lives."""

    config: ExperimentConfig
    uri: str
    in_force: bool = True
    """Whether what is published or reused here becomes what the run's report shows; not so for a trial of a search."""
    step: str = ""
    """A named step of the graph, whose outputs lie in folders of their own; empty for the standard ones."""

    @classmethod
    def of(cls, config: ExperimentConfig, *, in_force: bool = True) -> Run:
        return cls(config, storage.resolve(config.run_uri), in_force)

    def stage(self, name: str, config: Any, inputs: Mapping[str, Manifest | Stage], *, version: int = 1) -> Stage:
        """The stage's folder for what decides its output (settings lose what only says how) and these inputs."""
        keys = {label: source.key for label, source in inputs.items()}
        return Stage(
            self.uri, folder_of(name, self.step), identity(config), keys, version=version, in_force=self.in_force
        )

    def within(self, step: str, **sections: Any) -> Run:
        """The same run for a step of its own, some sections of the config replaced by what the step says."""
        return replace(self, config=self.config.model_copy(update=sections), step=step)

    def publish(self, stage: Stage, started: float, **facts: Any) -> Manifest:
        """Save the resolved config beside the output and declare it complete."""
        storage.write_bytes(storage.join(stage.uri, "config.yaml"), dump_config(self.config).encode())
        manifest = stage.publish(seconds=time.monotonic() - started, **facts)
        log.info("%-18s done in %.0f s", stage.name, manifest.seconds)
        return manifest

    def reuse(self, stage: Stage) -> Manifest | None:
        """The stage's manifest if it has been published already."""
        manifest = stage.published()
        if manifest is not None:
            log.info("%-18s reused (%s)", stage.name, stage.key)
        return manifest
