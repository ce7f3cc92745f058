"""A column of the log-probs that the engine had of the tokens that it drew. No model runs: what is looked at is whether a
sample's text has those very tokens where it is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.token_steps import LogpsSettings
from redi_ray.config.training import ModelOverrides
from redi_ray.data.columns import AGAIN, KEY, ColumnError, write_column
from redi_ray.data.curate.work import finish, finished
from redi_ray.data.shard_tasks import each_shard
from redi_ray.errors import UserError
from redi_ray.modeling.tokenizer import load_tokenizer, tokenizer_fingerprints
from redi_ray.schemas import SAMPLED_TOKENS, token_scores
from redi_ray.stages.model_shards import NOT_ENCODABLE, SampleEncoder
from redi_ray.store import parquet, storage
from redi_ray.text.spans import own_weights

READ = ("problem", "completion", "turns", "finish_reason")
OTHER_TOKENS, NOT_STORED, NOT_FINITE = "other_tokens", "not_stored", "not_finite"
"""Why a sample has no values: its text is read as other tokens than were drawn, or ended with another one; the engine has stored
none; one of them is no number."""


@dataclass(frozen=True)
class StoredLogps:
    """How, the same for every shard."""

    samples: str
    """Folder of the shards, with verdicts or without, or of some of their rows."""
    traces: str
    """Folder of the shards as they were sampled, by the same names, with their rows in the same order."""
    out_uri: str
    sampler: str
    """The model's folder, or its name on the hub."""
    tokenizer: str
    """The base model's folder."""
    settings: LogpsSettings
    prompt: PromptSettings
    overrides: ModelOverrides


def column_of_stored(names: list[str], how: StoredLogps) -> Counter[str]:
    """Write `<out_uri>/column/<name>` for every shard of samples; the counts: `in`, `scored`, `tokens`, and the samples without
    values by reason.

    Raises UserError where the sampler has another tokenizer than the base model, ColumnError where samples are of other traces.
    """
    counts: Counter[str] = Counter()
    for _, found in each_shard(names, store_shard, how):
        counts.update(found)
    return counts


def store_shard(name: str, how: StoredLogps) -> Counter[str]:
    """Write one shard of the column; its counts."""
    mark, source = storage.join(how.out_uri, "work", f"{name}.json"), storage.join(how.samples, name)
    if (known := finished(mark)) is not None:
        return known
    trusted = how.overrides.trust_remote_code
    tokenizer = load_tokenizer(how.tokenizer, trusted)
    ours = tokenizer_fingerprints(tokenizer)["tokenizer"]
    if tokenizer_fingerprints(load_tokenizer(how.sampler, trusted))["tokenizer"] != ours:
        raise UserError(
            f"logps: {how.sampler} has sampled with another tokenizer than the base model's, so that its log-probs are of other "
            "tokens than are trained. Train from that model, or name in `model` one that has the base model's tokenizer"
        )
    encoder, counts = SampleEncoder(tokenizer, how.prompt, None), Counter[str]()
    drawn = Drawn(storage.join(how.traces, name))

    def values(rows: pa.Table) -> list[dict[str, Any]]:
        return [{"values": _values(row, drawn.of(row[KEY]), encoder, how, counts)} for row in rows.to_pylist()]

    read = READ if how.settings.verdicts is None else (*READ, "verdict")
    write_column(source, storage.join(how.out_uri, "column", name), token_scores(ours), read, values)
    return finish(mark, counts)


class Drawn:
    """What was drawn, by sample: a shard of traces, read forwards."""

    def __init__(self, shard: str) -> None:
        self.shard = shard
        self._rows = self._read()

    def _read(self) -> Iterator[tuple[str, np.ndarray | None, np.ndarray | None]]:
        stored = [field.name for field in SAMPLED_TOKENS]
        names = [name for name in stored if name in parquet.read_schema(self.shard).names]
        for batch in parquet.read_batches(self.shard, [KEY, *names]):
            for at, key in enumerate(batch[KEY].to_pylist()):
                found = [_array(batch[name][at]) for name in names] or [None, None]
                yield key, found[0], found[1]

    def of(self, trace: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Token ids `[n]` and log-probs `[n]` of a trace, which stands behind those that were asked for before."""
        for key, ids, logps in self._rows:
            if key == trace:
                return ids, logps
        raise ColumnError(f"{self.shard} has no trace {trace}, or not in this order: {AGAIN}")


def _array(value: Any) -> np.ndarray | None:
    return value.values.to_numpy() if value.is_valid else None


def _values(
    row: dict[str, Any],
    drawn: tuple[np.ndarray | None, np.ndarray | None],
    encoder: SampleEncoder,
    how: StoredLogps,
    counts: Counter[str],
) -> np.ndarray | None:
    """The values of a sample, or None; counted."""
    counts["in"] += 1
    wanted, (ids, logps) = how.settings.verdicts, drawn
    if wanted is not None and row["verdict"] not in wanted:
        counts[f"verdict_{row['verdict']}"] += 1
        return None
    if ids is None or logps is None:
        counts[NOT_STORED] += 1
        return None
    found = encoder.encode(row, encoder.turns(row))
    if isinstance(found, str):
        counts[NOT_ENCODABLE] += 1
        return None
    own = np.asarray(found.input_ids)[own_weights(found) != 0]
    if not np.array_equal(own, ids):
        counts[OTHER_TOKENS] += 1
        return None
    if not np.isfinite(logps).all():
        counts[NOT_FINITE] += 1
        return None
    counts.update(scored=1, tokens=len(logps))
    return logps
