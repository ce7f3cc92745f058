"""From curated messages to the token arrays that training reads, one folder per kind of data and set of masks.

Beside the arrays lies a record of the tokenizer, the template and the data they were made with
(`redi_ray.train.fingerprints`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import ray

from redi_ray import storage
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.training import TrainSettings
from redi_ray.data.readers import DataError
from redi_ray.modeling.tokenizer import THINK_TAGS, load_tokenizer, tokenizer_fingerprints
from redi_ray.stages.run import Run
from redi_ray.storage import Manifest
from redi_ray.text.prompts import Message, render_prompt
from redi_ray.text.tokens import Encoded, encode, loss_mask
from redi_ray.train.fingerprints import data_fingerprint, read_record, write_record
from redi_ray.train.mismatched import CYCLE_SEED, mismatched_sequences
from redi_ray.train.sequences import SequenceRecord, SequenceStore

Kind = Literal["examples", "pairs"]

ARRAYS_FORMAT = 2
"""Part of the key: raise it when the arrays or the files beside them change."""


def sequences(run: Run, kind: Kind, curated: Manifest, base: Manifest, settings: TrainSettings) -> Manifest:
    """The token arrays of the positives or the pairs, shared by every arm with the same masks."""
    masks = {"end_of_turn": settings.mask_rejected_end_of_turn, "think_tags": settings.mask_rejected_think_tags}
    told = {
        "kind": kind,
        "prompt": run.config.model.prompt,
        "masks": masks if kind == "pairs" else None,
        "format": ARRAYS_FORMAT,
    }
    stage = run.stage(f"sequences/{kind}", told, {"curated": curated, "base": base})
    if found := run.reuse(stage):
        return found
    if not curated.counts["positives" if kind == "examples" else "pairs"]:
        raise DataError(
            f"there are no {kind} to train on: curation dropped {curated.dropped}, and of the positives "
            f"{curated.facts['pairs_dropped']}. A pair needs a problem with both a correct and a wrong trace: "
            "sample more per problem (generate.samples_per_round), or widen curate.rejected_verdicts"
        )
    started = time.monotonic()
    build = ray.remote(num_cpus=1, max_retries=2)(build_sequences)
    arguments = (kind, curated.files(kind), stage.uri, base.facts["export"], run.config.model.prompt, masks)
    try:
        facts = ray.get(build.remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return run.publish(stage, started, counts=facts.pop("counts"), facts=facts)


def build_sequences(
    kind: Kind, shards: list[str], out_uri: str, tokenizer_path: str, prompt: PromptSettings, masks: dict[str, bool]
) -> dict[str, Any]:
    """Tokenise in the order of the ids, which curation made a fixed shuffle, and write `<out_uri>/arrays/*.npy`."""
    tokenizer = load_tokenizer(tokenizer_path)
    masked = masked_ids(tokenizer, masks)
    key = "example_id" if kind == "examples" else "pair_id"
    rows = sorted((row for table in storage.read_tables(shards) for row in table.to_pylist()), key=lambda row: row[key])
    to_records = example_records if kind == "examples" else pair_records
    store = SequenceStore.from_records(
        record for group, row in enumerate(rows) for record in to_records(group, row, tokenizer, prompt, masked)
    )
    with tempfile.TemporaryDirectory() as folder:
        store.save(folder)
        write_record(folder, tokenizer_fingerprints(tokenizer))
        storage.upload(folder, storage.join(out_uri, "arrays"))
    messages = rows[0]["messages"][:-1] if kind == "examples" else rows[0]["prompt"]
    rendered = {"messages": messages, "text": render_prompt(messages, tokenizer, prompt)}
    counts = {"groups": store.num_groups, "sequences": len(store), "tokens": int(store.offsets[-1])}
    return {"counts": {**counts, "scored_tokens": int(store.loss_mask.sum())}, "prompt": rendered}


def mismatched(run: Run, data: Manifest) -> Manifest:
    """The mismatched sequences of these, as token arrays of their own: the prompts with other groups' completions."""
    stage = run.stage("sequences/mismatched", {"cycle_seed": CYCLE_SEED, "format": ARRAYS_FORMAT}, {"sequences": data})
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    build = ray.remote(num_cpus=1, max_retries=2)(build_mismatched)
    arrays = storage.join(data.uri, "arrays")
    try:
        counts = ray.get(build.remote(arrays, stage.uri))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return run.publish(stage, started, counts=counts)


def build_mismatched(arrays: str, out_uri: str) -> dict[str, int]:
    """Write `<out_uri>/arrays/*.npy`, made of the arrays at `arrays`. Raises DataError if they hold a single group."""
    with tempfile.TemporaryDirectory() as folder:
        own, others = Path(folder) / "own", Path(folder) / "mismatched"
        storage.download(arrays, own)
        try:
            store = mismatched_sequences(SequenceStore.load(own))
        except ValueError as error:
            raise DataError(f"{arrays}: {error}; curate more, or set the objective's baseline to none") from error
        store.save(others)
        write_record(others, {**read_record(own), "pairs": data_fingerprint(own)})
        storage.upload(others, storage.join(out_uri, "arrays"))
    return {"groups": store.num_groups, "sequences": len(store), "tokens": int(store.offsets[-1])}


def masked_ids(tokenizer: Any, masks: dict[str, bool]) -> frozenset[int]:
    """The tokens of rejected traces that are not pushed down."""
    ids = {tokenizer.eos_token_id} if masks["end_of_turn"] else set()
    if masks["think_tags"]:
        for tag in THINK_TAGS:
            tag_ids = tokenizer(tag, add_special_tokens=False)["input_ids"]
            if len(tag_ids) != 1:
                raise DataError(f"mask_rejected_think_tags: {tag} is {len(tag_ids)} tokens in this tokenizer, not one")
            ids.update(tag_ids)
    return frozenset(ids)


def example_records(
    group: int, row: dict[str, Any], tokenizer: Any, prompt: PromptSettings, masked: frozenset[int]
) -> Iterator[SequenceRecord]:
    """One sequence of a positive."""
    *messages, answer = row["messages"]
    yield _record(group, +1, encode(messages, answer["content"], tokenizer, prompt), frozenset())


def pair_records(
    group: int, row: dict[str, Any], tokenizer: Any, prompt: PromptSettings, masked: frozenset[int]
) -> Iterator[SequenceRecord]:
    """The two sequences of a pair; `masked` applies to the rejected side."""
    messages: list[Message] = row["prompt"]
    yield _record(group, +1, encode(messages, row["chosen"][0]["content"], tokenizer, prompt), frozenset())
    yield _record(group, -1, encode(messages, row["rejected"][0]["content"], tokenizer, prompt), masked)


def _record(group: int, side: int, sequence: Encoded, masked: frozenset[int]) -> SequenceRecord:
    return SequenceRecord(
        group=group,
        side=side,
        input_ids=sequence.input_ids,
        prompt_length=sequence.prompt_length,
        loss_mask=loss_mask(sequence, masked),
    )
