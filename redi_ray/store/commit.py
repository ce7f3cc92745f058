"""Which commit of this package runs."""

from __future__ import annotations

import json
import os
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

COMMIT = "REDI_RAY_COMMIT"
"""Environment variable that says it where the code has come without its repository, as in a job."""
ROOT = Path(__file__).resolve().parents[2]


@lru_cache(maxsize=1)
def code_commit() -> str | None:
    """The commit, with `+changes` where files differ from it; None where nothing says so."""
    return os.environ.get(COMMIT) or _of_repository() or _of_installation()


def _of_repository() -> str | None:
    if not (ROOT / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        return (
            f"{commit}+changes" if _git("status", "--porcelain", "--untracked-files=no", "--", "redi_ray") else commit
        )
    except (OSError, subprocess.SubprocessError):  # no git, or a repository of another user's
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _of_installation() -> str | None:
    """Of what pip has installed from a repository (PEP 610)."""
    try:
        told = json.loads(distribution("redi_ray").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    return told.get("vcs_info", {}).get("commit_id")
