"""A place on this machine for copies of what lies on S3."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from redi_ray.errors import StorageError


def own_folder(name: str) -> Path:
    """A folder of this user's, below the temporary one: its names can be guessed, so nobody else may write there.

    Raises StorageError where somebody else has taken its place.
    """
    home = Path(tempfile.gettempdir()) / f"redi_ray_of_{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    found = home.lstat()
    if home.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise StorageError(f"{home} is not this user's alone: remove it, or set TMPDIR to a folder of your own")
    folder = home / name
    folder.mkdir(exist_ok=True)
    return folder
