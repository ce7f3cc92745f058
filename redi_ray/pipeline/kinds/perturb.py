"""Variants of problems by rule, or from files, which are to keep their answers, and are checked to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from redi_ray.cluster.runtime import log
from redi_ray.config.worlds import ArithmeticSource
from redi_ray.data.perturb.imported import import_variants
from redi_ray.data.perturb.kept import IN, OF, ORIGINALS, OUT, Keeping, keep_variants, look_at_traces
from redi_ray.data.perturb.made import Making, make_variants
from redi_ray.data.sources.readers import DataError, expand_paths
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.remote import remotely
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.contents import content_of
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def place(run: Run, step: Step, inputs: Places) -> Stage:
    settings, deciding = step.settings, dict[str, Any]()
    deciding = {"perturb": settings, "verify": run.config.verify.first_pass(), "of_world": is_world(run)}
    if settings.imported is not None:
        deciding["content"] = [content_of(path) for path in expand_paths(settings.imported.paths, "imported.paths")]
    return run.stage("problems", deciding, inputs)


def is_world(run: Run) -> bool:
    """Whether chains are problems of the built-in world."""
    source = run.config.problems.source
    return isinstance(source, ArithmeticSource) and source.kind == "arithmetic"


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, settings, out = time.monotonic(), step.settings, storage.resolve(stage.uri)
    rejected: dict[str, int] = {}
    if settings.imported is not None:
        rejected = remotely(import_variants, settings.imported, out)["rejected"]
    else:
        of = inputs["problems"]
        root = storage.resolve(of.table(settings.part))
        names = [uri.removeprefix(root).lstrip("/") for uri in of.files(settings.part)]
        if not names:
            raise DataError(f"{step.name}: {step.inputs['problems']} holds no problems in its part `{settings.part}`")
        answers = run.config.verify.answers
        make_variants(names, Making(root, out, settings, answers, is_world(run)))
    return publish_variants(run, step, stage, started, inputs, rejected)


def publish_variants(
    run: Run,
    step: Step,
    stage: Stage,
    started: float,
    inputs: Outputs,
    rejected: dict[str, int],
    told: Mapping[str, Any] = MappingProxyType({}),
) -> Manifest:
    """The tables and the manifest of what lies in `work/made`; told: further facts. Raises DataError where no variant is left."""
    out, settings = storage.resolve(stage.uri), step.settings
    how = Keeping(out, settings.changed, run.config.verify.first_pass())
    root = storage.join(out, "work", "made")
    made = storage.list_files(root, ".parquet")
    if "traces" in inputs:
        remotely(look_at_traces, made, inputs["traces"].files("verified"), how)
    counts = keep_variants([uri.removeprefix(root).lstrip("/") for uri in made], how)
    kinds = by_perturbation(counts)
    dropped = {reason: number for reason, number in sorted(counts.items()) if ": " in reason and number}
    if counts[OUT] == counts[ORIGINALS]:
        raise DataError(
            f"{step.name}: no variant is left of {counts[IN] - counts[ORIGINALS]} that were tried: {dropped}"
        )
    for name, found in kinds.items():
        changed = found.get("changed", 0) + found.get("unclear", 0)
        log.info("%s: %s: %d of %d keep the answer", step.name, name, found["made"] - changed, found["made"])
    sums = {"in": counts[IN] + sum(rejected.values()), "out": counts[OUT]}
    facts = {"name": step.name, "originals": counts[ORIGINALS], "perturbations": kinds, **told}
    return run.publish(stage, started, counts=sums, dropped=dropped, rejected=rejected, facts=facts)


def by_perturbation(counts: Counter[str]) -> dict[str, dict[str, int]]:
    """Perturbation -> variants `made`, `kept`, `changed` and `unclear`; right traces verified with other answers, and `moved`."""
    found: dict[str, dict[str, int]] = {}
    for key, number in sorted(counts.items()):
        if key.startswith(OF):
            name, _, field = key.removeprefix(OF).rpartition("/")
            found.setdefault(name, {"kept": 0})[field] = number
    return found


KIND = Kind(
    name="perturb",
    takes={"problems": ("problems",), "traces": ("verified",)},
    gives="problems",
    stage="problems",
    tables=("variants", "problems"),
    place=place,
    make=make,
)
