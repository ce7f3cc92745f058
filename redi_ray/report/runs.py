"""Reads a run's folder into memory: manifests, training metrics, evaluation results, sample traces.

What there is to read says the graph of the run's config. A run that stopped half-way, or a file that is damaged, is a note in
`RunRecord.notes`, never an exception: a report is wanted most when something went wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import yaml

from redi_ray.eval.metrics import BenchmarkResult
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.report.lineage import control_arm, graph_of_record, models_of
from redi_ray.store.manifests import Manifest, current_manifest
from redi_ray.store.storage import StorageError, exists, join, list_files, read_bytes, read_json
from redi_ray.text.dialogue import spoken

MODELS, SCORES = "checkpoints", "eval"
"""Folders of models and of their scores, by name."""
SAMPLE_FIELDS = ("problem_id", "problem", "answer", "completion", "extracted_answer", "verdict", "num_tokens")
SCORED = ("score", "ranked", "guided", "agreement")
"""What scorers and people's scores add to a benchmark's result."""
NO_SAMPLE: dict[str, Any] = dict.fromkeys(SAMPLE_FIELDS)

T = TypeVar("T")
Metrics = dict[str, float]
"""Of one optimizer step: name -> value, NaN where it was not finite; metrics the objective has not are left out."""


@dataclass(frozen=True)
class ArmRecord:
    """One model of the run: how it was trained, how it scored."""

    name: str
    checkpoint: Manifest | None
    steps: list[Metrics]
    """In order of `step`; a step repeated after a resume counts once, as last written."""
    evaluation: Manifest | None
    results: dict[str, BenchmarkResult]
    """Benchmark -> scores."""
    scored: dict[str, dict[str, Any]]
    """Benchmark -> what scorers add: `score` and `ranked` (`redi_ray.eval.ranking`), `guided` (`redi_ray.eval.guided`), and
    `agreement` with people's scores, where these were asked."""
    samples: list[dict[str, Any]]
    """Sampled completions with their verdicts; every key of SAMPLE_FIELDS is there, None if unknown."""


@dataclass(frozen=True)
class RunRecord:
    """What a run's folder holds."""

    uri: str
    config_text: str
    config: dict[str, Any]
    graph: Graph
    """Of the config, or of what is understood of it; see `understood`."""
    understood: bool
    stages: dict[str, Manifest | None]
    """Stage -> its output, for every step that gives no model and no scores, and for what steps make on the way."""
    arms: list[ArmRecord]
    """The models in the graph's order, then those that the config no longer names."""
    notes: list[str] = field(default_factory=list)
    """What is missing or damaged, for the reader."""

    @property
    def name(self) -> str:
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    def steps(self, *types: str) -> list[Step]:
        """The steps with an output of these types, in order."""
        return [step for step in self.graph if step.gives in types]

    def results(self, benchmark: str) -> dict[str, BenchmarkResult]:
        """Arm -> scores on one benchmark, in the arms' order."""
        return {arm.name: arm.results[benchmark] for arm in self.arms if benchmark in arm.results}

    @property
    def benchmarks(self) -> list[str]:
        return list(dict.fromkeys(name for arm in self.arms for name in arm.results))

    @property
    def control(self) -> str | None:
        """The arm that others are compared with."""
        return control_arm(self.graph, [arm.name for arm in self.arms if arm.results])

    @property
    def manifests(self) -> dict[str, Manifest]:
        """Every finished stage, in the order of the pipeline."""
        found = {name: manifest for name, manifest in self.stages.items() if manifest is not None}
        for kind in ("checkpoint", "evaluation"):
            for arm in self.arms:
                manifest = getattr(arm, kind)
                if manifest is not None:
                    found[manifest.stage] = manifest
        return found


def read_run(run_uri: str, *, metrics: bool = True) -> RunRecord:
    """Read everything a report needs. metrics: whether those of trainings are read, which are long.

    Raises StorageError if there is no run at all at `run_uri`.
    """
    notes: list[str] = []
    config_text, config = _config(run_uri, notes)
    graph, understood = graph_of_record(config)
    damaged: list[str] = []
    stages = _stages(run_uri, graph, damaged)
    notes[:0] = damaged
    arms = [_arm(run_uri, name, notes, metrics) for name in _arm_names(run_uri, models_of(graph))]
    if not arms and not any(stages.values()) and not config_text:
        raise StorageError(f"{run_uri}: no run here (neither config.yaml nor a finished stage)")
    return RunRecord(run_uri, config_text, config, graph, understood, stages, arms, notes)


def _stages(run_uri: str, graph: Graph, notes: list[str]) -> dict[str, Manifest | None]:
    """Outputs on the way to models, each behind what was made for it; parts of an earlier output are none of this run's."""
    found: dict[str, Manifest | None] = {}
    data = [step for step in graph if step.gives not in ("model", "scores")]
    for step in (*data, *(step for step in graph if step.gives == "model")):
        parts = {stage: _manifest(run_uri, stage, notes) for stage in step.parts if stage not in found}
        made = _manifest(run_uri, step.stage, notes) if step.gives != "model" else None
        for stage, part in parts.items():
            role = step.parts[stage]
            used = role is None or (part is not None and made is not None and made.inputs.get(role) == part.key)
            found[stage] = part if used else None
        if step.gives != "model":
            found[step.stage] = made
    return found


def _arm_names(run_uri: str, wanted: list[str]) -> list[str]:
    found = set()
    for kind in (MODELS, SCORES):
        root = join(run_uri, kind)
        for file in list_files(root, "/manifest.json"):
            parts = file.split(f"/{kind}/")[-1].split("/")
            if len(parts) == 2:  # <arm>/manifest.json; those of older outputs are one folder deeper
                found.add(parts[0])
    return [name for name in dict.fromkeys([*wanted, *sorted(found)]) if name in found]


def _arm(run_uri: str, name: str, notes: list[str], metrics: bool) -> ArmRecord:
    checkpoint = _manifest(run_uri, f"{MODELS}/{name}", notes)
    evaluation = _manifest(run_uri, f"{SCORES}/{name}", notes)
    steps = read_metrics(metrics_of(checkpoint.uri), notes) if checkpoint and metrics else []
    results: dict[str, BenchmarkResult] = {}
    scored: dict[str, dict[str, Any]] = {}
    samples: list[dict[str, Any]] = []
    if evaluation:
        uri = join(evaluation.uri, "report.json")
        found = attempt(lambda: dict(read_json(uri)), uri, notes) or {}
        for entry in found.get("benchmarks") or []:
            result = attempt(partial(BenchmarkResult.from_dict, entry), uri, notes)
            if result is not None:
                results[str(entry.get("name"))] = result
                scored[str(entry.get("name"))] = {key: entry[key] for key in SCORED if entry.get(key)}
        samples = [{**NO_SAMPLE, **sample} for sample in found.get("samples") or [] if isinstance(sample, dict)]
        samples = [{**sample, "problem": spoken(str(sample["problem"] or ""))} for sample in samples]
    return ArmRecord(name, checkpoint, steps, evaluation, results, scored, samples)


def metrics_of(training: str) -> str:
    """Where a training's metrics lie, in its folder."""
    return join(training, "metrics.jsonl")


def read_metrics(uri: str, notes: list[str]) -> list[Metrics]:
    """What a training measured, in order of `step`; none where there is no such file. Damaged lines are a note."""
    if not exists(uri):  # a base model that was not trained here has none
        return []
    rows: dict[float, dict[str, float | None]] = {}
    broken = 0
    for line in read_bytes(uri).decode(errors="replace").splitlines():
        try:
            raw = json.loads(line)
            rows[float(raw["step"])] = {key: None if value is None else float(value) for key, value in raw.items()}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            broken += 1
    if broken:
        notes.append(f"{uri}: {broken} lines are no training metrics.")
    # JSON has no NaN: null is "not finite" in a metric that has numbers at other steps, "no such metric" elsewhere.
    known = {key for row in rows.values() for key, value in row.items() if value is not None}
    ordered = [rows[number] for number in sorted(rows)]
    return [
        {key: math.nan if value is None else value for key, value in row.items() if key in known} for row in ordered
    ]


def _manifest(run_uri: str, stage: str, notes: list[str]) -> Manifest | None:
    uri = join(run_uri, stage, "manifest.json")
    if not exists(uri):
        return None
    return attempt(lambda: current_manifest(run_uri, stage), uri, notes)


def _config(run_uri: str, notes: list[str]) -> tuple[str, dict[str, Any]]:
    uri = join(run_uri, "config.yaml")
    if not exists(uri):
        notes.append("config.yaml: not there.")
        return "", {}
    text = read_bytes(uri).decode(errors="replace")
    parsed = attempt(lambda: yaml.safe_load(text), uri, notes)
    return text, parsed if isinstance(parsed, dict) else {}


def attempt(read: Callable[[], T], uri: str, notes: list[str]) -> T | None:
    """The value, or a note that it is damaged; what can be wrong with a file is open-ended, and none may end the report."""
    try:
        return read()
    except Exception as error:
        kind = "" if isinstance(error, StorageError) else f"{type(error).__name__}: "
        notes.append(f"{uri}: cannot be read ({kind}{str(error).removeprefix(f'{uri}: ')}).")
        return None
