"""The stage `imported`: what a step `import` has made of a set."""

from __future__ import annotations

import time
from typing import Any

from redi_ray.cluster.runtime import log
from redi_ray.config.imports import ImportSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.curate.beginnings import MOST, complaint
from redi_ray.data.sources.import_rows import WITHOUT_PREFIX
from redi_ray.data.sources.import_sets import ImportCounts, import_set
from redi_ray.data.sources.readers import DataError
from redi_ray.stages.problems import content_of_source
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest, Stage


def imported_stage(run: Run, settings: ImportSettings) -> Stage:
    """The key holds the set's contents, and of the prompt's settings what decides the rows."""
    prompt = run.config.model.prompt
    asked = [prompt.template, prompt.system] if settings.prompts == "problems" or settings.judge is not None else []
    deciding: dict[str, Any] = {
        "import": settings,
        "content": content_of_source(settings.source, f"steps.{run.step}.source.paths"),
        "prompt": [prompt.prefix, *asked],
    }
    return run.stage("imported", deciding, {})


def imported(run: Run, settings: ImportSettings) -> Manifest:
    """The set as tables that trainings read; its shape and columns are facts."""
    stage, prompt, where = imported_stage(run, settings), run.config.model.prompt, f"steps.{run.step}"
    if found := run.reuse(stage):
        return found
    started = time.monotonic()
    result = import_set(settings, prompt, stage.uri, where)
    log.info("%s: %s rows read as %s", where, f"{result.rows['in']:,}", result.layout)
    for warning in result.warnings:
        log.warning("%s: %s", where, warning)
    told_of_prefixes(result, prompt, where)
    facts = {
        "shape": result.layout.shape,
        "columns": dict(result.layout.columns),
        "read_as": str(result.layout),
        "answers": result.answers,
        "positive": result.positive,
        "several_turns": result.several_turns,
    }
    tables, answered = result.tables, {"positives": "examples", "pairs": "pairs", "groups": "groups"}
    counts = result.rows | {name: tables[table] for name, table in answered.items() if table in tables}
    if "pairs" in tables:
        counts["positives"] = tables["pairs"]
    return run.publish(stage, started, counts=counts, dropped=result.dropped, rejected=result.rejected, facts=facts)


def told_of_prefixes(result: ImportCounts, prompt: PromptSettings, where: str) -> None:
    """Raise DataError if nearly all answers are without the forced prefix; a warning if some are."""
    reasons = {name: count for name, count in result.dropped.items() if name.endswith(WITHOUT_PREFIX)}
    if not reasons:
        return
    without, example = sum(reasons.values()), result.first[max(reasons, key=lambda name: reasons[name])]
    of = without + result.rows["out"]
    told = f"{where}: {complaint(without, of, 'answers', prompt, example)}"
    if without >= MOST * of:
        raise DataError(told)
    log.warning("%s; these are dropped", told)
