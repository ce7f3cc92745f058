"""Arrays that are read and written by pieces hold what whole ones do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from redi_ray.stages.arrays import read_range, writing
from redi_ray.stages.references import join_shards, read_sequences
from redi_ray.store import storage
from redi_ray.train.fingerprints import FingerprintError, data_fingerprint, read_record
from redi_ray.train.sequences import SequenceRecord, SequenceStore


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "float32"])
def test_a_file_written_by_pieces_is_numpys_own(root: str, tmp_path: Path, dtype: str):
    whole = np.arange(300).astype(dtype)
    np.save(tmp_path / "whole.npy", whole)
    with writing(tmp_path / "pieces.npy", dtype, 300) as write:
        for start in range(0, 300, 70):
            write(whole[start : start + 70].astype(np.int64))
    assert (tmp_path / "pieces.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    storage.copy_in(tmp_path / "pieces.npy", f"{root}/there/pieces.npy")
    found = read_range(f"{root}/there/pieces.npy", 17, 130)
    assert found.dtype == dtype
    assert found.tolist() == whole[17:130].tolist()


def test_shards_of_log_probs_are_joined_in_their_order(root: str, tmp_path: Path):
    """As one array in place, zero where nothing is scored; a shard of another model is refused."""
    records = [SequenceRecord(g, 1, [*range(5, 8 + g)], 1, weights=[0, 1, *[g % 2] * (g + 1)]) for g in range(4)]
    store = SequenceStore.from_records(records)
    store.save(tmp_path / "arrays")
    storage.upload(tmp_path / "arrays", f"{root}/stored")
    shards = []
    for first, last in ((0, 1), (1, 4)):
        before, part = read_sequences(f"{root}/stored", first, last)
        assert [part.tokens[part.span(n)].tolist() for n in range(len(part))] == [
            r.input_ids for r in records[first:last]
        ]
        index = before + np.flatnonzero(part.weights)
        shards.append(f"{root}/made/shards/from-{first:09d}.npz")
        write_shard(shards[-1], tmp_path, index, "one")
    join_shards(f"{root}/stored", shards, f"{root}/made")
    with storage.at_hand(f"{root}/made/arrays") as folder:
        joined = SequenceStore.load(folder, mmap=False)
        record = read_record(folder)
        assert record == {"data": data_fingerprint(folder), "model": "one"}
    scored = store.weights != 0
    assert joined.ref_logps is not None
    assert joined.ref_logps.tolist() == np.where(scored, -np.arange(len(scored)), 0).tolist()
    assert joined.tokens.tolist() == store.tokens.tolist()
    write_shard(shards[0], tmp_path, np.zeros(0, np.int64), "one")
    with pytest.raises(AssertionError, match="do not cover"):
        join_shards(f"{root}/stored", shards, f"{root}/made")
    write_shard(shards[0], tmp_path, np.flatnonzero(scored[:3]), "other")
    with pytest.raises(FingerprintError, match="model has changed"):
        join_shards(f"{root}/stored", shards, f"{root}/made")


def write_shard(uri: str, scratch: Path, index: np.ndarray, model: str) -> None:
    np.savez(
        scratch / "shard.npz",
        index=index,
        logps=-index.astype(np.float32),
        model=np.array(model),
        positions=np.array(0),
    )
    storage.copy_in(scratch / "shard.npz", uri)
