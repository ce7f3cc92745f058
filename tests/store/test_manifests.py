"""A stage is reused only under the same key; counts must add up."""

from __future__ import annotations

from pathlib import Path

import pytest

from redi_ray.store import manifests, storage
from redi_ray.store.manifests import Stage, current_manifest


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
    assert manifests.current_manifest(root, "curated").key == first.key  # back in force


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


def test_a_trials_output_is_found_again_but_does_not_take_the_place_of_the_runs_own(tmp_path: Path):
    own = Stage(str(tmp_path), "checkpoints/redi", {"alpha": 0.8}, {})
    own.publish()
    trial = Stage(str(tmp_path), "checkpoints/redi", {"alpha": 1.0}, {}, in_force=False)
    trial.publish(facts={"status": "done"})
    assert manifests.current_manifest(str(tmp_path), "checkpoints/redi").key == own.key
    assert trial.published().facts == {"status": "done"}
    assert manifests.current_manifest(str(tmp_path), "checkpoints/redi").key == own.key
    winner = Stage(str(tmp_path), "checkpoints/redi", {"alpha": 1.0}, {})
    assert winner.published().key == manifests.current_manifest(str(tmp_path), "checkpoints/redi").key == trial.key


def test_a_stage_that_has_not_been_run_is_named(tmp_path: Path):
    with pytest.raises(storage.StorageError, match="no finished `curated` stage"):
        manifests.current_manifest(str(tmp_path), "curated")


@pytest.mark.parametrize(
    ("data", "told"),
    [(b'{"stage":', "this is no JSON"), (b"[]", "no manifest of this version"), (b'{"new": 1}', "no manifest")],
)
def test_a_damaged_manifest_is_named_and_a_deleted_one_made_again(tmp_path: Path, data: bytes, told: str):
    """As the message advises: the output itself is still there under its key."""
    stage = Stage(str(tmp_path), "curated", {}, {})
    made = stage.publish(counts={"in": 1, "out": 1})
    current = tmp_path / "curated/manifest.json"
    current.write_bytes(data)
    for ask in (lambda: current_manifest(str(tmp_path), "curated"), stage.published):
        with pytest.raises(storage.StorageError, match=rf"curated/manifest.json: .*{told}.*delete it"):
            ask()
    current.unlink()
    assert stage.published() == current_manifest(str(tmp_path), "curated") == made


def test_a_run_that_was_moved_finds_its_own_places(tmp_path: Path):
    """Its old folder may be gone; places elsewhere, and texts that only mention one, stay as they are."""
    facts = {
        "export": f"{tmp_path}/run/checkpoints/sft/k/export",
        "teacher": "/elsewhere/model",
        "prompt": ["run: 1 km"],
    }
    Stage(f"{tmp_path}/run", "checkpoints/sft", {}, {}).publish(facts=facts)
    (tmp_path / "run").rename(tmp_path / "moved")
    found = current_manifest(f"{tmp_path}/moved", "checkpoints/sft")
    assert found.facts == {**facts, "export": f"{tmp_path}/moved/checkpoints/sft/k/export"}
    assert found.uri.startswith(f"{tmp_path}/moved/")
    again = Stage(f"{tmp_path}/moved", "checkpoints/sft", {}, {}).published()
    assert again == found
