"""The verified traces of problems whose pass rate is wanted."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pyarrow as pa
import ray

from redi_ray.config.curation import Difficulty
from redi_ray.data.curate.difficulty import difficulty_problem
from redi_ray.data.sources.readers import DataError
from redi_ray.pipeline.kinds.kind import Kind, Outputs, Places
from redi_ray.schemas import Verdict
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest, Stage

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step

COUNTED = (Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER)
"""Verdicts that say something about the problem, as in curation."""


def place(run: Run, step: Step, inputs: Places) -> Stage:
    return run.stage("verified", {"difficulty": step.settings}, inputs)


def make(run: Run, step: Step, inputs: Outputs) -> Manifest:
    stage = place(run, step, inputs)
    if found := run.reuse(stage):
        return found
    started, of = time.monotonic(), inputs["of"]
    rates_from = inputs.get("by", of)
    work = ray.remote(num_cpus=1, max_retries=2)(select)
    kept, left_out, verdicts = ray.get(
        work.remote(of.files("verified"), rates_from.files("verified"), of.uri, stage.uri, step.settings)
    )
    if not kept:
        raise DataError(f"{step.name}: no problem has a wanted pass rate ({dict(left_out)}); widen its `difficulty`")
    counts = {"in": kept + sum(left_out.values()), "out": kept}
    return run.publish(stage, started, counts=counts, dropped=left_out, facts={"verdicts": verdicts, "votes": {}})


def select(
    shards: list[str], rated: list[str], root: str, out_uri: str, wanted: Difficulty
) -> tuple[int, dict[str, int], dict[str, int]]:
    """Write the shards without the traces of unwanted problems, under the same names -> rows kept; rows left out, by reason;
    verdicts of those kept."""
    why = reasons(rated, wanted)
    kept, left_out, verdicts = 0, Counter[str](), Counter[str]()
    for shard in shards:
        table = next(iter(storage.read_tables([shard])))
        told = [why.get(problem, "not_rated") for problem in table["problem_id"].to_pylist()]
        rest = table.filter(pa.array([reason == "" for reason in told]))
        kept += rest.num_rows
        left_out.update(reason for reason in told if reason)
        verdicts.update(rest["verdict"].to_pylist())
        if rest.num_rows:
            storage.write_table(storage.join(out_uri, shard.removeprefix(root).lstrip("/")), rest)
    return kept, dict(left_out), dict(verdicts)


def reasons(shards: list[str], wanted: Difficulty) -> dict[str, str]:
    """Problem -> why it is not wanted, empty if it is. Rates as in curation: correct over what has a clear verdict."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for table in storage.read_tables(shards, ["problem_id", "verdict", "model"]):
        rows = zip(*(table[name].to_pylist() for name in ("problem_id", "verdict", "model")), strict=True)
        for problem, verdict, model in rows:
            if verdict in COUNTED and wanted.model in (None, model):
                counts[problem][0] += verdict == Verdict.CORRECT
                counts[problem][1] += 1
    found = {}
    for problem, (correct, samples) in counts.items():
        rate = {"samples": samples, "correct": correct, "pass_rate": correct / samples}
        found[problem] = (difficulty_problem(wanted, rate) or ("",))[0]
    return found


KIND = Kind(
    name="select",
    takes={"of": ("verified",), "by": ("verified",)},
    gives="verified",
    stage="verified",
    tables=("verified",),
    place=place,
    make=make,
)
