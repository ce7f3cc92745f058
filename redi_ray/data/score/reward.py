"""Whether a folder holds a model, or a reward model, told by its config: no weight is read. What models say of samples is made by
the trainer's policy (`redi_ray.stages.rewards`, `similarity`)."""

from __future__ import annotations

from typing import Any

from redi_ray.errors import UserError
from redi_ray.store import storage

HEADS = "ForSequenceClassification"
"""How the classes end that have a scalar head."""


def look_at_head(folder: str, field: str) -> None:
    """Raise UserError unless the folder is that of a classification model with one label."""
    config = config_of(folder, field)
    classes, labels = config.get("architectures") or [], config.get("id2label") or {}
    if not any(str(name).endswith(HEADS) for name in classes):
        raise UserError(
            f"{field}: {folder} is of the class {', '.join(map(str, classes)) or 'unknown'}, which has no scalar head: the "
            f"scorer `reward` asks a reward model (a class that ends in {HEADS})"
        )
    if len(labels) != 1:
        raise UserError(f"{field}: {folder} has {len(labels) or 2} labels, and a reward model has one")


def config_of(folder: str, field: str) -> dict[str, Any]:
    """The config of a folder's model. Raises UserError where there is none."""
    uri = storage.join(storage.resolve(folder), "config.json")
    if not storage.exists(uri):
        raise UserError(f"{field}: {folder} holds no model (config.json); name a step of the graph, or a folder")
    try:
        config = storage.read_json(uri)
    except ValueError as error:
        raise UserError(f"{field}: {uri} is no config of a model ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{field}: {uri} is no config of a model")
    return config
