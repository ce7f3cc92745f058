"""What a run tells its scorers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redi_ray.cluster.capacity import SMALL_TASKS_CPUS, demand
from redi_ray.cluster.runtime import log
from redi_ray.config.names import BASE
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.scorer_base import COLUMN as BESIDE
from redi_ray.config.scorer_base import RIGHT
from redi_ray.config.scorers import RewardScorer, Scorer
from redi_ray.config.trace_rewards import SimilarityScorer
from redi_ray.data.sample import engine_pool
from redi_ray.data.score import SCORERS
from redi_ray.data.score.score import score_samples
from redi_ray.data.score.scorer import Asked
from redi_ray.eval.scoring import WriteColumn
from redi_ray.modeling.tokenizer import content_of_model
from redi_ray.stages.rewards import COLUMN, reward_folder
from redi_ray.stages.run import Run
from redi_ray.store import storage
from redi_ray.store.manifests import Manifest

BASE_ROLE = "base"


def inputs_of(*scorers: Scorer | None) -> dict[str, str]:
    """What a step needs for its scorers: the input -> the step that makes it."""
    asks = any(scorer is not None and scorer.needs_tokenizer for scorer in scorers)
    return {BASE_ROLE: BASE} if asks else {}


def outside_of(scorer: Scorer) -> Any:
    """What of the world outside decides a scorer's values."""
    if isinstance(scorer, RewardScorer | SimilarityScorer):
        return content_of_model(scorer.folder) if scorer.folder else None
    return SCORERS[scorer.name].outside(scorer)


def column_writer(run: Run, scorer: Scorer, inputs: Mapping[str, Manifest], field: str, work: str) -> WriteColumn:
    """What writes a scorer's column of an evaluation's samples.

    inputs: of the step, a reward model of the graph being called `field`, as the evaluation calls the scorer. work: a folder of
    the scorer's own.
    """
    if isinstance(scorer, RewardScorer):
        model = inputs[field].facts["export"] if field in inputs else None
        return reward_writer(run, scorer, model, f"evaluate.{field}")
    asked = asked_of(run, inputs, work)

    def write(samples: str, column: str) -> str:
        score_samples(samples, column, scorer, asked)
        return column

    return write


def reward_writer(run: Run, scorer: RewardScorer, model: str | None, field: str) -> WriteColumn:
    """The same of a reward model, which takes the place of engines that are idle where there is no room beside them.

    model: its export, where it is one of the graph. field: of messages.
    """

    def write(samples: str, out: str) -> str:
        make_room(run.config.resources.trainer)
        _, left_out = reward_folder(run.config, scorer, model, samples, out, field)
        if left_out:
            log.warning("%s: samples without a number, by reason: %s", field, left_out)
        return storage.join(out, COLUMN)

    return write


def make_room(trainer: TrainerSettings) -> None:
    """For the actors that hold a reward model."""
    worker = {"GPU": float(trainer.on_gpu), "CPU": trainer.cpus_per_worker}
    workers = demand("a reward model", [worker] * trainer.pool[0], trainer.label_selector)
    small = demand("small tasks", [{"CPU": SMALL_TASKS_CPUS}], {})
    engine_pool.make_room([small, workers])


def asked_of(run: Run, inputs: Mapping[str, Manifest], work: str) -> Asked:
    """What its scorers may ask. inputs: of the step. work: a folder of the scorer's own."""
    base = inputs.get(BASE_ROLE)
    return Asked(
        prompt=run.config.model.prompt,
        tokenizer=base.facts["export"] if base is not None else None,
        trust_remote_code=run.config.model.overrides.trust_remote_code,
        work=work,
        verify=run.config.verify.first_pass(),
        source=run.config.problems.source,
        columns={role: made.table("column") for role, made in inputs.items() if role.startswith(BESIDE)},
        judged=tuple(inputs[RIGHT].files("verified")) if RIGHT in inputs else (),
    )
