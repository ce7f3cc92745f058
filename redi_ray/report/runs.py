"""Reads a run's folder into memory: manifests, training metrics, evaluation results, sample traces.

A run that stopped half-way, or a file that is damaged, is a note in `Run.notes`, never an exception: a report is wanted
most when something went wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import yaml

from redi_ray.config.load import parse_config
from redi_ray.errors import UserError
from redi_ray.eval.metrics import BenchmarkResult
from redi_ray.pipeline.standard import graph_of
from redi_ray.store.manifests import Manifest, current_manifest
from redi_ray.store.storage import StorageError, exists, join, list_files, read_bytes, read_json, read_tables

DATA_STAGES = ("problems", "traces", "verified", "curated")
JUDGE_STAGES = ("checked", "judged")
"""What `verified` was decided from, where a judge or inverted labels made that two passes."""
TOKEN_STAGES = ("dev", "sequences/examples", "sequences/pairs")
"""On the way to training; nothing of the curated set is lost there. Runs without a probe have no `dev`."""
FIRST_ARMS = ("base", "sft")
"""Shown before the arms of stage 2."""

PAIRS_READ = 2
SAMPLE_FIELDS = ("problem_id", "problem", "answer", "completion", "extracted_answer", "verdict", "num_tokens")
NO_SAMPLE: dict[str, Any] = dict.fromkeys(SAMPLE_FIELDS)

T = TypeVar("T")
Step = dict[str, float]
"""One optimizer step: metric name -> value, NaN where it was not finite; metrics the objective has not are left out."""


@dataclass(frozen=True)
class ArmRun:
    """One model of the run: how it was trained, how it scored."""

    name: str
    checkpoint: Manifest | None
    steps: list[Step]
    """In order of `step`; a step repeated after a resume counts once, as last written."""
    evaluation: Manifest | None
    results: dict[str, BenchmarkResult]
    """Benchmark -> scores."""
    samples: list[dict[str, Any]]
    """Sampled completions with their verdicts; every key of SAMPLE_FIELDS is there, None if unknown."""


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    uri: str
    config_text: str
    config: dict[str, Any]
    stages: dict[str, Manifest | None]
    """Every name of DATA_STAGES, JUDGE_STAGES and TOKEN_STAGES."""
    arms: list[ArmRun]
    """base, sft, then the arms of stage 2 in the config's order, then those that the config no longer names."""
    pairs: list[dict[str, str]] = field(default_factory=list)
    """The first few of the curated set: pair_id, prompt, chosen, rejected, each as text."""
    notes: list[str] = field(default_factory=list)
    """What is missing or damaged, for the reader."""

    @property
    def name(self) -> str:
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    def results(self, benchmark: str) -> dict[str, BenchmarkResult]:
        """Arm -> scores on one benchmark, in the arms' order."""
        return {arm.name: arm.results[benchmark] for arm in self.arms if benchmark in arm.results}

    @property
    def benchmarks(self) -> list[str]:
        return list(dict.fromkeys(name for arm in self.arms for name in arm.results))

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


def read_run(run_uri: str) -> Run:
    """Read everything a report needs. Raises StorageError if there is no run at all at `run_uri`."""
    notes: list[str] = []
    names = (*DATA_STAGES[:2], *JUDGE_STAGES, *DATA_STAGES[2:], *TOKEN_STAGES)
    stages = {name: _manifest(run_uri, name, notes) for name in names}
    for name in JUDGE_STAGES:  # those of an earlier config are not what this run was decided from
        found, verified = stages[name], stages["verified"]
        if found is not None and (verified is None or verified.inputs.get(name) != found.key):
            stages[name] = None
    config_text, config = _config(run_uri, notes)
    configured = _configured_arms(config)
    wanted = _wanted(config, configured)
    arms = [_arm(run_uri, name, notes) for name in _arm_names(run_uri, wanted.models)]
    if not arms and not any(stages.values()) and not config_text:
        raise StorageError(f"{run_uri}: no run here (neither config.yaml nor a finished stage)")
    curated = stages["curated"]
    pairs = (_attempt(partial(_pairs, curated), curated.table("pairs"), notes) or []) if curated else []
    _note_what_is_missing(stages, arms, wanted, notes, begun=_begun(run_uri))
    return Run(run_uri, config_text, config, stages, arms, pairs, notes)


def control_arm(run: Run) -> str | None:
    """The arm others are compared with: stage 2 without negatives if the run has one, else sft, else base.

    Stage 2 re-trains on the chosen traces, so that against sft alone the gain from negatives is confounded.
    """
    evaluated = [arm.name for arm in run.arms if arm.results]
    for name, arm in _configured_arms(run.config).items():
        objective = arm.get("objective") or {}
        if name in evaluated and (objective.get("name") == "sft" or objective.get("alpha") == 0):
            return name
    return next((name for name in ("alpha0", "sft", "base") if name in evaluated), None)


def _note_what_is_missing(
    stages: Mapping[str, Manifest | None],
    arms: list[ArmRun],
    wanted: _Wanted,
    notes: list[str],
    *,
    begun: Set[str],
) -> None:
    notes.extend(f"Stage {name}: not run." for name in DATA_STAGES if stages[name] is None)
    verified = stages["verified"]
    if verified is not None and verified.facts.get("inverted"):
        notes.append(
            "Labels are inverted (verify.invert_labels): training prefers what was called wrong. This is a negative control, "
            "no result."
        )
    by_name = {arm.name: arm for arm in arms}
    for name in wanted.models:
        arm = by_name.get(name)
        if name != FIRST_ARMS[0] and (arm is None or arm.checkpoint is None):
            told = "begun, but not finished; the same command goes on, or says why not" if name in begun else "not run"
            notes.append(f"Training of {name}: {told}.")
        if name in wanted.scored and (arm is None or not arm.results):
            notes.append(f"Evaluation of {name}: not run.")
    if not wanted.known and not any(arm.name not in FIRST_ARMS for arm in arms):
        notes.append("Stage 2: not run.")
    for arm in arms:
        status = arm.checkpoint.facts.get("status", "done") if arm.checkpoint else "done"
        if status != "done":
            notes.append(_early_end(arm.name, status, arm.checkpoint.facts if arm.checkpoint else {}))
        elif arm.checkpoint and (trips := arm.checkpoint.facts.get("guard_trips", 0)):
            notes.append(
                f"Training of {arm.name}: the guard, which only warned, saw a collapse at {trips} steps "
                f"({arm.checkpoint.facts['first_trip']})."
            )
        if arm.checkpoint and len(sizes := arm.checkpoint.facts.get("world_sizes", [])) > 1:
            told = ", ".join(f"{ranks} from step {step}" for step, ranks in sizes)
            notes.append(f"Training of {arm.name} changed its number of ranks: {told}.")
        if (
            arm.checkpoint
            and arm.evaluation
            and arm.evaluation.inputs.get("checkpoint", arm.checkpoint.key) != arm.checkpoint.key
        ):
            notes.append(f"The scores of {arm.name} are those of an earlier checkpoint: evaluate it again.")
        if wanted.known and arm.name not in wanted.models:
            notes.append(f"Arm {arm.name} is not in the config: it is left from an earlier one.")
        bad = sorted({key for step in arm.steps for key, value in step.items() if not math.isfinite(value)})
        if bad:
            count = sum(any(not math.isfinite(value) for value in step.values()) for step in arm.steps)
            notes.append(f"Training of {arm.name}: {count} steps with non-finite {', '.join(bad)}.")


def _begun(run_uri: str) -> Set[str]:
    """Models whose training has come to a step, finished or not."""
    root = join(run_uri, "checkpoints")
    return {file.split("/checkpoints/")[-1].split("/")[0] for file in list_files(root, "/metrics.jsonl")}


def _early_end(arm: str, status: str, facts: Mapping[str, Any]) -> str:
    """Which weights these are, and why there are no later ones."""
    at = f" The weights are those of step {facts['steps']} of {facts['total_steps']}." if "total_steps" in facts else ""
    return f"Training of {arm} ended early: {status}{f' ({why})' if (why := facts.get('reason')) else ''}.{at}"


@dataclass(frozen=True)
class _Wanted:
    """The models that a run's config asks for, in the order of training."""

    models: list[str]
    scored: list[str]
    known: bool
    """Whether the config says so; else these are the two that every run has."""


def _wanted(config: Mapping[str, Any], arms: Mapping[str, Any]) -> _Wanted:
    """By the config's graph; by its arms alone where it is of another version."""
    try:
        graph = graph_of(parse_config(dict(config)))
    except UserError:
        models = [*FIRST_ARMS, *arms]
        return _Wanted(models, models if _evaluates(config) else [], bool(arms))
    scored = [step.inputs["model"] for step in graph if step.gives == "scores"]
    return _Wanted([step.name for step in graph if step.gives == "model"], scored, bool(arms))


def _arm_names(run_uri: str, wanted: list[str]) -> list[str]:
    found = set()
    for kind in ("checkpoints", "eval"):
        root = join(run_uri, kind)
        for file in list_files(root, "/manifest.json"):
            parts = file.split(f"/{kind}/")[-1].split("/")
            if len(parts) == 2:  # <arm>/manifest.json; those of older outputs are one folder deeper
                found.add(parts[0])
    order = [*FIRST_ARMS, *wanted, "alpha0"]
    return [name for name in dict.fromkeys([*order, *sorted(found)]) if name in found]


def _arm(run_uri: str, name: str, notes: list[str]) -> ArmRun:
    checkpoint = _manifest(run_uri, f"checkpoints/{name}", notes)
    evaluation = _manifest(run_uri, f"eval/{name}", notes)
    steps = _steps(join(checkpoint.uri, "metrics.jsonl"), notes) if checkpoint else []
    results: dict[str, BenchmarkResult] = {}
    samples: list[dict[str, Any]] = []
    if evaluation:
        uri = join(evaluation.uri, "report.json")
        found = _attempt(lambda: read_json(uri), uri, notes) or {}
        for entry in found.get("benchmarks", []):
            result = _attempt(partial(BenchmarkResult.from_dict, entry), uri, notes)
            if result is not None:
                results[str(entry.get("name"))] = result
        samples = [{**NO_SAMPLE, **sample} for sample in found.get("samples", []) if isinstance(sample, dict)]
    return ArmRun(name, checkpoint, steps, evaluation, results, samples)


def _pairs(curated: Manifest) -> list[dict[str, str]]:
    def text(messages: list[dict[str, str]]) -> str:
        return "\n\n".join(message["content"] for message in messages)

    rows = [row for table in read_tables(curated.files("pairs")[:1]) for row in table.slice(0, PAIRS_READ).to_pylist()]
    sides = ("prompt", "chosen", "rejected")
    return [{"pair_id": row["pair_id"], **{side: text(row[side]) for side in sides}} for row in rows]


def _steps(uri: str, notes: list[str]) -> list[Step]:
    if not exists(uri):  # a base model that was not trained here has none
        return []
    rows: dict[float, dict[str, float | None]] = {}
    broken = 0
    for line in read_bytes(uri).decode(errors="replace").splitlines():
        try:
            raw = json.loads(line)
            rows[float(raw["step"])] = {key: None if value is None else float(value) for key, value in raw.items()}
        except (ValueError, TypeError, KeyError, AttributeError):
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
    return _attempt(lambda: current_manifest(run_uri, stage), uri, notes)


def _config(run_uri: str, notes: list[str]) -> tuple[str, dict[str, Any]]:
    uri = join(run_uri, "config.yaml")
    if not exists(uri):
        notes.append("config.yaml: not there.")
        return "", {}
    text = read_bytes(uri).decode(errors="replace")
    parsed = _attempt(lambda: yaml.safe_load(text), uri, notes)
    return text, parsed if isinstance(parsed, dict) else {}


def _configured_arms(config: Mapping[str, Any]) -> dict[str, Any]:
    section = config.get("redi")
    arms = section.get("arms") if isinstance(section, dict) else None
    return {str(name): arm for name, arm in arms.items() if isinstance(arm, dict)} if isinstance(arms, dict) else {}


def _evaluates(config: Mapping[str, Any]) -> bool:
    """Whether it names benchmarks; one that cannot be read is taken to."""
    section = config.get("evaluate")
    return not isinstance(section, dict) or section.get("benchmarks") != []


def _attempt(read: Callable[[], T], uri: str, notes: list[str]) -> T | None:
    """The value, or a note that it is damaged; what can be wrong with a file is open-ended, and none may end the report."""
    try:
        return read()
    except Exception as error:
        notes.append(f"{uri}: cannot be read ({type(error).__name__}: {error}).")
        return None
