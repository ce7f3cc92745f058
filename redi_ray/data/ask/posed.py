"""Problems made of samples, one of each, by a prompt that is filled in (`redi_ray.data.ask.made` says what is written).

guides.npy          in `work`: where each guide lies: hash of its sample's id, shard, row; 16 bytes each, sorted by hash
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from redi_ray.config.posed import PoseSettings
from redi_ray.data.ask.made import NO_TEXT, Making, Row, problems_of_shard, problems_of_shards
from redi_ray.data.sources.ids import hash_ids
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import CUT_OFF, PROBLEM, turns_of
from redi_ray.store import parquet, storage
from redi_ray.text.dialogue import as_lines, dialogue_of, spoken
from redi_ray.text.extract import split_thought
from redi_ray.text.judgement import break_up
from redi_ray.text.thoughts import in_parts, without_tags

PLACED = np.dtype([("hash", np.uint64), ("index", np.int64), ("shard", np.int32), ("row", np.int32)])
NO_GUIDE, GUIDE_CUT_OFF = "no_guide", "guide_cut_off"
"""Why a sample gives no problem: nothing was said about it; that was cut off."""
READ = (*PROBLEM.names, "trace_id", "completion", "turns")


@dataclass(frozen=True)
class Posing:
    """How, the same for every shard."""

    samples: str
    """Folder of the verified shards."""
    out_uri: str
    settings: PoseSettings
    tokenizer: str
    """The base model's folder: control tokens of its are broken up."""
    guides: tuple[str, ...] = ()
    """Shards of the traces that guide."""
    trust_remote_code: bool = False

    @property
    def places(self) -> str:
        """The file of where guides lie."""
        return storage.join(self.out_uri, "work", "guides.npy")


def pose(names: list[str], how: Posing) -> Counter[str]:
    """Write `problems` and `dropped` for the shards of these names; the counts: `in`, `out`, and the rest by reason."""
    import ray

    if how.settings.guided and not storage.exists(how.places):
        ray.get(ray.remote(num_cpus=1, max_retries=2)(place_guides).remote(how))
    return problems_of_shards(names, pose_shard, how)


def place_guides(how: Posing) -> None:
    """Note where the first guide of each sample lies, by its number among its problem's samples."""
    parts = [np.empty(0, PLACED)]
    for shard, uri in enumerate(how.guides):
        row = 0
        for batch in parquet.read_batches(uri, ["problem_id", "sample_index"]):
            part = np.empty(batch.num_rows, PLACED)
            part["hash"] = hash_ids(batch["problem_id"].to_pylist())
            part["index"] = batch["sample_index"].to_numpy()
            part["shard"], part["row"] = shard, np.arange(row, row + batch.num_rows)
            parts.append(part)
            row += batch.num_rows
    every = np.concatenate(parts)
    every = every[np.lexsort((every["row"], every["shard"], every["index"], every["hash"]))]
    first = np.r_[True, every["hash"][1:] != every["hash"][:-1]] if len(every) else np.empty(0, bool)
    buffer = io.BytesIO()
    np.save(buffer, every[first])
    storage.write_bytes(how.places, buffer.getvalue())


def pose_shard(name: str, how: Posing) -> Counter[str]:
    """The problems of a shard's samples; counts."""

    def making() -> Making:
        special = load_tokenizer(how.tokenizer, how.trust_remote_code).all_special_tokens
        places = np.load(io.BytesIO(storage.read_bytes(how.places))) if how.settings.guided else np.empty(0, PLACED)

        def make(rows: list[Row]) -> list[Row | str]:
            guides = read_guides([row["trace_id"] for row in rows], places, how)
            return [posed(row, guide, how.settings, special) for row, guide in zip(rows, guides, strict=True)]

        return make

    return problems_of_shard(name, how.samples, how.out_uri, READ, making)


def read_guides(ids: list[str], places: np.ndarray, how: Posing) -> list[dict[str, Any] | None]:
    """The rows of the guides of these samples, None of one that has none."""
    if not len(places):
        return [None] * len(ids)
    wanted = hash_ids(ids)
    at = np.minimum(np.searchsorted(places["hash"], wanted), len(places) - 1)
    there = places["hash"][at] == wanted
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for shard in np.unique(places["shard"][at[there]]).tolist():
        rows = places["row"][at[there & (places["shard"][at] == shard)]].tolist()
        for row, value in parquet.read_rows(how.guides[shard], rows, ["completion", "turns", "finish_reason"]):
            found[shard, row] = value
    keys = [(int(places["shard"][one]), int(places["row"][one])) for one in at]
    return [found[key] if known else None for key, known in zip(keys, there, strict=True)]


def posed(
    row: Mapping[str, Any], guide: Mapping[str, Any] | None, settings: PoseSettings, special_tokens: list[str]
) -> dict[str, Any] | str:
    """A row of PROBLEM, or why there is none. guide: the trace that says one, where the settings want it."""
    thinking, response = in_parts(turns_of(row)[-1]["content"])
    dialogue = dialogue_of(row["problem"])
    filled = {
        "problem": spoken(row["problem"]),
        "dialogue": as_lines(dialogue),
        "thinking": thinking,
        "response": response,
    }
    if settings.guided:
        if guide is None:
            return NO_GUIDE
        if guide["finish_reason"] in CUT_OFF:
            return GUIDE_CUT_OFF
        filled["guide"] = split_thought(turns_of(guide)[-1]["content"])[0]
    told = {name: break_up(without_tags(filled[name]).strip(), special_tokens) for name in sorted(settings.fields)}
    if not all(told.values()):
        return NO_GUIDE if not told.get("guide", "?") else NO_TEXT
    return {
        "problem_id": row["trace_id"],
        "problem": settings.template.format(**told),
        "answer": row["answer"],
        "source": row["source"],
    }
