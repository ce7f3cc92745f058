"""Protects which runs are found below a root, and that no address reaches anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_run import write_data_stages

from redi_ray.store.storage import write_bytes
from redi_ray.ui.places import NoSuchRun, Places, names_of


def test_runs_configs_and_damaged_runs_are_found(root: str):
    for name in ("one", "deep/er/two"):
        write_bytes(f"{root}/{name}/config.yaml", b"name: demo\n")
        write_data_stages(f"{root}/{name}")
    write_data_stages(f"{root}/lost")  # its config is gone
    write_bytes(f"{root}/other/config.yaml", b"of: another program\n")
    write_bytes(f"{root}/demo.yaml", b"name: planned\n")
    found = Places([root]).all()
    assert [(place.name, place.config is None) for place in found] == [
        ("demo.yaml", False), ("lost", True), ("one", True), ("two", True),
    ]  # fmt: skip


def test_a_run_itself_may_be_the_root_and_ids_are_stable(tmp_path: Path):
    run = str(tmp_path / "a run/<b>")
    write_bytes(f"{run}/config.yaml", b"name: demo\n")
    write_data_stages(run)
    (place,) = Places([run]).all()
    assert place.name == "<b>"
    assert Places([str(tmp_path)]).get(place.id).uri == run
    assert all(letter.isalnum() or letter in "-_." for letter in place.id)


def test_links_that_lead_round_list_each_run_once(tmp_path: Path):
    for name in ("runs/one", "elsewhere/two"):
        write_bytes(f"{tmp_path}/{name}/config.yaml", b"name: demo\n")
        write_data_stages(f"{tmp_path}/{name}")
    (tmp_path / "runs/round").symlink_to(tmp_path / "runs")
    (tmp_path / "runs/again").symlink_to(tmp_path / "runs/one")
    (tmp_path / "runs/linked").symlink_to(tmp_path / "elsewhere/two")
    names = sorted(place.name for place in Places([str(tmp_path / "runs")]).all())
    assert len(names) == 2
    assert names[0] in ("again", "linked")


def test_an_address_reaches_no_other_folder(tmp_path: Path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside):
        write_data_stages(str(folder / "run"))
    known = Places([str(inside)])
    (other,) = Places([str(outside)]).all()
    for asked in (other.id, "../outside/run", str(outside / "run"), "..", ""):
        with pytest.raises(NoSuchRun):
            known.get(asked)


def test_a_root_without_runs_is_told(tmp_path: Path):
    places = Places([str(tmp_path)])
    assert places.all() == []
    assert "no run" in places.notes[0]


def test_runs_of_one_name_are_told_apart(tmp_path: Path):
    for seed in (1, 2):
        write_data_stages(str(tmp_path / f"seed-{seed}" / "demo"))
    assert sorted(names_of(Places([str(tmp_path)]).all())) == ["seed-1/demo", "seed-2/demo"]
