"""`redi-ray push`: what is sent, and where it is then."""

from __future__ import annotations

from redi_ray.talk.models import find_models
from redi_ray.talk.push import Pushed, files_of, require_name
from redi_ray.talk.push import push as send


def push(run: str, name: str, repository: str, *, public: bool = False, dry_run: bool = False) -> None:
    """Print the files; unless `dry_run`, send them and print the address. Raises what `redi_ray.talk.push` raises."""
    require_name(repository)
    (model,) = find_models(run, [name])
    files = files_of(model)
    for file in files:
        print(f"{_size(file):>10}  {file.name}")
    seen = "public" if public else "private if it is new"
    print(
        f"{_size(Pushed('', sum(file.bytes for file in files))):>10}  {len(files)} files of {name} for {repository}, {seen}"
    )
    if not dry_run:
        print(f"pushed: {send(model, repository, public=public)}")


def _size(file: Pushed) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if file.bytes >= size:
            return f"{file.bytes / size:.1f} {unit}"
    return f"{file.bytes} B"
