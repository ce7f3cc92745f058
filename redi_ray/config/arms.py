"""The sections `sft` and `redi`: both stages of training, and the arms of the second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from redi_ray.config.names import TAKEN
from redi_ray.config.objectives import Objective, RediObjective, SftObjective
from redi_ray.config.readable import readable_errors
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.reward_objectives import VALUED
from redi_ray.config.section import Strict
from redi_ray.config.training import TrainSettings

TRAIN_SETTINGS = TypeAdapter(TrainSettings)


class SftConfig(Strict):
    """Stage 1: supervised fine-tuning on the positives."""

    objective: SftObjective = SftObjective()
    """Token mean, as in the paper's code, or sequence mean."""
    train: TrainSettings = TrainSettings(learning_rate=5e-5, batch_size=128, epochs=3)
    """Optimizer, batches, checkpoints."""


class Arm(Strict):
    """One variant of stage 2. It starts from the SFT checkpoint and sees the same pairs in the same order."""

    objective: Annotated[Objective, Field(discriminator="name")] = RediObjective()
    """The loss: `name` picks it, and the other keys are its own (`redi-ray config --schema` lists all of both)."""
    train: dict[str, Any] = {}
    """What differs from `redi.train`; of a section such as `guard`, only the fields that differ."""


def merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`shared` with `own` in its place, section by section, field by field.

    Example: {"guard": {"window": 8, "action": "warn"}} and {"guard": {"action": "stop"}} -> both changes in one `guard`.
    """
    found = dict(shared)
    for name, value in own.items():
        below = found.get(name)
        found[name] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return found


class RediConfig(Strict):
    """Stage 2: the pairs. Run an alpha = 0 arm too, or the gain of negatives is confounded with more SFT."""

    train: TrainSettings = TrainSettings(learning_rate=1e-6, batch_size=32, epochs=1)
    """Shared by all arms."""
    arms: dict[str, Arm] = {"redi": Arm()}
    """Name -> variant."""
    trainer: TrainerSettings | None = None
    """Workers of the arms' training, in place of `resources.trainer` as a whole: what is left out here has its default."""

    def settings(self, arm: str) -> TrainSettings:
        """`train` with the arm's own changes."""
        return TRAIN_SETTINGS.validate_python(merged(asdict(self.train), self.arms[arm].train))

    @model_validator(mode="after")
    def _arms_are_sound(self) -> RediConfig:
        for name in self.arms:
            if name in TAKEN:
                raise ValueError(f"arm {name!r}: the name is that of {TAKEN[name]}; give the arm another one")
            if not name.replace("_", "").replace("-", "").replace(".", "").isalnum():
                raise ValueError(f"arm {name!r}: use letters, digits, '-', '_' and '.', the name becomes a folder")
            if (objective := self.arms[name].objective.name) in VALUED:
                raise ValueError(
                    f"arm {name!r}: {objective} trains a reward model, which is no arm to compare: make it a step "
                    f"({{do: train, from: sft, on: curated, objective: {{name: {objective}}}}})"
                )
            try:
                self.settings(name)
            except ValidationError as error:
                told = readable_errors(error, TRAIN_SETTINGS.json_schema(), "train")
                raise ValueError(f"arm {name!r}: {told}") from error
        return self
