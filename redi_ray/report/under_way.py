"""What a run is at: of each step that has begun how far it is, how fast, and how long it will take.

Told from the files that the step has written, so it holds wherever the step runs. Nothing is read whole: of a training the end of
its metrics, of a table the footers of its newest files.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import fmean, median

import pyarrow.fs as pafs
import pyarrow.parquet as pq

from redi_ray.config.data import SampledTraces
from redi_ray.config.load import parse_config
from redi_ray.config.student import ArithmeticModel
from redi_ray.errors import StorageError, storage_errors
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.states import State
from redi_ray.report.runs import RunRecord, metrics_of
from redi_ray.report.trained import STAGES
from redi_ray.stages.run import folder_of
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest

TAIL_BYTES = 64 << 10
"""Of a training's metrics that rates are taken over."""
NEWEST_FILES = 24
"""Of a table that rates are taken over."""
SAMPLED_FILES = 3
"""Files whose rows, and tokens, are counted."""
ALIGNED = ("verify", "score", "locate", "contrast", "logps")
"""Kinds whose tables have the rows of the samples that they are made of."""


@dataclass(frozen=True)
class Work:
    """A step that has begun."""

    step: str
    kind: str
    uri: str
    """Where its output will lie."""
    unit: str
    """`steps` of an optimizer, or `rows`."""
    done: int
    total: int | None
    rate: float | None
    """Units a second."""
    tokens_per_second: float | None
    quiet: float | None
    """Seconds since it last wrote something."""
    about: bool = False
    """Whether `done` is an estimate."""

    @property
    def left(self) -> float | None:
        """Seconds, at this rate."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.done) / self.rate


def under_way(run: RunRecord, steps: Sequence[State]) -> list[Work]:
    """The steps that have begun and are not finished. What cannot be read is left out."""
    found = []
    for state in steps:
        if state.standing != "cut off" or state.key is None:
            continue
        uri = storage.join(run.uri, state.step.stage, state.key)
        try:
            found.append(_training(run, state, uri) if state.step.kind in TRAINS else _table(run, state.step, uri))
        except (StorageError, OSError):
            continue
    return found


TRAINS = ("train", "base")
"""Kinds with metrics of optimizer steps."""


def next_up(graph: Graph, steps: Sequence[State]) -> list[str]:
    """Steps with all their inputs there that have not begun: a driver may be at what comes before their first file."""
    standing = {state.step.name: state.standing for state in steps}
    waiting = [step for step in graph if standing.get(step.name) in ("missing", "stale")]
    return [step.name for step in waiting if all(standing.get(of) == "finished" for of in step.inputs.values())]


def _training(run: RunRecord, state: State, uri: str) -> Work:
    step, lines = state.step, newest_metrics(metrics_of(uri))
    seconds = [
        line["total_tokens"] / line["tokens_per_second"]
        for line in lines
        if line.get("tokens_per_second") and line.get("total_tokens")
    ]
    rates = [line["tokens_per_second"] for line in lines if line.get("tokens_per_second")]
    done = int(lines[-1]["step"]) + 1 if lines else 0
    return Work(
        step.name,
        step.kind,
        uri,
        "steps",
        done,
        total_steps(run, state),
        1 / fmean(seconds) if seconds and fmean(seconds) > 0 else None,
        median(rates) if rates else None,
        _quiet(_infos(uri)),
    )


def newest_metrics(uri: str) -> list[dict[str, float]]:
    """The last lines of a training's metrics, in order; none where there are none yet."""
    if not storage.exists(uri):
        return []
    found = []
    for line in storage.read_tail(uri, TAIL_BYTES).split(b"\n"):
        try:
            values = json.loads(line)
            found.append({name: float(value) for name, value in values.items() if value is not None})
        except (ValueError, TypeError, AttributeError):
            continue  # cut off at either end
    return [line for line in found if math.isfinite(line.get("step", math.nan))]


def total_steps(run: RunRecord, state: State) -> int | None:
    """Optimizer steps that a training will have, unless groups are dropped for their length."""
    step = state.step
    if step.kind == "base":
        init = parse_config(run.config).model.init
        return init.train.total_steps(init.corpus_size) if isinstance(init, ArithmeticModel) else None
    key, own = state.inputs.get("sequences", ""), step.name if step.own else ""
    places = [storage.join(run.uri, folder_of(stage, own), key, "manifest.json") for stage in STAGES]
    place = next((place for place in places if key and storage.exists(place)), None)
    groups = None if place is None else storage.read_json(place).get("counts", {}).get("groups")
    return int(step.settings.settings.total_steps(groups)) if groups else None


def _table(run: RunRecord, step: Step, uri: str) -> Work:
    table = next((name for name in KINDS[step.kind].tables), "")
    infos = _infos(uri)
    parts = [info for info in infos if f"/{table}/" in info.path and info.path.endswith(".parquet")] if table else []
    parts.sort(key=lambda info: info.mtime_ns or 0)
    prefix = "s3://" if uri.startswith("s3://") else ""
    asked = [rows_and_tokens(prefix + info.path) for info in parts[-SAMPLED_FILES:]]
    counted = [found for found in asked if found is not None]
    each = fmean(rows for rows, _ in counted) if counted else 0.0
    newest = [(info.mtime_ns or 0) / 1e9 for info in parts[-NEWEST_FILES:]]
    gaps = sum(later - earlier for earlier, later in pairwise(newest))
    rate = each * (len(newest) - 1) / gaps if gaps > 0 else None
    tokens = [found for _, found in counted if found is not None]
    per_row = sum(tokens) / sum(rows for rows, found in counted if found is not None) if tokens else None
    return Work(
        step.name,
        step.kind,
        uri,
        "rows",
        round(each * len(parts)),
        total_rows(run, step),
        rate,
        per_row * rate if per_row and rate else None,
        _quiet(infos),
        about=len(parts) > SAMPLED_FILES,
    )


def total_rows(run: RunRecord, step: Step) -> int | None:
    """Rows that a table will have; None where that shows only at its end."""
    inputs: Mapping[str, Manifest | None] = {
        role: run.stages.get(run.graph[of].stage) for role, of in step.inputs.items()
    }
    if step.kind in ALIGNED:
        of = inputs.get("of")
        return of.counts.get("out") if of else None
    if step.kind == "evaluate":
        asked = {sum(result.num_problems * result.num_samples for result in arm.results.values()) for arm in run.arms}
        return max(asked, default=0) or None
    generate = step.sections.get("generate", run.config.get("generate"))
    if step.kind == "sample" and (problems := inputs.get("problems")) is not None:
        rounds = _setting(generate, "max_rounds", 1)
        if rounds == 1 and (count := problems.counts.get("out")):
            return int(count) * int(_setting(generate, "samples_per_round", 4))
    return None


def _setting(section: object, name: str, otherwise: int) -> int:
    if isinstance(section, SampledTraces):
        return int(getattr(section, name))
    return int(section.get(name, otherwise)) if isinstance(section, Mapping) else otherwise


def _infos(uri: str) -> list[pafs.FileInfo]:
    """Of every file below a place."""
    fs, path = storage.filesystem(uri)
    with storage_errors("listed", uri):
        found = fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    return [info for info in found if info.type == pafs.FileType.File and not info.path.endswith(".tmp")]


def _quiet(infos: Iterable[pafs.FileInfo]) -> float | None:
    newest = max((info.mtime_ns or 0 for info in infos), default=0)
    return max(0.0, time.time() - newest / 1e9) if newest else None


@lru_cache(maxsize=4096)
def rows_and_tokens(uri: str) -> tuple[int, int | None] | None:
    """Rows of a finished file, and the tokens that a model wrote in them, where they are counted; None if it is damaged."""
    fs, path = storage.filesystem(uri)
    try:
        with storage_errors("read", uri), fs.open_input_file(path) as source:
            file = pq.ParquetFile(source)
            if "num_tokens" not in file.schema_arrow.names:
                return file.metadata.num_rows, None
            tokens = file.read(columns=["num_tokens"]).column("num_tokens").to_pylist()
            return file.metadata.num_rows, sum(count or 0 for count in tokens)
    except (StorageError, ValueError, OSError):
        return None
