"""Where each step of a graph stands, and why: told from keys and folders, without Ray and without making anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from redi_ray.errors import UserError
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage, current_manifest

Standing = Literal["finished", "cut off", "stale", "missing"]
MOST_TOLD = 3
UNREAD = "storage.root cannot be read"


@dataclass(frozen=True)
class State:
    """Of one step."""

    step: Step
    standing: Standing
    """`cut off`: begun under this key; `stale`: finished under another one; `missing`: never made."""
    why: str = ""
    """What has changed since, for a stale one."""
    key: str | None = None
    """None while it is not known, since an input has to be there first."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Of a step that has begun: input -> its key, those included that it makes on the way."""


def states(graph: Graph, run: Run) -> list[State]:
    """Of every step, in order. Where the run's folder cannot be read, all are missing: it is asked once, since each try takes
    its time, and the first step says why."""
    places: dict[str, Manifest | Stage] = {}
    found, unread = list[State](), _unreadable(run)
    for step in graph:
        why = unread if not found else UNREAD
        try:
            place = _place(run_of(run, step), step, places, readable=not unread)
            key = place.key if place is not None else None
            state = State(step, "missing", why, key) if unread else _state(run, step, place)
        except UserError as error:  # a place that cannot be read is no reason to draw nothing
            found.append(State(step, "missing", _reason(error)))
            continue
        if place is not None:
            places[step.name] = place
        found.append(state)
    return found


def _unreadable(run: Run) -> str:
    """Why the run's folder cannot be read; empty where it can, or is not there."""
    try:
        storage.exists(run.uri)
    except UserError as error:
        return _reason(error)
    return ""


def _reason(error: UserError) -> str:
    return str(error).partition(". ")[0]


def _place(run: Run, step: Step, places: dict[str, Manifest | Stage], *, readable: bool) -> Stage | Manifest | None:
    """Where the output lies; for one that is only known when it is made, the output in force, if its inputs are these."""
    if any(name not in places for name in step.inputs.values()):
        return None
    inputs = {role: places[name] for role, name in step.inputs.items()}
    place = KINDS[step.kind].place(run, step, inputs)
    if place is None and readable and (current := _current(run, step.stage)) is not None:
        return current if current.inputs == {role: of.key for role, of in inputs.items()} else None
    return place


def _current(run: Run, name: str) -> Manifest | None:
    exists = storage.exists(storage.join(run.uri, name, "manifest.json"))
    return current_manifest(run.uri, name) if exists else None


def _state(run: Run, step: Step, place: Stage | Manifest | None) -> State:
    if place is None:
        return State(step, "missing")
    if isinstance(place, Manifest) or storage.exists(storage.join(place.uri, "manifest.json")):
        return State(step, "finished", key=place.key)
    begun = bool(storage.list_files(place.uri))
    if begun:
        return State(step, "cut off", key=place.key, inputs=place.inputs)
    other = _current(run, place.name)
    if other is None:
        return State(step, "missing", key=place.key)
    changed = [*differences(other.config, place.config), *_other_inputs(other, place)]
    shown = changed[:MOST_TOLD] + ([f"{len(changed) - MOST_TOLD} more"] if len(changed) > MOST_TOLD else [])
    return State(step, "stale", ", ".join(shown) or "made by another version", place.key)


def _other_inputs(there: Manifest, wanted: Stage) -> list[str]:
    names = sorted({*there.inputs, *wanted.inputs})
    return [f"another {name}" for name in names if there.inputs.get(name) != wanted.inputs.get(name)]


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Dotted paths of what differs between two plain values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            yield from differences(before.get(name), after.get(name), f"{path}.{name}" if path else str(name))
    elif before != after:
        yield path


def run_of(run: Run, step: Step) -> Run:
    """The run as a step sees it."""
    return run.within(step.name if step.own else "", **step.sections) if step.own or step.sections else run
