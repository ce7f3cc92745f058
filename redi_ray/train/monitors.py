"""What a run writes while it trains: one JSON line per step, and optional trackers.

`metrics.jsonl` is the record that reports are made from. A resumed run first cuts the lines from its restart step on (and
a last line that was cut off), so that every step is there once. Trackers (`redi_ray.train.trackers`) get the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from redi_ray.train.trackers import Tracker, open_tracker

log = logging.getLogger("redi_ray")

STEP_METRICS = (
    "loss",
    "chosen_logp",
    "rejected_logp",
    "margin",
    "pair_accuracy",
    "grad_norm",
    "update_norm",
    "learning_rate",
    "alpha",
    "scored_tokens",
    "tokens_per_second",
    "peak_memory_gib",
    "pack_fill",
)
"""What every line holds, null where an objective has no such thing (no rejected side, no alpha)."""


def keep_before(path: Path, step: int) -> None:
    """Cut `path` to its complete lines of steps before `step`; a file that is not there is left so."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        try:
            if json.loads(line)["step"] < step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    temporary = path.with_suffix(".cut")
    temporary.write_text("".join(kept))
    temporary.replace(path)


class Monitors:
    """Rank 0's view of the run. `Monitors()` records nothing: that is what the other ranks hold.

    folder: where `metrics.jsonl`, `tensorboard/` and trackers' files go.
    run_id: what trackers know the run by, over all its attempts; by default the folder's path decides.
    upload: copies the folder to durable storage; called before every checkpoint and at the end.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        trackers: Sequence[str] = (),
        run_name: str = "redi_ray",
        run_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        upload: Callable[[Path], None] | None = None,
    ) -> None:
        self.folder, self.trackers, self.run_name = folder, tuple(trackers), run_name
        self.run_id = run_id or run_id_of(str(folder.resolve() if folder else ""))
        self.config, self.upload = dict(config or {}), upload
        self.open: dict[str, Tracker] = {}
        self.file: Any = None

    @property
    def path(self) -> Path | None:
        return self.folder / "metrics.jsonl" if self.folder else None

    def start(self, start_step: int) -> None:
        """Open everything for a run that begins, or begins again, at `start_step`. Raises TrackerError where one does not."""
        if self.folder is None or self.path is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        keep_before(self.path, start_step)
        self.file = self.path.open("a")
        for name in self.trackers:
            self.open[name] = open_tracker(
                name,
                run_name=self.run_name,
                run_id=self.run_id,
                folder=self.folder,
                start_step=start_step,
                config=self.config,
            )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One step's numbers. Values that are not finite are null in the file and left out of the trackers.

        A tracker that fails is given up with a warning: a lost connection is no reason to lose a training run.
        """
        if self.file is None:
            return
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        names = [*STEP_METRICS, *(name for name in metrics if name not in STEP_METRICS)]
        self.file.write(json.dumps({"step": step, **{name: finite.get(name) for name in names}}) + "\n")
        self.file.flush()
        for name, tracker in list(self.open.items()):
            try:
                tracker.log(step, finite)
            except Exception as error:
                log.warning("tracker %s is given up at step %d (metrics.jsonl goes on): %s", name, step, error)
                del self.open[name]

    def sync(self) -> None:
        """Make durable what is written so far. Before a checkpoint, so that none is ever ahead of its metrics."""
        if self.file is not None and self.folder is not None:
            os.fsync(self.file.fileno())
            if self.upload is not None:
                self.upload(self.folder)

    def close(self, failed: bool = False) -> None:
        """Close file and trackers, and upload a last time; closing twice does no harm.

        `failed`: the run ends by an error, and trackers that tell runs apart by it should say so.
        """
        for name, tracker in self.open.items():
            try:
                tracker.close(failed)
            except Exception as error:
                log.warning("tracker %s did not close: %s", name, error)
        if self.file is not None:
            self.file.close()
            if self.upload is not None and self.folder is not None:
                self.upload(self.folder)
        self.open, self.file = {}, None


def run_id_of(place: str) -> str:
    """A run's identity for trackers, from the place that is its own: 16 hex digits, as all of them take."""
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`."""
    return [json.loads(line) for line in path.read_text().splitlines()]
