"""Copies of models are loaded as they are, so nobody else may put any there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from redi_ray.errors import StorageError
from redi_ray.store.own_folder import own_folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_it_is_this_users_alone():
    folder = own_folder("models")
    assert folder == own_folder("models")
    assert folder.is_dir()
    assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_what_others_may_write_to_is_refused():
    folder = own_folder("models")
    folder.parent.chmod(0o777)
    with pytest.raises(StorageError, match="is not this user's alone: remove it, or set TMPDIR"):
        own_folder("models")


def test_a_link_in_its_place_is_refused(tmp_path: Path):
    (tmp_path / "other").mkdir(mode=0o700)
    (tmp_path / f"redi_ray_of_{os.getuid()}").symlink_to(tmp_path / "other")
    with pytest.raises(StorageError, match="is not this user's alone"):
        own_folder("models")
