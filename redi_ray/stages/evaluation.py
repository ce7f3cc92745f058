"""Evaluating each model of a run on the configured benchmarks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from redi_ray.config.answers import VerifySettings
from redi_ray.config.benchmarks import WORLD
from redi_ray.config.evaluation import BenchmarkSettings
from redi_ray.config.names import BASE
from redi_ray.config.resources import EngineSettings
from redi_ray.config.scorers import RewardScorer
from redi_ray.config.training_steps import ModelStep
from redi_ray.data.sample.generate import read_problems
from redi_ray.eval.benchmarks import content_of_benchmark, load_benchmark, subset
from redi_ray.eval.evaluate import evaluate_model, requests
from redi_ray.eval.scoring import scorers_of
from redi_ray.schemas import PROBLEM
from redi_ray.stages.bars import WorkBar
from redi_ray.stages.guided import decided_by, guide_of
from redi_ray.stages.rewards import numerics_of
from redi_ray.stages.run import Run
from redi_ray.stages.scoring import column_writer, outside_of
from redi_ray.store import parquet, storage
from redi_ray.store.manifests import Manifest, Stage
from redi_ray.text.boxes import extract_boxed
from redi_ray.text.prompts import problem_of

QUESTIONS = "questions "
"""Begins an input that holds questions to a judge, before what the evaluation calls them."""


def load_benchmarks(run: Run, problems: Manifest | None, *, whole: bool = False) -> dict[str, pa.Table]:
    """Name -> problems; `whole`: all of them, whatever `max_problems` says. `arithmetic` is the test split of the built-in
    world, written by the problems stage; without problems it is no benchmark."""
    tables = {}
    for chosen in run.config.evaluate.benchmarks:
        settings = replace(chosen, max_problems=None) if whole else chosen
        if settings.name == WORLD and problems is not None:
            tables[WORLD] = subset(read_problems(problems.files("test")), settings)
        else:
            tables[settings.name] = load_benchmark(settings)
    return tables


def questions_of(run: Run, inputs: Mapping[str, Manifest]) -> dict[str, pa.Table]:
    """Name -> the questions to judges of `evaluate.judge_on` as problems, the scores as their answers."""
    found = {}
    for name in run.config.evaluate.judge_on:
        shards = inputs[QUESTIONS + name].files("examples")
        rows = [row for table in parquet.read_tables(shards, ["example_id", "messages"]) for row in table.to_pylist()]
        problems = [
            {
                "problem_id": f"{name}-{row['example_id']}",
                "problem": problem_of(row["messages"], run.config.model.prompt),
                "answer": extract_boxed(verdict := row["messages"][-1]["content"]) or verdict,
                "source": name,
            }
            for row in rows
        ]
        found[name] = pa.Table.from_pylist(problems, schema=PROBLEM)
    return found


def whole_benchmark(settings: BenchmarkSettings) -> dict[str, Any]:
    """Which problems a benchmark has, whatever part of them is used."""
    whole = replace(settings, max_problems=None, subset_seed=0, num_samples=None)
    return {"settings": whole, "content": content_of_benchmark(settings)}


def evaluation_stage(run: Run, name: str, inputs: Mapping[str, Manifest | Stage]) -> Stage:
    """Where a model's scores lie. inputs: `model`, `problems` where there are any, and what scorers take."""
    config, scorers = run.config, scorers_of(run.config.evaluate)
    deciding = {
        "evaluate": config.evaluate,
        "contents": [content_of_benchmark(benchmark) for benchmark in config.evaluate.benchmarks],
        "engine": _engine(run, name),
        "verify": benchmark_verification(config.verify),
        "prompt": config.model.prompt,
    }
    if scorers:
        deciding["scorers"] = {field: outside_of(scorer) for field, scorer in scorers.items()}
    if any(isinstance(scorer, RewardScorer) for scorer in scorers.values()):
        deciding |= numerics_of(config)
    deciding |= decided_by(run, config.evaluate)
    others = {role: made for role, made in inputs.items() if role != "model"}
    return run.stage(f"eval/{name}", deciding, {"checkpoint": inputs["model"], **others})


def evaluate(run: Run, name: str, inputs: Mapping[str, Manifest]) -> Manifest:
    """Score one model by its name. inputs: as of `evaluation_stage`."""
    config, stage, checkpoint = run.config, evaluation_stage(run, name, inputs), inputs["model"]
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    benchmarks = load_benchmarks(run, inputs.get("problems")) | questions_of(run, inputs)
    columns = {
        field: column_writer(run, scorer, inputs, field, storage.join(stage.uri, "work", field))
        for field, scorer in scorers_of(config.evaluate).items()
    }
    model = checkpoint.facts["export"]
    total = requests(benchmarks, config.evaluate).num_rows
    with WorkBar(f"evaluate {name}", total, "traces") as progress:
        result = evaluate_model(
            model,
            benchmarks,
            config.evaluate,
            engine=_engine(run, name),
            prompt=config.model.prompt,
            recorded=checkpoint.facts["prompt"],
            verify=benchmark_verification(config.verify),
            verify_workers=config.resources.verify_workers,
            verify_labels=config.resources.cpu_label_selector,
            out_uri=stage.uri,
            on_progress=lambda added: (
                progress(added.traces, found=added.traces) if added.resumed else progress(added.traces, added.tokens)
            ),
            columns=columns,
            guide=guide_of(run, model, _engine(run, name), inputs, progress),
        )
    storage.write_json(storage.join(stage.uri, "report.json"), {"arm": name, "model": model, **result})
    scores = {row["name"]: _told(row) for row in result["benchmarks"]}
    return run.publish(stage, started, facts={"model": model, "scores": scores})


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of a benchmark."""
    scored = row.get("score")
    return {"pass@1": row["pass_at_1"], "sem": row["sem"], **({"score": scored["mean"]} if scored else {})}


def benchmark_verification(settings: VerifySettings) -> VerifySettings:
    """The run's way to read answers, applied to benchmarks: their golds are clean, and only Math-Verify votes."""
    answers = replace(settings.answers, gold_extract=["whole"])
    plain = replace(settings, judge=None, invert_labels=False, reuse_votes=False, votes=["math_verify"], policy="all")
    return replace(plain, answers=answers)


def _engine(run: Run, name: str) -> EngineSettings:
    """The engine's settings; where the student's length limit is stretched, the base model and teachers keep their own."""
    engine = run.config.resources.engine
    stretched = run.config.model.overrides.max_position_embeddings is not None
    as_it_is = name == BASE or isinstance(run.config.steps.get(name), ModelStep)
    return replace(engine, max_model_len=None) if as_it_is and stretched else engine
