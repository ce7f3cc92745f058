"""`redi-ray push`: what is sent, and where it is then."""

from __future__ import annotations

from collections.abc import Sequence

from redi_ray.talk.models import TalkError, find_models
from redi_ray.talk.push import Pushed, files_of, require_name
from redi_ray.talk.push import push as send
from redi_ray.talk.tables import export, find_tables, is_place, push_tables


def push(run: str, name: str, repository: str, *, public: bool = False, dry_run: bool = False) -> None:
    """A model: print the files; unless `dry_run`, send them and print the address. Raises what `redi_ray.talk.push` raises."""
    if is_place(repository):
        raise TalkError(
            f"{repository}: a model is pushed to the hub, as NAME or OWNER/NAME; its folder is copied as it is"
        )
    require_name(repository)
    (model,) = find_models(run, [name])
    _list(files_of(model), f"{name} for {repository}, {_seen(public)}")
    if not dry_run:
        print(f"pushed: {send(model, repository, public=public)}")


def push_step(
    run: str, name: str, target: str, tables: Sequence[str], *, public: bool = False, dry_run: bool = False
) -> None:
    """Tables of a step, in the same way, to the hub, to S3 or into a folder; a dry run prints their card, too. Raises what
    `redi_ray.talk.tables` raises."""
    place = is_place(target)
    if place and public:
        raise TalkError(f"--public is of the hub; who may read {target} is decided there")
    if not place:
        require_name(target)
    found = find_tables(run, name, tables)
    _list(found.listed, f"{found.step} for {target}{'' if place else f', {_seen(public)}'}")
    if dry_run:
        print(f"\n{found.card}")
    elif place:
        print(f"exported: {export(found, target)}")
    else:
        print(f"pushed: {push_tables(found, target, public=public)}")


def _seen(public: bool) -> str:
    return "public" if public else "private if it is new"


def _list(files: Sequence[Pushed], what: str) -> None:
    for file in files:
        print(f"{_size(file):>10}  {file.name}")
    print(f"{_size(Pushed('', sum(file.bytes for file in files))):>10}  {len(files)} files of {what}")


def _size(file: Pushed) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if file.bytes >= size:
            return f"{file.bytes / size:.1f} {unit}"
    return f"{file.bytes} B"
