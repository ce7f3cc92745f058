"""The data stages: problems, traces, verified, curated."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pyarrow.compute as pc

from redi_ray import storage
from redi_ray.config.data import EndpointTraces, ImportTraces, VllmTraces
from redi_ray.data.collect import Verification
from redi_ray.data.curate import curate
from redi_ray.data.generate import generate_rounds, import_traces, make_sampler
from redi_ray.data.problems import collect_problems
from redi_ray.data.readers import DataError
from redi_ray.data.survey import trace_shards
from redi_ray.data.verify import verify_traces
from redi_ray.schemas import Verdict
from redi_ray.stages.live import LiveCounters
from redi_ray.stages.run import Progress, Run
from redi_ray.storage import Manifest, Stage


def problems(run: Run) -> Manifest:
    """Distinct problems, and the traces that came with them."""
    config = run.config.problems
    stage = run.stage("problems", config, {})
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    result = collect_problems(config, stage.uri)
    return run.publish(
        stage,
        started,
        counts=result.counts,
        dropped=result.dropped,
        rejected=result.rejected,
        facts={"traces": result.traces, "dev": result.dev},
    )


def traces(run: Run, problems: Manifest, base: Manifest | None) -> Manifest:
    """Traces: sampled in rounds, or imported. `base` is needed when this run's base model is the teacher."""
    config = run.config.generate
    stage = _traces_stage(run, problems, base)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    table = storage.join(stage.uri, "traces")
    if isinstance(config, ImportTraces):
        import_traces(problems.files("imported"), table)
        told = problems.facts["traces"]
        if not told.get("out"):
            raise DataError(f"no trace in the problems' rows ({told}); check problems.source.columns.completion")
        counts = {"in": told["in"], "out": told["out"]}
        return run.publish(stage, started, counts=counts, dropped=told["dropped"], rejected=told["rejected"])
    return _sample(run, config, stage, problems, base, started)


def _traces_stage(run: Run, problems: Manifest, base: Manifest | None) -> Stage:
    config = run.config.generate
    if isinstance(config, ImportTraces):
        return run.stage("traces", config, {"problems": problems})
    # the engine and the number of rows per shard change how the work is done, not what comes out
    told: dict[str, Any] = {
        "generate": config.model_dump(mode="json", exclude={"engine", "shard_rows"}),
        "prompt": config.prompt or run.config.model.prompt,
        "verify": run.config.verify if config.max_rounds > 1 else None,
    }
    return run.stage("traces", told, {"problems": problems} if base is None else {"problems": problems, "base": base})


def _sample(
    run: Run,
    config: VllmTraces | EndpointTraces,
    stage: Stage,
    problems: Manifest,
    base: Manifest | None,
    started: float,
) -> Manifest:
    resources = run.config.resources
    sampler, model = make_sampler(
        config, base.facts["export"] if base is not None else None, resources.engine, run.config.model.prompt
    )
    verified = storage.join(_verified_stage(run, stage).uri, "verified")
    with LiveCounters(problems.counts["out"]) as live:
        result = generate_rounds(
            config,
            problems.files("problems"),
            problems.counts["out"],
            sampler,
            model=model,
            traces_uri=storage.join(stage.uri, "traces"),
            verification=Verification(verified, run.config.verify, resources.verify_workers),
            on_progress=live,
        )
    total = result.total
    facts = {"rounds": result.rounds, "tokens": total.tokens, "truncated": total.truncated, "loops": total.loops}
    return run.publish(
        stage,
        started,
        counts={"in": total.asked, "out": total.traces},
        rejected=total.rejected,
        facts={**facts, "doubles": total.doubles, "model": model},
    )


def _verified_stage(run: Run, traces: Manifest | Stage) -> Stage:
    return run.stage("verified", run.config.verify, {"traces": traces})


def verified(run: Run, traces: Manifest) -> Manifest:
    """A verdict for every trace. Rounds of sampling have verified theirs already; those shards are found done."""
    stage = _verified_stage(run, traces)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    table = storage.join(stage.uri, "verified")
    shards = trace_shards(traces.table("traces"))
    with Progress("verify", traces.counts["out"], "traces") as progress:
        for folder in sorted({shard.rsplit("/", 2)[1] for shard in shards}):
            mine = [shard for shard in shards if shard.rsplit("/", 2)[1] == folder]
            verify_traces(
                mine,
                storage.join(table, folder),
                run.config.verify,
                concurrency=run.config.resources.verify_workers,
                on_progress=progress,
            )
    verdicts = _count_verdicts(storage.list_files(table, ".parquet"))
    counts = {"in": traces.counts["out"], "out": sum(verdicts.values())}
    return run.publish(stage, started, counts=counts, facts={"verdicts": verdicts})


def _count_verdicts(shards: list[str]) -> dict[str, int]:
    counted: Counter[str] = Counter({str(verdict): 0 for verdict in Verdict})
    for table in storage.read_tables(shards, ["verdict"]):
        counted.update({item["values"]: item["counts"] for item in pc.value_counts(table["verdict"]).to_pylist()})
    return dict(counted)


def curated(run: Run, problems: Manifest, verified: Manifest, base: Manifest) -> Manifest:
    """Positives and pairs. `base` gives the tokenizer that lengths are measured with."""
    told = {"curate": run.config.curate, "prompt": run.config.model.prompt}
    stage = run.stage("curated", told, {"verified": verified, "base": base})
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    result = curate(
        verified.files("verified"),
        stage.uri,
        run.config.curate,
        tokenizer=base.facts["export"],
        prompt=run.config.model.prompt,
        num_problems=problems.counts["out"],
    )
    if not result.positives:
        raise DataError(
            f"curation kept none of {result.problems} problems: {result.dropped}; verdicts were "
            f"{verified.facts['verdicts']}. Look at the limits in `curate` and at how answers are read in `verify`"
        )
    counts = {"in": result.problems, "out": result.positives, "positives": result.positives, "pairs": result.pairs}
    return run.publish(
        stage, started, counts=counts, dropped=result.dropped, facts={"pairs_dropped": result.pairs_dropped}
    )
