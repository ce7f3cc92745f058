"""What a run tells its scorers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redi_ray.config.names import BASE
from redi_ray.config.scorers import COLUMN, RIGHT, Scorer
from redi_ray.data.score import SCORERS
from redi_ray.data.score.score import score_samples
from redi_ray.data.score.scorer import Asked
from redi_ray.eval.scoring import WriteColumn
from redi_ray.stages.run import Run
from redi_ray.store.manifests import Manifest

BASE_ROLE = "base"


def inputs_of(*scorers: Scorer | None) -> dict[str, str]:
    """What a step needs for its scorers: the input -> the step that makes it."""
    asks = any(scorer is not None and scorer.needs_tokenizer for scorer in scorers)
    return {BASE_ROLE: BASE} if asks else {}


def outside_of(scorer: Scorer) -> Any:
    """What of the world outside decides a scorer's values."""
    return SCORERS[scorer.name].outside(scorer)


def column_writer(run: Run, scorer: Scorer, inputs: Mapping[str, Manifest], work: str) -> WriteColumn:
    """What writes a scorer's column of an evaluation's samples. inputs: of the step. work: a folder of the scorer's own."""
    asked = asked_of(run, inputs, work)
    return lambda samples, column: score_samples(samples, column, scorer, asked)


def asked_of(run: Run, inputs: Mapping[str, Manifest], work: str) -> Asked:
    """What its scorers may ask. inputs: of the step. work: a folder of the scorer's own."""
    base = inputs.get(BASE_ROLE)
    return Asked(
        prompt=run.config.model.prompt,
        tokenizer=base.facts["export"] if base is not None else None,
        trust_remote_code=run.config.model.overrides.trust_remote_code,
        work=work,
        source=run.config.problems.source,
        columns={role: made.table("column") for role, made in inputs.items() if role.startswith(COLUMN)},
        judged=tuple(inputs[RIGHT].files("verified")) if RIGHT in inputs else (),
    )
