"""The data stages traces and curated; problems and verification have files of their own."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa

from redi_ray.cluster.runtime import log
from redi_ray.config.data import (
    EndpointTraces,
    ImportTraces,
    NoTraces,
    VllmTraces,
)
from redi_ray.config.embedders import ModelEmbedder
from redi_ray.config.group_steps import TokenWeights
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.curate.beginnings import MOST, check_beginnings, check_thoughts, complaint
from redi_ray.data.curate.contamination import BENCHMARKS
from redi_ray.data.curate.curate import CurateCounts, curate
from redi_ray.data.sample.collect import Verification
from redi_ray.data.sample.generate import generate_rounds, import_traces, make_sampler
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.sources.readers import DataError
from redi_ray.data.weights import Weighing
from redi_ray.modeling.tokenizer import content_of_model, load_tokenizer
from redi_ray.stages.bars import label_of
from redi_ray.stages.evaluation import load_benchmarks, whole_benchmark
from redi_ray.stages.live import LiveCounters
from redi_ray.stages.origins import by_source, curated_of_sources
from redi_ray.stages.problems import tests_of
from redi_ray.stages.run import Run
from redi_ray.stages.verification import checked_stage
from redi_ray.store import parquet, storage
from redi_ray.store.contents import content_of
from redi_ray.store.manifests import Manifest, Stage

Made = Manifest | Stage
"""An output that is there, or only its place: a key needs no more."""


def traces(run: Run, problems: Manifest, base: Manifest | None) -> Manifest:
    """Traces: sampled in rounds, or imported. `base` is needed when this run's base model is the teacher."""
    config = run.config.generate
    stage = traces_stage(run, problems, base)
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    table = storage.join(stage.uri, "traces")
    if isinstance(config, ImportTraces):
        import_traces(problems.files("imported"), table)
        imported = problems.facts["traces"]
        if not imported.get("out"):
            raise DataError(f"no trace in the problems' rows ({imported}); check problems.source.columns.completion")
        counts = {"in": imported["in"], "out": imported["out"]}
        facts = by_source(run, stage, "traces", problems)
        return run.publish(
            stage, started, counts=counts, dropped=imported["dropped"], rejected=imported["rejected"], facts=facts
        )
    assert not isinstance(config, NoTraces)
    return _sample(run, config, stage, problems, base, started)


CHECKPOINTS = "checkpoints/"
"""Begins the name of a model's stage, which goes on with that of its step."""


def traces_stage(run: Run, problems: Made, base: Made | None) -> Stage:
    config = run.config.generate
    assert not isinstance(config, NoTraces), "the graph has no step for it"
    if isinstance(config, ImportTraces):
        return run.stage("traces", config, {"problems": problems})
    deciding: dict[str, Any] = {
        "generate": config,
        **(_of_the_teacher(run, config) if isinstance(config, VllmTraces) else {}),
        "prompt": config.prompt or run.config.model.prompt,
        "verify": run.config.verify.first_pass() if config.max_rounds > 1 else None,
    }
    return run.stage(
        "traces", deciding, {"problems": problems} if base is None else {"problems": problems, "base": base}
    )


def _of_the_teacher(run: Run, config: VllmTraces) -> dict[str, Any]:
    """What of a teacher loaded here decides its traces; a base model of the run's own is an input."""
    content = None if run.config.teacher_is_base else content_of_model(config.model)
    return {"engine": config.engine or run.config.resources.engine, "content": content}


def _sample(
    run: Run,
    config: VllmTraces | EndpointTraces,
    stage: Stage,
    problems: Manifest,
    base: Manifest | None,
    started: float,
) -> Manifest:
    resources = run.config.resources
    num_problems = problems.counts["out"]
    teacher = base.facts["export"] if base is not None else None
    checked, tests_uri = storage.join(checked_stage(run, stage).uri, "verified"), tests_of(run, problems)
    sampling = make_sampler(
        config, teacher, resources.engine, run.config.model.prompt, num_problems * config.samples_per_round
    )
    with sampling as (sampler, model), LiveCounters(num_problems, label_of("generate", run.step)) as live:
        result = generate_rounds(
            config,
            problems.files("problems"),
            num_problems,
            sampler,
            # of the run's own models rows have the name: a path would be another one wherever the run lies
            model=base.stage.removeprefix(CHECKPOINTS) if base is not None else model,
            traces_uri=storage.join(stage.uri, "traces"),
            verification=Verification(
                checked,
                run.config.verify.first_pass(),
                resources.verify_workers,
                resources.cpu_label_selector,
                tests_uri,
            ),
            on_progress=live,
        )
    total = result.total
    names = ("tokens", "prompt_tokens", "truncated", "loops", "doubles")
    facts = {"rounds": result.rounds, "model": model, **{name: getattr(total, name) for name in names}}
    if isinstance(config, EndpointTraces) and config.endpoint.has_prices:
        facts["cost"] = config.endpoint.cost(total.prompt_tokens, total.tokens)
    return run.publish(
        stage,
        started,
        counts={"in": total.asked, "out": total.traces},
        rejected=total.rejected,
        facts=facts | by_source(run, stage, "traces", problems),
    )


def curated_stage(
    run: Run,
    problems: Made,
    verified: Made,
    base: Made,
    others: Made | None = None,
    weights: tuple[Made, TokenWeights] | None = None,
) -> Stage:
    contamination = run.config.curate.contamination
    deciding: dict[str, Any] = {"curate": run.config.curate, "prompt": run.config.model.prompt}
    if contamination is not None:
        deciding["files"] = [content_of(file.path) for file in contamination.files]
    if contamination is not None and contamination.benchmarks:
        deciding["benchmarks"] = [whole_benchmark(benchmark) for benchmark in run.config.evaluate.benchmarks]
    embedder = run.config.curate.embedder
    if isinstance(embedder, ModelEmbedder):
        deciding["embedder"] = content_of_model(embedder.path)
    inputs = {"problems": problems, "verified": verified, "base": base}
    if weights is not None:
        inputs["weights"] = weights[0]
        deciding["weights"] = {name: getattr(weights[1], name) for name in ("side", "use")}
    return run.stage("curated", deciding, inputs if others is None else {**inputs, "others": others})


def curated(
    run: Run,
    problems: Manifest,
    verified: Manifest,
    base: Manifest,
    others: Manifest | None = None,
    weights: tuple[Manifest, Weighing] | None = None,
) -> Manifest:
    """Positives and pairs. `base` gives the tokenizer that lengths are measured with, `others` right traces where `verified` has
    none, `weights` what tokens weigh."""
    weighing = None if weights is None else weights[1]
    weighed = None if weights is None else (weights[0], weights[1].settings)
    stage = curated_stage(run, problems, verified, base, others, weighed)
    if found := run.reuse(stage):
        return found
    benchmarks, started = whole_benchmarks(run, problems), time.monotonic()
    result = curate(
        verified.files("verified"),
        stage.uri,
        run.config.curate,
        tokenizer=base.facts["export"],
        prompt=run.config.model.prompt,
        num_problems=problems.counts["out"],
        benchmarks=benchmarks,
        others=[] if others is None else others.files("verified"),
        weighing=weighing,
        workers=run.config.resources.curate_workers,
        label_selector=run.config.resources.cpu_label_selector,
        trust_remote_code=run.config.model.overrides.trust_remote_code,
    )
    told_of_prefixes(result, run.config.model.prompt, stage.uri)
    if not result.positives:
        raise DataError(
            f"curation kept none of {result.problems} problems: {result.dropped}; verdicts were "
            f"{verified.facts['verdicts']}. Look at the limits in `curate` and at how answers are read in `verify`"
        )
    names = (
        *("pairs_dropped", "planned_pairs", "examples", "examples_dropped", "traces", "traces_dropped", "cut_off"),
        "pass_rates",
        *(["diversity"] if result.diversity else []),
    )
    counts = {"in": result.problems, "out": result.positives, "positives": result.positives, "pairs": result.pairs}
    facts = {name: getattr(result, name) for name in names} | curated_of_sources(run, stage, problems)
    return run.publish(stage, started, counts=counts, dropped=result.dropped, facts=facts)


def told_of_prefixes(result: CurateCounts, prompt: PromptSettings, uri: str) -> None:
    """Raise DataError if nearly all chosen traces are without the forced prefix; a warning if some are."""
    without = sum(found.get("chosen_without_prefix", 0) for found in (result.dropped, result.examples_dropped))
    if not without:
        return
    shards = storage.list_files(storage.join(uri, "dropped"), ".parquet")
    rows = (row for table in parquet.read_tables(shards) for row in table.to_pylist())
    example = next((row["detail"] for row in rows if row["reason"] == "chosen_without_prefix"), None)
    of = without + result.examples
    told = complaint(without, of, "chosen traces", prompt, example)
    if without >= MOST * of:
        raise DataError(told)
    log.warning("%s; these are dropped", told)


def check_traces(run: Run, traces: Manifest, base: Manifest) -> None:
    """Raise DataError if no trace goes on from the prompt, before a judge or a training is started for them."""
    shards, prompt = trace_shards(traces.table("traces")), run.config.model.prompt
    check_beginnings(shards, prompt)
    own = isinstance(run.config.generate, VllmTraces)  # what a model itself makes of the prompt fits
    if not prompt.prefix and not own:
        check_thoughts(
            shards, load_tokenizer(base.facts["export"], run.config.model.overrides.trust_remote_code), prompt
        )


def whole_benchmarks(run: Run, problems: Manifest) -> pa.Table | None:
    """Every problem of the benchmarks in use, also of those that are evaluated in part, and of the development split; None
    if they are not asked for."""
    contamination = run.config.curate.contamination
    if contamination is None or not contamination.benchmarks:
        return None
    tables = [*load_benchmarks(run, problems, whole=True).values(), *parquet.read_tables(problems.files("dev"))]
    return pa.concat_tables([BENCHMARKS.empty_table(), *(table.select(BENCHMARKS.names) for table in tables)])
