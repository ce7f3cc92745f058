"""From curated messages to the token arrays that training reads, one folder per kind of data and set of weights.

Tokenising is shared out (`redi_ray.stages.tokenising`) and joined (`redi_ray.stages.joining`): no process holds all texts or all
tokens. Beside the arrays lies a record of the tokenizer, the template and the data they were made with
(`redi_ray.train.fingerprints`).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from redi_ray.cluster.runtime import log
from redi_ray.config.training import TrainSettings
from redi_ray.data.sources.readers import DataError
from redi_ray.stages.arrays import writing
from redi_ray.stages.bars import WorkBar, label_of
from redi_ray.stages.encoding import weighting_of
from redi_ray.stages.groups import READS, Learnt, table_for
from redi_ray.stages.joining import join_parts
from redi_ray.stages.parts import plan_parts
from redi_ray.stages.remote import all_remotely, remotely
from redi_ray.stages.run import Run
from redi_ray.stages.tokenising import Tokenising, tokenise_part
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.train.fingerprints import data_fingerprint, read_record, write_record
from redi_ray.train.mismatched import CYCLE_SEED, partners
from redi_ray.train.sequences import SequenceStore

ARRAYS_FORMAT = 5
"""Part of the key: raise it when the arrays or the files beside them change."""


def sequences_stage(
    run: Run,
    kind: Learnt,
    curated: Manifest | Stage,
    base: Manifest | Stage,
    settings: TrainSettings,
    objective: str = "",
) -> Stage:
    deciding = {
        "kind": kind,
        "prompt": run.config.model.prompt,
        "weighting": weighting_of(settings, chosen_only=kind == "examples", objective=objective),
        "format": ARRAYS_FORMAT,
    }
    return run.stage(f"sequences/{kind}", deciding, {"curated": curated, "base": base})


def sequences(
    run: Run, kind: Learnt, curated: Manifest, base: Manifest, settings: TrainSettings, objective: str = ""
) -> Manifest:
    """The token arrays of the examples, pairs or groups, shared by every training that weights alike.

    objective: the name of the one that they are for.

    Raises DataError where there is nothing to learn from.
    """
    stage = sequences_stage(run, kind, curated, base, settings, objective)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    table, files = require_table(kind, curated)
    how = Tokenising(
        table,
        kind,
        stage.uri,
        base.facts["export"],
        run.config.model.prompt,
        weighting_of(settings, chosen_only=kind == "examples", objective=objective),
        run.config.model.overrides.trust_remote_code,
    )
    built = _tokenise(run, how, files)
    if built["rejected"]:
        log.warning("%s: %s could not be encoded, see %s/rejects", stage.name, built["rejected"], stage.uri)
    made = run.publish(stage, started, **built)
    storage.delete(storage.join(stage.uri, "parts"))
    return made


def require_table(kind: Learnt, curated: Manifest) -> tuple[Learnt, list[str]]:
    """The table to read and its files. Raises DataError, with the way out, where none can be made into this kind."""
    if found := table_for(kind, curated.files):
        return found
    if "pairs_dropped" in curated.facts:
        raise DataError(
            f"there are no {kind} to train on: curation dropped {curated.dropped}, and of the positives "
            f"{curated.facts['pairs_dropped']}. A pair needs a problem with both a correct and a wrong trace: "
            "sample more per problem (generate.samples_per_round), or widen curate.rejected_verdicts"
        )
    way = "an objective that learns from positives alone (sft)" if kind == "pairs" else "an input that has some"
    raise DataError(
        f"{curated.uri}: there are no {kind} to train on, and no table to make them of ({', '.join(READS[kind])}). Mend: {way}"
    )


def _tokenise(run: Run, how: Tokenising, files: Sequence[str]) -> dict[str, Any]:
    """The parts in tasks of their own, those that an earlier attempt has left not again, and what comes of them."""
    resources = run.config.resources
    options = {"label_selector": resources.cpu_label_selector} if resources.cpu_label_selector else {}
    parts = remotely(plan_parts, files, **options)
    calls = [(part, how) for part in parts]
    with WorkBar(label_of("tokenise", run.step), sum(part.rows for part in parts), "rows") as progress:
        for told in all_remotely(tokenise_part, calls, at_once=resources.curate_workers, options=options):
            progress(told["rows"])
    return remotely(join_parts, parts, how, **options)


def mismatched_stage(run: Run, data: Manifest | Stage) -> Stage:
    return run.stage("sequences/mismatched", {"cycle_seed": CYCLE_SEED, "format": ARRAYS_FORMAT}, {"sequences": data})


def mismatched(run: Run, data: Manifest) -> Manifest:
    """The mismatched sequences of these, as token arrays of their own: the prompts with other groups' completions."""
    stage = mismatched_stage(run, data)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    counts = remotely(build_mismatched, storage.join(data.uri, "arrays"), stage.uri)
    return run.publish(stage, started, counts=counts)


def build_mismatched(arrays: str, out_uri: str) -> dict[str, int]:
    """Write `<out_uri>/arrays/*.npy`, made of the arrays at `arrays`: what `mismatched_sequences` makes of them, a sequence in
    memory at a time. Raises DataError if they hold a single group."""
    with storage.at_hand(arrays) as own, tempfile.TemporaryDirectory() as folder:
        store = SequenceStore.load(own)
        try:
            theirs = partners(store)
        except ValueError as error:
            raise DataError(f"{arrays}: {error}; curate more, or set the objective's baseline to none") from error
        prompts, others = np.asarray(store.prompt_lengths, np.int64), Path(folder)
        lengths = prompts + store.lengths[theirs] - prompts[theirs]
        np.save(others / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        for name in ("group", "side", "prompt_lengths"):
            shutil.copyfile(own / f"{name}.npy", others / f"{name}.npy")
        with (
            writing(others / "tokens.npy", np.int32, int(lengths.sum())) as write_tokens,
            writing(others / "weights.npy", store.weights.dtype, int(lengths.sum())) as write_weights,
        ):
            for sequence, partner in enumerate(theirs.tolist()):
                prompt, completion = store.span(sequence).start, store.span(partner)
                behind = slice(completion.start + int(prompts[partner]), completion.stop)
                write_tokens(store.tokens[prompt : prompt + prompts[sequence]])
                write_tokens(store.tokens[behind])
                weights = np.concatenate([np.zeros(prompts[sequence], store.weights.dtype), store.weights[behind]])
                weights[:1] = 0  # nothing predicts the first token
                write_weights(weights)
        write_record(others, {**read_record(own), "pairs": data_fingerprint(own)})
        storage.upload(others, storage.join(out_uri, "arrays"))
    return {"groups": store.num_groups, "sequences": len(store), "tokens": int(lengths.sum())}
