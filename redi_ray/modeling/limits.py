"""What a model's config bounds: which token ids it has vectors for, and how far its positions reach."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redi_ray.config.training import TrainSettings

log = logging.getLogger("redi_ray")

STRETCHED = ("linear", "dynamic", "yarn")
"""Rotary embeddings whose config gives the positions before they are stretched."""


def embedding_rows(config: Any) -> int:
    """Token ids 0 .. rows - 1 have a vector."""
    return int(config.get_text_config().vocab_size)


def longest_sequence(config: Any) -> int | None:
    """Tokens that the positions reach over, prompt included; None where the architecture has no such bound."""
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") in STRETCHED and isinstance(rope.get("factor"), int | float):
        before = rope.get("original_max_position_embeddings") or positions
        positions = max(positions, math.floor(before * rope["factor"]))
    return positions


FLOAT32 = 4
"""Bytes of a number."""
WEIGHTS = (r"model[^/]*\.safetensors", r"pytorch_model[^/]*\.bin")
BYTES = {"float32": FLOAT32, "float64": 8, "bfloat16": 2, "float16": 2}


def count_parameters(path: str) -> int | None:
    """Of a model's folder (local or s3://), by the size of its files and their type; None where that is not at hand (the hub).

    Checkpoints below the folder, and weights in another form beside those that transformers reads, do not count.
    """
    from redi_ray.modeling.tokenizer import is_folder
    from redi_ray.store import storage

    if not is_folder(path):
        return None
    path = storage.resolve(path)
    below = {uri[len(path.rstrip("/")) + 1 :]: uri for uri in storage.list_files(path)}
    safe, older = ([uri for name, uri in below.items() if re.fullmatch(form, name)] for form in WEIGHTS)
    config = storage.read_json(storage.join(path, "config.json"))
    config = config.get("text_config", config) | config
    return sum(storage.file_sizes(safe or older)) // BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 4)


@dataclass(frozen=True)
class Bound:
    """How long the sequences can be that the data stages make."""

    tokens: int
    fields: str
    """Where the config says so."""
    chosen: bool
    """Whether someone has, and it is not the default."""


def length_problems(
    longest: int | None,
    asked: int,
    trainings: Mapping[str, TrainSettings],
    bound: Bound | None,
    model: str = "model.init.architecture",
    own: Mapping[str, Bound] | None = None,
) -> list[str]:
    """Where a model's positions end before what the config asks for.

    Lengths that nobody has chosen are no contradiction: then the positions are the limit, and a line says so. asked: tokens
    of a prompt without its problem; trainings: config field -> settings; model: where it is named; own: a training's bound, where
    it is not `bound`.
    """
    if longest is None:
        return []
    if asked >= longest:
        return [
            f"{model}: its positions end at {longest}, and a prompt has {asked} tokens before its problem is put in: "
            "reach further with model.overrides.max_position_embeddings (and rope_theta), or shorten model.prompt"
        ]
    found, silent, shared = [], [], bound
    for field, settings in trainings.items():
        bound = (own or {}).get(field, shared)
        expected = min(settings.max_length, bound.tokens) if bound is not None else settings.max_length
        if expected <= longest or settings.on_too_long != "error":
            continue
        if settings.max_length == TrainSettings().max_length and not (bound is not None and bound.chosen):
            silent.append(field)
            continue
        told = f"{field}.max_length is {settings.max_length}" + (f" and {bound.fields} {bound.tokens}" if bound else "")
        found.append(
            f"{told}, but the model's positions end at {longest}: lower one of them, let {field}.on_too_long drop or truncate, "
            "or reach further with model.overrides.max_position_embeddings (and rope_theta)"
        )
    if silent:
        log.info(
            "%s: the model's positions end at %d tokens; longer sequences are an error", ", ".join(silent), longest
        )
    return found
