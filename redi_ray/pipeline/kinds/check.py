"""Whether two columns say the same of each token; where they do not, the run ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redi_ray.cluster.runtime import log
from redi_ray.data.sources.readers import DataError
from redi_ray.eval.check_tokens import NOT_IN_BOTH, differences, fault
from redi_ray.pipeline.kinds.groups import column_shards
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.remote import remotely
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

CHECKED = "checked_tokens"


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage(CHECKED, {"check": step.settings}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    """Raises DataError where nothing can be compared, or the columns are too far apart."""
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    columns = (column_shards(of, inputs[role]) for role in ("column", "to"))
    counts, told = remotely(differences, list(zip(of.files("verified"), *columns, strict=True)))
    if not told:
        raise DataError(f"{step.name}: none of {counts['in']} samples has numbers in both columns")
    names = {role: step.inputs[role] for role in ("of", "column", "to")}
    said = f"{step.name}: {names['column']} and {names['to']}"
    if (why := fault(told, step.settings)) is not None:
        raise DataError(
            f"{said} are too far apart: {why}. They are of other models, prompts or precisions, or the limits are too narrow for "
            "this precision (`max_difference`, `mean_difference`)"
        )
    log.info(
        "%s are %.2g nats apart at the most, %.2g in the mean", said, told["max_difference"], told["mean_difference"]
    )
    sums, dropped = {"in": counts["in"], "out": counts["compared"]}, {NOT_IN_BOTH: counts[NOT_IN_BOTH]}
    dropped = {reason: count for reason, count in dropped.items() if count}
    return run.publish(stage, started, counts=sums, dropped=dropped, facts={"name": step.name, **names, **told})


KIND = Kind(
    name="check",
    takes={"of": ("verified",), "column": ("column",), "to": ("column",)},
    gives=CHECKED,
    stage=CHECKED,
    place=place,
    make=make,
)
