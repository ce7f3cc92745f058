"""What a place holds, as a short text that changes when the content does: for keys, so that an edited file is not taken for old.

Local files count by their content, objects on S3 by ETag and size, repositories of the hub by their commit. Names count within
a folder; where the folder itself lies does not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache

from redi_ray.errors import storage_errors
from redi_ray.store import s3, storage

BESIDE = (".git/", ".cache/")
"""Folders inside a model's or data set's that tell of its fetching."""


def content_of(uri: str, skip: Callable[[str, str], bool] = lambda name, uri: False) -> str:
    """Of a file or a folder, local or on S3. skip: by a file's name in the folder and its URI, whether it decides nothing.

    Raises StorageError where there is none, or it cannot be read."""
    root = storage.resolve(uri)
    files = storage.list_files(root)
    if files == [root]:
        return _file(root)
    names = {file.removeprefix(root).lstrip("/"): file for file in files}
    counted = {name: file for name, file in names.items() if not name.startswith(BESIDE) and not skip(name, file)}
    parts = [[name, _file(file)] for name, file in counted.items()]
    if not parts:
        raise storage.StorageError(f"{uri}: nothing is there")
    return storage.content_hash(parts)[:16]


def _file(uri: str) -> str:
    if uri.startswith("s3://"):
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        with storage_errors("read", uri):
            head = s3.client().head_object(Bucket=bucket, Key=key)
        return f"{head['ETag']} {head['ContentLength']}"
    with storage_errors("read", uri):
        status = os.stat(uri)
        return _hashed(uri, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=100_000)
def _hashed(path: str, size: int, modified: int, inode: int) -> str:
    """SHA-256 of a file, read once as long as nothing about it has changed."""
    del size, modified, inode
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=100)
def commit_of(name: str, kind: str, revision: str | None) -> str:
    """Commit that a hub repository's revision means now; where the hub cannot be asked, that of the copy on this machine, or the
    revision as it is. kind: `model` or `dataset`."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    try:
        return str(HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=10).sha)
    except Exception:  # offline, gated, gone: whoever reads it says so
        folder = os.path.join(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type=kind))
        reference = os.path.join(folder, "refs", revision or "main")
        if os.path.isfile(reference):
            with open(reference) as file:
                return file.read().strip()
        return revision or "unknown"
