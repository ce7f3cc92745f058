"""Files appear whole or not at all, locally and on S3; a stage is reused only under the same key; counts must add up."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from redi_ray import storage
from redi_ray.storage import Stage


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def test_files_round_trip(root: str, tmp_path: Path):
    storage.write_json(f"{root}/a/b.json", {"x": 1})
    storage.write_table(f"{root}/a/part-0.parquet", pa.table({"id": [1, 2]}))
    assert storage.read_json(f"{root}/a/b.json") == {"x": 1}
    assert storage.list_files(root, ".parquet") == [f"{root}/a/part-0.parquet"]
    assert next(storage.read_tables([f"{root}/a/part-0.parquet"]))["id"].to_pylist() == [1, 2]
    assert storage.read_tail(f"{root}/a/b.json", 3) == b"1\n}"
    assert storage.exists(f"{root}/a/b.json")
    assert storage.exists(f"{root}/a")
    assert not storage.exists(f"{root}/c")
    storage.download(f"{root}/a", tmp_path / "copy")
    storage.upload(tmp_path / "copy", f"{root}/again")
    assert len(storage.list_files(f"{root}/again")) == 2
    storage.delete(f"{root}/again")
    storage.delete(f"{root}/again")  # not there: fine
    assert storage.list_files(f"{root}/again") == []


def test_a_half_written_file_is_not_listed(tmp_path: Path):
    (tmp_path / "part-0.parquet.1234.tmp").write_bytes(b"half")
    assert storage.list_files(str(tmp_path)) == []


def test_a_stage_is_reused_under_its_key_and_kept_when_the_config_changes(root: str):
    first = Stage(root, "curated", {"limit": 1}, {"verified": "k"})
    assert first.published() is None
    first.publish(counts={"in": 3, "out": 1}, dropped={"too_long": 2})
    changed = Stage(root, "curated", {"limit": 2}, {"verified": "k"})
    assert changed.published() is None
    changed.publish(counts={"in": 3, "out": 3})
    again = Stage(root, "curated", {"limit": 1}, {"verified": "k"}).published()
    assert again is not None
    assert again.dropped == {"too_long": 2}
    assert storage.current_manifest(root, "curated").key == first.key  # back in force


def test_keys_depend_on_config_and_inputs_but_not_on_the_order_of_keys():
    keys = {
        Stage("r", "s", {"a": 1, "b": 2}, {"x": "1"}).key,
        Stage("r", "s", {"b": 2, "a": 1}, {"x": "1"}).key,
    }
    assert len(keys) == 1
    assert Stage("r", "s", {"a": 1, "b": 3}, {"x": "1"}).key not in keys
    assert Stage("r", "s", {"a": 1, "b": 2}, {"x": "2"}).key not in keys


def test_counts_that_do_not_add_up_are_not_published(tmp_path: Path):
    stage = Stage(str(tmp_path), "curated", {}, {})
    with pytest.raises(AssertionError, match="3 rows in, 2 accounted for"):
        stage.publish(counts={"in": 3, "out": 1}, dropped={"too_long": 1})
    assert stage.published() is None


def test_unknown_schemes_and_missing_stages_are_clear(tmp_path: Path):
    with pytest.raises(storage.StorageError, match="unknown scheme"):
        storage.read_bytes("gs://bucket/x")
    with pytest.raises(storage.StorageError, match="no finished `curated` stage"):
        storage.current_manifest(str(tmp_path), "curated")


def test_a_trials_output_is_found_again_but_does_not_take_the_place_of_the_runs_own(tmp_path: Path):
    own = Stage(str(tmp_path), "checkpoints/redi", {"alpha": 0.8}, {})
    own.publish()
    trial = Stage(str(tmp_path), "checkpoints/redi", {"alpha": 1.0}, {}, in_force=False)
    trial.publish(facts={"status": "done"})
    assert storage.current_manifest(str(tmp_path), "checkpoints/redi").key == own.key
    assert trial.published().facts == {"status": "done"}
    assert storage.current_manifest(str(tmp_path), "checkpoints/redi").key == own.key
    winner = Stage(str(tmp_path), "checkpoints/redi", {"alpha": 1.0}, {})
    assert winner.published().key == storage.current_manifest(str(tmp_path), "checkpoints/redi").key == trial.key
