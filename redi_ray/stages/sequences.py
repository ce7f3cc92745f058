"""From curated messages to the token arrays that training reads, one folder per kind of data and set of masks.

Beside the arrays lies a record of the tokenizer, the template and the data they were made with
(`redi_ray.train.fingerprints`).
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.training import TrainSettings
from redi_ray.data.sources.readers import DataError
from redi_ray.modeling.tokenizer import load_tokenizer, tokenizer_fingerprints
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.text.recorded import RECORDED, record_prompts
from redi_ray.text.templates import Message, closing_id
from redi_ray.text.thoughts import THINK_TAGS
from redi_ray.text.tokens import Encoded, encode, loss_mask, tag_places
from redi_ray.train.fingerprints import data_fingerprint, read_record, write_record
from redi_ray.train.mismatched import CYCLE_SEED, mismatched_sequences
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore

Kind = Literal["examples", "pairs"]

ARRAYS_FORMAT = 4
"""Part of the key: raise it when the arrays or the files beside them change."""


def sequences_stage(
    run: Run, kind: Kind, curated: Manifest | Stage, base: Manifest | Stage, settings: TrainSettings
) -> Stage:
    deciding = {
        "kind": kind,
        "prompt": run.config.model.prompt,
        "masks": masks_of(settings) if kind == "pairs" else None,
        "format": ARRAYS_FORMAT,
    }
    return run.stage(f"sequences/{kind}", deciding, {"curated": curated, "base": base})


def sequences(run: Run, kind: Kind, curated: Manifest, base: Manifest, settings: TrainSettings) -> Manifest:
    """The token arrays of the positives or the pairs, shared by every arm with the same masks."""
    stage = sequences_stage(run, kind, curated, base, settings)
    if found := run.reuse(stage):
        return found
    if not curated.counts["positives" if kind == "examples" else "pairs"]:
        raise DataError(
            f"there are no {kind} to train on: curation dropped {curated.dropped}, and of the positives "
            f"{curated.facts['pairs_dropped']}. A pair needs a problem with both a correct and a wrong trace: "
            "sample more per problem (generate.samples_per_round), or widen curate.rejected_verdicts"
        )
    masks, started = masks_of(settings), time.monotonic()
    build = ray.remote(num_cpus=1, max_retries=2)(build_sequences)
    arguments = (kind, curated.files(kind), stage.uri, base.facts["export"], run.config.model.prompt, masks)
    try:
        built = ray.get(build.remote(*arguments, run.config.model.overrides.trust_remote_code))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return run.publish(stage, started, **built)


def build_sequences(
    kind: Kind,
    shards: list[str],
    out_uri: str,
    tokenizer_path: str,
    prompt: PromptSettings,
    masks: Masks,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Tokenise in the order of the ids, which curation made a fixed shuffle, and write `<out_uri>/arrays/*.npy`.

    Returns counts, what was dropped (`nothing_scored`: the masks cover one side whole), and a record of the first prompts.
    """
    tokenizer = load_tokenizer(tokenizer_path, trust_remote_code)
    encoder = Encoder(tokenizer, prompt, masks)
    encoder.check()
    key, to_records = ("example_id", encoder.example) if kind == "examples" else ("pair_id", encoder.pair)
    rows = sorted((row for table in storage.read_tables(shards) for row in table.to_pylist()), key=lambda row: row[key])
    records: list[SequenceRecord] = []
    groups = 0
    for row in rows:
        found = to_records(groups, row)
        if all(any(record.weights or ()) for record in found):
            records += found
            groups += 1
    if not records:
        raise DataError(
            f"none of the {len(rows)} {kind} has a token to score on every side; mask less of rejected traces"
        )
    store = SequenceStore.from_records(records)
    with tempfile.TemporaryDirectory() as folder:
        store.save(folder)
        write_record(folder, tokenizer_fingerprints(tokenizer))
        storage.upload(folder, storage.join(out_uri, "arrays"))
    ends = [store.tokens[end - 1] == closing_id(tokenizer) for end in store.starts + store.lengths]
    counts = {
        "in": len(rows),
        "out": groups,
        "groups": groups,
        "sequences": len(store),
        "tokens": len(store.tokens),
        "scored_tokens": int(store.scored.sum()),
        "cut_off": len(store) - int(sum(ends)),
    }
    dropped = {"nothing_scored": len(rows) - groups} if groups < len(rows) else {}
    chats = [row["messages"][:-1] if kind == "examples" else row["prompt"] for row in rows[:RECORDED]]
    return {"counts": counts, "dropped": dropped, "facts": {"prompt": record_prompts(chats, tokenizer, prompt)}}


def mismatched_stage(run: Run, data: Manifest | Stage) -> Stage:
    return run.stage("sequences/mismatched", {"cycle_seed": CYCLE_SEED, "format": ARRAYS_FORMAT}, {"sequences": data})


def mismatched(run: Run, data: Manifest) -> Manifest:
    """The mismatched sequences of these, as token arrays of their own: the prompts with other groups' completions."""
    stage = mismatched_stage(run, data)
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
    return {"groups": store.num_groups, "sequences": len(store), "tokens": len(store.tokens)}


@dataclass(frozen=True)
class Masks:
    """What of rejected traces is not pushed down; chosen ones are always scored whole."""

    end_of_turn: bool
    think_tags: bool


def masks_of(settings: TrainSettings) -> Masks:
    return Masks(settings.mask_rejected_end_of_turn, settings.mask_rejected_think_tags)


@dataclass(frozen=True)
class Encoder:
    """Rows of the curated tables -> sequence records."""

    tokenizer: Any
    prompt: PromptSettings
    masks: Masks

    def check(self) -> None:
        """Raise DataError where the tokenizer cannot tell which tokens the masks mean."""
        if self.masks.think_tags and not self.tokenizer.is_fast:
            raise DataError(
                "mask_rejected_think_tags needs a tokenizer that knows where its tokens lie in the text (a fast one), and "
                f"{type(self.tokenizer).__name__} does not; leave it off"
            )

    def example(self, group: int, row: dict[str, Any]) -> list[SequenceRecord]:
        """One sequence of a positive."""
        *messages, answer = row["messages"]
        return [self._chosen(group, self._encode(messages, answer["content"], row["finished"]))]

    def pair(self, group: int, row: dict[str, Any]) -> list[SequenceRecord]:
        """The two sequences of a pair."""
        messages, chosen, rejected = row["prompt"], row["chosen"][0]["content"], row["rejected"][0]["content"]
        good = self._encode(messages, chosen, row["chosen_finished"])
        bad = self._encode(messages, rejected, row["rejected_finished"])
        return [self._chosen(group, good), self._rejected(group, bad, rejected)]

    def _encode(self, messages: list[Message], completion: str, finished: bool | None) -> Encoded:
        return encode(messages, completion, self.tokenizer, self.prompt, finished=finished is not False)

    def _chosen(self, group: int, sequence: Encoded) -> SequenceRecord:
        return SequenceRecord(group, +1, sequence.input_ids, sequence.prompt_length, loss_mask(sequence))

    def _rejected(self, group: int, sequence: Encoded, completion: str) -> SequenceRecord:
        ids = {closing_id(self.tokenizer)} if self.masks.end_of_turn else set()
        places: frozenset[int] = frozenset()
        if self.masks.think_tags:
            places = tag_places(completion, THINK_TAGS, self.tokenizer, self.prompt)
        mask = loss_mask(sequence, ids, places)
        return SequenceRecord(group, -1, sequence.input_ids, sequence.prompt_length, mask)
