"""A run for notebooks: `redi_ray.open_run("runs/demo")`.

    run = redi_ray.open_run("s3://bucket/runs/demo")
    run.state                                       # running, finished, failed, ...
    run.scores("redi")["math500"].pass_at_1
    run.compare("sft", "redi", "math500").ci95
    run.metrics("redi").to_pandas()
    run.table("verified").to_pandas(columns=["problem_id", "verdict"])
    for row in run.table("verified"): ...

What is read is read when it is asked for, and kept; `open_run` again for a run that has gone on since. A run may be running,
finished, cut off, damaged, moved or copied: what cannot be read is among `run.notes`. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import parse_config
from redi_ray.errors import UserError, storage_errors
from redi_ray.eval.metrics import BenchmarkResult, PairedComparison, compare
from redi_ray.pipeline.graph import Graph, GraphError
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.standard import step_named
from redi_ray.pipeline.states import State
from redi_ray.report.browse import run_uri_of
from redi_ray.report.notes import missing_and_odd
from redi_ray.report.runs import Metrics, RunRecord, metrics_of, read_metrics, read_run
from redi_ray.report.standing import RunState, Standing, standing
from redi_ray.report.under_way import TRAINS, Work, under_way
from redi_ray.store import parquet, storage
from redi_ray.store.ending import Ending
from redi_ray.store.manifests import Manifest

if TYPE_CHECKING:
    import pandas as pd


class NotInRun(UserError):
    """A run has no such step, table, model or benchmark; the message says which there are."""


def open_run(uri: str) -> Run:
    """A run by its folder, local or s3://, or by its config's file. Raises StorageError where there is no run."""
    return Run(storage.resolve(run_uri_of(uri)))


@dataclass(frozen=True)
class Table:
    """Rows of one table of a step, in Parquet files. Iterating gives rows as dictionaries, a few in memory at a time."""

    name: str
    files: tuple[str, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the first file; empty without any."""
        return parquet.read_schema(self.files[0]) if self.files else pa.schema([])

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    @cached_property
    def num_rows(self) -> int:
        """Of all files, by their footers."""
        return sum(self._rows_of(uri) for uri in self.files)

    def row_groups(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The row groups one by one: a file is never in memory whole."""
        for uri in self.files:
            fs, path = storage.filesystem(uri)
            with storage_errors("read", uri), fs.open_input_file(path) as source:
                file = pq.ParquetFile(source)
                for number in range(file.num_row_groups):
                    yield file.read_row_group(number, columns=None if columns is None else list(columns))

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows in order, as plain values."""
        for uri in self.files:
            for batch in parquet.read_batches(uri, columns):
                yield from batch.to_pylist()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.rows()

    def __len__(self) -> int:
        return self.num_rows

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows; name the columns where the table is large."""
        tables = list(parquet.read_tables(list(self.files), None if columns is None else list(columns)))
        return pa.concat_tables(tables, promote_options="default") if tables else self.schema.empty_table()

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All rows; name the columns where the table is large."""
        return self.to_arrow(columns).to_pandas()

    @staticmethod
    def _rows_of(uri: str) -> int:
        fs, path = storage.filesystem(uri)
        with storage_errors("read", uri), fs.open_input_file(path) as source:
            return int(pq.read_metadata(source).num_rows)


@dataclass(frozen=True)
class TrainingMetrics:
    """What a training has measured, by optimizer step."""

    model: str
    steps: tuple[Metrics, ...]
    """Of each step name -> value, NaN where it was not finite, in order of `step`, which counts from 0."""

    @property
    def names(self) -> list[str]:
        """Every metric that some step has."""
        return list(dict.fromkeys(name for step in self.steps for name in step))

    def __getitem__(self, name: str) -> list[tuple[int, float]]:
        """(step, value) wherever it was measured."""
        return [(int(step["step"]), step[name]) for step in self.steps if name in step]

    def __len__(self) -> int:
        return len(self.steps)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each step."""
        import pandas as pd

        return pd.DataFrame(list(self.steps), columns=self.names)


class Run:
    """A run that is looked at. See the module for examples; every property is read when it is first asked for."""

    def __init__(self, uri: str) -> None:
        """Raises StorageError where there is no run."""
        self.uri = uri
        self.record: RunRecord = read_run(uri, metrics=False)
        self._metrics: dict[str, TrainingMetrics] = {}

    def __repr__(self) -> str:
        finished = f"{self.standing.finished} of {len(self.standing.steps)} steps finished"
        return f"<run {self.name}: {self.state}, {finished}, at {self.uri}>"

    @property
    def name(self) -> str:
        """The folder's."""
        return self.record.name

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config as plain values; empty where it is lost."""
        return self.record.config

    @cached_property
    def experiment(self) -> ExperimentConfig:
        """The config, parsed. Raises ConfigError where it is of another version."""
        return parse_config(self.config)

    @cached_property
    def standing(self) -> Standing:
        """Whether a driver is at work, and where each step stands."""
        return standing(self.record)

    @property
    def state(self) -> RunState:
        """Of the run as a whole."""
        return self.standing.state

    @property
    def error(self) -> Ending | None:
        """How the last command ended, where that was not well."""
        return self.standing.ending

    @property
    def graph(self) -> Graph:
        """Steps by name, in an order in which each can run."""
        return self.record.graph

    @cached_property
    def steps(self) -> dict[str, State]:
        """Step -> how it stands and why; empty where that cannot be told, see `notes`."""
        return {state.step.name: state for state in self.standing.steps}

    @property
    def at_work(self) -> list[Work]:
        """Of each step that has begun how far it is and how fast, as of now."""
        return under_way(self.record, self.standing.steps)

    @cached_property
    def notes(self) -> list[str]:
        """What is missing, damaged, or not to be trusted."""
        self.standing  # noqa: B018  notes what it cannot tell
        return list(dict.fromkeys([*self.record.notes, *missing_and_odd(self.record)]))

    @property
    def manifests(self) -> dict[str, Manifest]:
        """Stage -> the manifest in force, of every finished stage: counts, what was dropped and why, facts, time, versions."""
        return self.record.manifests

    def manifest(self, step: str) -> Manifest:
        """Of one finished step. Raises NotInRun."""
        found = self.manifests.get(self._step(step).stage)
        if found is None:
            raise NotInRun(f"{self.uri}: step {step} is not finished (redi-ray run CONFIG --until {step})")
        return found

    @cached_property
    def tables(self) -> dict[str, list[str]]:
        """Step -> its tables, of every finished step that has rows."""
        found = {}
        for step in self.graph:
            made = self.manifests.get(step.stage)
            if made is not None and (names := [name for name in KINDS[step.kind].tables if made.files(name)]):
                found[step.name] = names
        return found

    def table(self, step: str, name: str | None = None) -> Table:
        """A table of a finished step; without a name the one that says most. Raises NotInRun."""
        made, known = self.manifest(step), KINDS[self._step(step).kind].tables
        for wanted in known if name is None else (name,):
            if files := made.files(wanted):
                return Table(wanted, tuple(files))
        if not known:
            raise NotInRun(f"{step} gives a {self._step(step).gives}, which has no rows; see `run.tables`")
        there = ", ".join(self.tables.get(self._step(step).name, ())) or "none"
        raise NotInRun(f"{made.uri}: no table {name or ' or '.join(known)}; there are {there}")

    @property
    def models(self) -> list[str]:
        """Models with weights or scores, in the order of training."""
        return [arm.name for arm in self.record.arms]

    @property
    def benchmarks(self) -> list[str]:
        """Benchmarks that some model has scores on."""
        return self.record.benchmarks

    def scores(self, model: str) -> Mapping[str, BenchmarkResult]:
        """Benchmark -> scores: pass@1 with SEM and 95% interval, pass@k, lengths. Raises NotInRun."""
        return self._arm(model).results

    def compare(self, model: str, other: str, benchmark: str) -> PairedComparison:
        """`other` minus `model` in pass@1, paired by problem. Raises NotInRun."""
        results = self.record.results(benchmark)
        if not results:
            raise NotInRun(f"no scores on {benchmark}; there are benchmarks {', '.join(self.benchmarks) or 'none'}")
        for name in (model, other):
            if name not in results:
                raise NotInRun(f"{name} has no scores on {benchmark}; there: {', '.join(results) or 'none'}")
        found = compare(results[model], results[other])
        if found is None:
            raise NotInRun(f"{model} and {other} were not asked the same problems of {benchmark}")
        return found

    def samples(self, model: str) -> list[dict[str, Any]]:
        """Some completions of an evaluation with their verdicts. Raises NotInRun."""
        return self._arm(model).samples

    @cached_property
    def trainings(self) -> dict[str, str]:
        """Model -> the folder of its training, of those that are finished and those that have begun."""
        found = {arm.name: arm.checkpoint.uri for arm in self.record.arms if arm.checkpoint is not None}
        begun = [state for state in self.standing.steps if state.standing == "cut off" and state.step.kind in TRAINS]
        return found | {s.step.name: storage.join(self.uri, s.step.stage, s.key) for s in begun if s.key}

    def metrics(self, model: str) -> TrainingMetrics:
        """What its training has measured; of one that is under way what is there so far. Raises NotInRun."""
        if model not in self.trainings:
            raise NotInRun(f"no training of {model}; there are {', '.join(self.trainings) or 'none'}")
        if model not in self._metrics:
            steps = read_metrics(metrics_of(self.trainings[model]), self.record.notes)
            self._metrics[model] = TrainingMetrics(model, tuple(steps))
        return self._metrics[model]

    def _arm(self, model: str) -> Any:
        found = next((arm for arm in self.record.arms if arm.name == model), None)
        if found is None:
            raise NotInRun(f"no model {model}; there are {', '.join(self.models) or 'none'}")
        return found

    def _step(self, name: str) -> Any:
        try:
            return self.graph[step_named(self.graph, name)]
        except GraphError as error:
            raise NotInRun(str(error)) from None
