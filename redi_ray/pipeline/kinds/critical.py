"""How small a column's numbers are at the tokens where wrong samples are lost, by rollouts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pyarrow as pa

from redi_ray.cluster.runtime import log
from redi_ray.data.sources.readers import DataError
from redi_ray.eval.critical import FOUND, judge_column, scores
from redi_ray.modeling.tokenizer import load_tokenizer, tokenizer_fingerprints
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.stages.run import Run
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

TABLE = "critical"


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage(TABLE, {"later": step.settings.later}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    import ray

    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    tokenizer = load_tokenizer(inputs["base"].facts["export"], run.config.model.overrides.trust_remote_code)
    verified, column = inputs["right"].files("verified"), inputs["column"].files("column")
    fingerprint = tokenizer_fingerprints(tokenizer)["tokenizer"]
    work = ray.remote(num_cpus=1, max_retries=2)(judge_column)
    try:
        rows, counts = ray.get(work.remote(verified, column, fingerprint, step.settings.later))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    if not rows:
        raise DataError(f"{step.name}: the column says nothing of the samples that were drawn: {dict(counts)}")
    parquet.write_table(storage.join(stage.uri, TABLE, "part-00000.parquet"), pa.Table.from_pylist(rows, schema=FOUND))
    told = scores(rows)
    if (auc := told.get("auc")) is not None:
        log.info("%s: another token has a larger number than the critical one with probability %.3f", step.name, auc)
    drawn, judged = counts.pop("drawn"), counts.pop("judged")
    sums = {"in": drawn, "out": judged}
    return run.publish(stage, started, counts=sums, dropped=dict(counts), facts={"name": step.name, **told})


KIND = Kind(
    name="critical",
    takes={"of": ("starts",), "right": ("verified",), "column": ("column",), "base": ("model",)},
    gives="critical",
    stage=TABLE,
    tables=(TABLE,),
    place=place,
    make=make,
)
