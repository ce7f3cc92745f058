"""`device: auto` of engines and training workers, decided: the same config with a device wherever it leaves that open.

A device is in no step's key: what lies there from a CPU is reused on a cluster with GPUs, and the other way round, and commands
that start no Ray (`graph`, `plan`) know the keys of a run without asking what its cluster has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from redi_ray.config.resources import EngineSettings, TrainerSettings
from redi_ray.config.step_sections import placed_steps

if TYPE_CHECKING:
    from redi_ray.config.experiment import ExperimentConfig

Device = Literal["cpu", "gpu"]
Choice = Callable[[EngineSettings | TrainerSettings], Device]
"""What a pool of engines, or a set of workers, that says `auto` runs on."""


def on_devices(config: ExperimentConfig, choose: Choice) -> ExperimentConfig:
    """The config with `choose`'s device wherever it says `auto`. Raises ValueError where the rest does not go with it."""
    placed: ExperimentConfig = _placed(config, choose)
    return placed.model_copy(update={"steps": placed_steps(placed, choose)})


def left_open(config: ExperimentConfig) -> dict[str, EngineSettings | TrainerSettings]:
    """The pools and workers in use that say `auto`, by the field that describes them."""
    found: dict[str, EngineSettings | TrainerSettings] = {**config.engines, **config.trainers}
    return {field: one for field, one in found.items() if one.device == "auto"}


def _placed(value: Any, choose: Choice) -> Any:
    if isinstance(value, EngineSettings | TrainerSettings):
        return replace(value, device=choose(value)) if value.device == "auto" else value
    if isinstance(value, Mapping):
        return {name: _placed(item, choose) for name, item in value.items()}
    if isinstance(value, BaseModel):
        return value.model_copy(update=_changed(value, type(value).model_fields, choose))
    if is_dataclass(value) and not isinstance(value, type):
        changed = _changed(value, [field.name for field in fields(value)], choose)
        return replace(value, **changed) if changed else value
    return value


def _changed(section: Any, names: Any, choose: Choice) -> dict[str, Any]:
    found = {name: _placed(getattr(section, name), choose) for name in names}
    return {name: value for name, value in found.items() if value != getattr(section, name)}
