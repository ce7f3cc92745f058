"""The parts of a table -> one set of arrays, in the order of the ids.

In memory are a few numbers for every group; tokens and weights go from file to file, a group at a time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redi_ray.data.sources.readers import DataError
from redi_ray.modeling.soft_columns import SoftFormat
from redi_ray.modeling.tokenizer import load_tokenizer, tokenizer_fingerprints
from redi_ray.schemas import TOKEN_DISTRIBUTIONS
from redi_ray.stages.arrays import writing
from redi_ray.stages.groups import UNPAIRED
from redi_ray.stages.parts import Part
from redi_ray.stages.tokenising import DONE, NOTHING_SCORED, Tokenising, merged
from redi_ray.store import storage
from redi_ray.text.recorded import RECORDED, record_prompts
from redi_ray.train.fingerprints import write_record
from redi_ray.train.sequences import column_path


def join_parts(parts: Sequence[Part], how: Tokenising) -> dict[str, Any]:
    """Write `<out_uri>/arrays/*.npy` and the record beside them.

    Returns counts, what was dropped and rejected, and a record of the first prompts. Raises DataError if nothing is left.
    """
    told = [storage.read_json(storage.join(how.place(part), DONE)) for part in parts]
    rows, dropped, rejected = sum(one["in"] for one in told), merged(told, "dropped"), merged(told, "rejected")
    if not sum(one["out"] for one in told):
        raise DataError(_nothing_left(rows, how, dropped, rejected, told))
    tokenizer = load_tokenizer(how.tokenizer, how.trust_remote_code)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        folders = [stack.enter_context(storage.at_hand(how.place(part))) for part in parts]
        made = _in_order(folders)
        counts = _write_small(made, Path(folder))
        _write_by_token(made, folders, Path(folder), columns_of(told))
        write_record(folder, tokenizer_fingerprints(tokenizer))
        storage.upload(folder, storage.join(how.out_uri, "arrays"))
    prompts = sorted((prompt for one in told for prompt in one["prompts"]), key=lambda prompt: prompt["id"])
    recorded = record_prompts([prompt["messages"] for prompt in prompts[:RECORDED]], tokenizer, how.prompt)
    counts = {"in": rows, "out": made.groups, "groups": made.groups, **counts}
    return {"counts": counts, "dropped": dropped, "rejected": rejected, "facts": {"prompt": recorded}}


def columns_of(told: Sequence[dict[str, Any]]) -> dict[str, np.dtype]:
    """What objectives read by name, and its type, of parts that have any group."""
    one = next((one for one in told if one["out"]), {})
    kinds = {name: np.dtype(np.float32) for name in one.get("columns", [])}
    if one.get("soft") is not None:
        kinds[TOKEN_DISTRIBUTIONS] = SoftFormat.from_json(one["soft"]).dtype
    return kinds


def _nothing_left(
    rows: int, how: Tokenising, dropped: dict[str, int], rejected: dict[str, int], told: Sequence[dict[str, Any]]
) -> str:
    if rejected:
        first = next(one["first_reject"] for one in told if one["first_reject"])
        return f"none of the {rows} {how.kind} can be encoded: {rejected}, dropped {dropped}; the first: {first}"
    if dropped.get(NOTHING_SCORED):
        scored = "has a token to score on every side; mask less of rejected traces"
        return f"none of the {rows} {how.kind} {scored}" + (f" ({dropped})" if len(dropped) > 1 else "")
    way = ""
    if dropped.get(UNPAIRED):
        way = ". A pair is a group of one member on each side: take an objective on samples (kto, advantage, asymre), or pairs"
    return f"none of the {rows} rows of the table `{how.table}` is one to learn {how.kind} from: {dropped}{way}"


@dataclass(frozen=True)
class _Made:
    """All groups of all parts, and the order of the arrays."""

    table: pa.Table
    """MADE, the parts one after another."""
    part: np.ndarray
    """`[groups]`"""
    at: np.ndarray
    """`[groups]` where the group begins in its part's file."""
    order: np.ndarray
    """`[groups]` the group at each place."""

    @property
    def groups(self) -> int:
        return len(self.order)

    def column(self, name: str) -> np.ndarray:
        """`[groups]` of a plain column, in order."""
        return self.table[name].to_numpy()[self.order]

    def sizes(self, name: str) -> np.ndarray:
        """`[groups]` how long each list of a column is, in order."""
        return pc.list_value_length(self.table[name]).to_numpy()[self.order].astype(np.int64)

    def flat(self, name: str) -> np.ndarray:
        """The lists of a column end to end, in order."""
        column = self.table[name].combine_chunks()
        sizes = pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
        starts, taken = (np.cumsum(sizes) - sizes)[self.order], sizes[self.order]
        index = np.repeat(starts - (np.cumsum(taken) - taken), taken) + np.arange(taken.sum())
        return column.flatten().to_numpy(zero_copy_only=False)[index]


def _in_order(folders: Sequence[Path]) -> _Made:
    tables = [pq.read_table(folder / "groups.parquet") for folder in folders]
    sizes = [table["bytes"].to_numpy() for table in tables]
    table = pa.concat_tables(tables)
    ids = table["id"].to_pylist()
    return _Made(
        table,
        part=np.repeat(np.arange(len(tables)), [len(size) for size in sizes]),
        at=np.concatenate([np.cumsum(size) - size for size in sizes]),
        order=np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64),
    )


def _write_small(made: _Made, folder: Path) -> dict[str, int]:
    """The arrays with one number per sequence or unit; returns what was counted on the way."""
    lengths, rewards, unit_counts = made.flat("lengths"), made.flat("rewards"), made.flat("unit_counts")
    without = np.isnan(rewards)
    arrays: dict[str, np.ndarray] = {
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "group": np.repeat(np.arange(made.groups), made.sizes("lengths")).astype(np.int64),
        "side": made.flat("sides").astype(np.int8),
        "prompt_lengths": made.flat("prompts").astype(np.int32),
    }
    if not without.any():
        arrays["reward"] = rewards.astype(np.float32)
    if made.column("units").any():
        arrays["unit_offsets"] = np.concatenate([[0], np.cumsum(unit_counts)]).astype(np.int64)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    counts = {
        "sequences": len(lengths),
        "tokens": int(lengths.sum()),
        "scored_tokens": int(made.flat("scored").sum()),
        "cut_off": int(made.flat("cut_off").sum()),
    }
    some = without.any() and not without.all()
    return counts | ({"units_without_reward": int(without.sum())} if some else {})


def _write_by_token(made: _Made, folders: Sequence[Path], folder: Path, columns: Mapping[str, np.dtype]) -> None:
    """`tokens.npy`, `weights.npy`, where there are units `unit.npy`, and the columns."""
    lengths = made.flat("lengths")
    ends = np.cumsum(made.sizes("lengths"))
    totals = np.diff(np.concatenate([[0], np.cumsum(lengths)[ends - 1]]))
    kind = np.float32 if made.column("float").any() else np.uint8
    places = zip(
        *(made.part[made.order].tolist(), made.at[made.order].tolist(), made.column("bytes").tolist(), totals.tolist()),
        *(made.column("float").tolist(), made.column("units").tolist()),
        strict=True,
    )
    tokens_of_all = int(lengths.sum())
    with ExitStack() as stack:
        files = [stack.enter_context(open(one / "tokens.bin", "rb")).fileno() for one in folders]
        write_tokens = stack.enter_context(writing(folder / "tokens.npy", np.int32, tokens_of_all))
        write_weights = stack.enter_context(writing(folder / "weights.npy", kind, tokens_of_all))
        write_units = None
        if made.column("units").any():
            write_units = stack.enter_context(writing(folder / "unit.npy", np.int16, tokens_of_all))
        write_columns = []
        for name, dtype in columns.items():
            column_path(folder, name).parent.mkdir(exist_ok=True)
            write_columns.append(stack.enter_context(writing(column_path(folder, name), dtype, tokens_of_all)))
        for part, at, size, total, is_float, with_units in places:
            data = os.pread(files[part], size, at)
            own = np.dtype(np.float32 if is_float else np.uint8)
            first = total * 4
            write_tokens(np.frombuffer(data, np.int32, total))
            write_weights(np.frombuffer(data, own, total, first))
            behind = first + total * own.itemsize
            if write_units is not None:
                write_units(np.frombuffer(data, np.int16, total, behind) if with_units else np.zeros(total, np.int16))
            behind += total * 2 if with_units else 0
            for dtype, write in zip(columns.values(), write_columns, strict=True):
                write(np.frombuffer(data, dtype, total, behind))
                behind += total * dtype.itemsize
