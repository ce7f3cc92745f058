"""Tokenising in parts: a range of a table's rows -> a file of token ids and weights, with a table of what lies where.

A part is whole or not there: `done.json` is written last, and a rerun does not make it again. Rows, tokens and text are in memory
a batch at a time, so neither the size of a part nor that of a row group matters.

    <stage>/parts/00003-<hash>/tokens.bin      of each group its tokens (int32), weights (uint8, or float32), units (int16) and
                                               what objectives read by name (float32 each, or records; by name)
                               groups.parquet  MADE: one row per group, in the order of the table
                               done.json       counts, and the first prompts in the order of the ids
    <stage>/rejects/00003-<hash>.parquet       REJECT: rows that could not be encoded
"""

from __future__ import annotations

import bisect
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sources.shards import reject_row
from redi_ray.errors import UserError
from redi_ray.modeling.soft_columns import SoftFormat
from redi_ray.modeling.tokenizer import load_tokenizer, tokenizer_fingerprints
from redi_ray.schemas import REJECT, SOFT_FORMAT, TOKEN_COLUMNS, TOKEN_DISTRIBUTIONS, TOKEN_WEIGHTS, TOKENIZER
from redi_ray.stages import encoding
from redi_ray.stages.encoding import Encoder, Weighting
from redi_ray.stages.groups import IDS, SCHEMAS, Group, Learnt, groups_of
from redi_ray.stages.parts import BATCH_ROWS, Part, read_piece
from redi_ray.store import parquet, storage
from redi_ray.text.recorded import RECORDED
from redi_ray.text.templates import PromptError

NOTHING_SCORED = "nothing_scored"
"""Why a group is dropped: the weights leave one side of it nothing."""
NOT_ENCODABLE, REFUSED = "not_encodable", "refused_by_template"
"""Why a row is rejected."""
BY_TOKEN = (TOKEN_WEIGHTS, TOKEN_COLUMNS, TOKEN_DISTRIBUTIONS)
"""What a table may say of tokens, by one tokenizer."""
DONE = "done.json"

MADE = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),  # of the group in tokens.bin
        pa.field("float", pa.bool_(), nullable=False),  # whether its weights are float32
        pa.field("units", pa.bool_(), nullable=False),  # whether units follow
        pa.field("lengths", pa.list_(pa.int64()), nullable=False),  # this and the following: one of each member
        pa.field("prompts", pa.list_(pa.int32()), nullable=False),
        pa.field("sides", pa.list_(pa.int8()), nullable=False),
        pa.field("scored", pa.list_(pa.int64()), nullable=False),
        pa.field("cut_off", pa.list_(pa.bool_()), nullable=False),
        pa.field("unit_counts", pa.list_(pa.int32()), nullable=False),
        pa.field("rewards", pa.list_(pa.float32()), nullable=False),  # one of each unit
    ]
)
"""A group as a part has it."""


@dataclass(frozen=True)
class Tokenising:
    """How, the same for every part of a table."""

    table: Learnt
    kind: Learnt
    out_uri: str
    tokenizer: str
    prompt: PromptSettings
    weighting: Weighting
    trust_remote_code: bool = False

    def place(self, part: Part) -> str:
        return storage.join(self.out_uri, "parts", part.name)


def tokenise_part(part: Part, how: Tokenising) -> dict[str, Any]:
    """Make a part, or find it made; what its `done.json` says.

    Raises UserError where no row could be encoded: a tokenizer without offsets, a template without a role.
    """
    place = how.place(part)
    if storage.exists(done := storage.join(place, DONE)):
        return storage.read_json(done)
    tokenizer = load_tokenizer(how.tokenizer, how.trust_remote_code)
    uris = {piece.uri for piece in part.pieces}
    for uri in uris:
        require_same_tokenizer(uri, tokenizer)
    encoder = Encoder(tokenizer, how.prompt, how.weighting, next(map(soft_format, uris), None))
    encoder.check()
    with tempfile.TemporaryDirectory() as folder:
        with (
            open(Path(folder) / "tokens.bin", "wb") as file,
            pq.ParquetWriter(f"{folder}/groups.parquet", MADE) as table,
        ):
            written = _Written(encoder, file, table)
            for piece in part.pieces:
                for number, row in read_piece(piece, [*SCHEMAS[how.table].names, *BY_TOKEN]):
                    written.add_row(row, how, f"{piece.uri.rsplit('/', 1)[-1]}:{piece.row_group}:{number}")
            written.flush()
        storage.upload(folder, place)
    if written.rejects:
        rejects = pa.Table.from_pylist(written.rejects, schema=REJECT)
        parquet.write_table(storage.join(how.out_uri, "rejects", f"{part.name}.parquet"), rejects)
    told = {"rows": part.rows, **written.told()}
    storage.write_json(done, told)
    return told


def require_same_tokenizer(uri: str, tokenizer: Any) -> None:
    """Raise UserError where a table weighs the tokens of another tokenizer, or has numbers for them."""
    schema = parquet.read_schema(uri)
    if not {*BY_TOKEN} & {*schema.names}:
        return
    theirs = (schema.metadata or {}).get(TOKENIZER.encode(), b"").decode()
    if theirs != (ours := tokenizer_fingerprints(tokenizer)["tokenizer"]):
        raise UserError(
            f"{uri}: it weighs the tokens of another tokenizer ({theirs}, not {ours}): make the columns of its `weights` and "
            "`token_columns` with the tokenizer of the model that is trained"
        )


def soft_format(uri: str) -> SoftFormat | None:
    """Of the distributions that a table has, if there are any; the same in all of its files."""
    told = (parquet.read_schema(uri).metadata or {}).get(SOFT_FORMAT.encode())
    return None if told is None else SoftFormat.from_json(told)


class _Written:
    """Collects what a part holds."""

    def __init__(self, encoder: Encoder, file: BinaryIO, table: pq.ParquetWriter) -> None:
        self.encoder, self.file, self.table = encoder, file, table
        self.rows: list[dict[str, Any]] = []
        self.rejects: list[dict[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.prompts: list[tuple[str, int, Any]] = []
        """The first in the order of the ids: id, place, messages."""
        self.columns: list[str] | None = None
        """What objectives read by name, the same of every group."""

    def add_row(self, row: dict[str, Any], how: Tokenising, where: str) -> None:
        """Encode a row of the table, or count and keep why not."""
        try:
            made = groups_of(row, how.table, how.kind)
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # a null where there should be messages
            self._reject(where, NOT_ENCODABLE, f"{type(error).__name__}: {error}", row)
            return
        if isinstance(made, str):
            self.counts["in"] += 1
            self.dropped[made] += 1
            return
        for group in made:
            self._add(group, f"{where} ({row[IDS[how.table]]})", row)

    def _add(self, group: Group, where: str, row: dict[str, Any]) -> None:
        try:
            sequences = self.encoder.group(group)
        except PromptError as error:
            self._reject(where, REFUSED, str(error), row)
            return
        except UserError:
            raise
        except ValueError as error:
            self._reject(where, NOT_ENCODABLE, str(error), row)
            return
        self.counts["in"] += 1
        self._keep_prompt(group)
        if all(sequence.weights.any() for sequence in sequences):
            self._write(group["group_id"], sequences)
        else:
            self.dropped[NOTHING_SCORED] += 1

    def _reject(self, where: str, reason: str, detail: str, row: dict[str, Any]) -> None:
        self.counts["in"] += 1
        self.rejects.append(reject_row(where, reason, detail, row))

    def _keep_prompt(self, group: Group) -> None:
        bisect.insort(self.prompts, (group["group_id"], self.counts["in"], group["prompt"]), key=lambda item: item[:2])
        del self.prompts[RECORDED:]

    def _write(self, name: str, sequences: list[encoding.Sequence]) -> None:
        weights = np.concatenate([sequence.weights for sequence in sequences])
        is_mask = bool(((weights == 0) | (weights == 1)).all())
        with_units = any(sequence.units is not None for sequence in sequences)
        names = sorted(sequences[0].columns)
        assert self.columns in (None, names), f"{name}: token columns {names}, and {self.columns} before it"
        self.columns, size = names, 0
        for array in (
            np.concatenate([sequence.tokens for sequence in sequences]),
            weights.astype(np.uint8) if is_mask else weights,
            *([np.concatenate([_units(sequence) for sequence in sequences])] if with_units else []),
            *(np.concatenate([sequence.columns[column] for sequence in sequences]) for column in names),
        ):
            size += self.file.write(array.data)
        self.rows.append(
            {
                "id": name,
                "bytes": size,
                "float": not is_mask,
                "units": with_units,
                "lengths": [len(sequence.tokens) for sequence in sequences],
                "prompts": [sequence.prompt_length for sequence in sequences],
                "sides": [sequence.side for sequence in sequences],
                "scored": [int(np.count_nonzero(sequence.weights)) for sequence in sequences],
                "cut_off": [sequence.cut_off for sequence in sequences],
                "unit_counts": [len(sequence.rewards) for sequence in sequences],
                "rewards": [reward for sequence in sequences for reward in sequence.rewards.tolist()],
            }
        )
        self.counts["out"] += 1
        if len(self.rows) >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        self.table.write_table(pa.Table.from_pylist(self.rows, schema=MADE))
        self.rows = []

    def told(self) -> dict[str, Any]:
        rejected = Counter(reject["reason"] for reject in self.rejects)
        return {
            "in": self.counts["in"],
            "out": self.counts["out"],
            "dropped": dict(self.dropped),
            "rejected": dict(rejected),
            "first_reject": f"{self.rejects[0]['where']}: {self.rejects[0]['detail']}" if self.rejects else "",
            "columns": self.columns or [],
            "soft": None if self.encoder.soft is None else self.encoder.soft.to_json(),
            "prompts": [{"id": name, "messages": messages} for name, _, messages in self.prompts],
        }


def _units(sequence: encoding.Sequence) -> np.ndarray:
    return np.zeros(len(sequence.tokens), np.int16) if sequence.units is None else sequence.units


def merged(told: Iterable[dict[str, Any]], name: str) -> dict[str, int]:
    """The counts under `name` of all parts, added up."""
    total: Counter[str] = Counter()
    for one in told:
        total.update(one[name])
    return dict(total)
