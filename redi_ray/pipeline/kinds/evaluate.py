"""A model's scores on the benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redi_ray.cluster.capacity import Demand
from redi_ray.config.scorers import RewardScorer
from redi_ray.eval.scoring import RANK, SCORE, scorers_of
from redi_ray.pipeline.kinds.kind import MANY, Kind
from redi_ray.pipeline.room import of_engines, of_trainer, of_verifiers
from redi_ray.stages import evaluation
from redi_ray.stages.guided import GUIDE, JUDGE
from redi_ray.stages.run import Run

if TYPE_CHECKING:
    from redi_ray.pipeline.graph import Step


def room(run: Run, step: Step) -> list[Demand]:
    """Engines, one verifier, as the others share what is left, and where a reward model is asked what holds it."""
    evaluate, resources = run.config.evaluate, run.config.resources
    rewards = any(isinstance(scorer, RewardScorer) for scorer in scorers_of(evaluate).values())
    rewards |= evaluate.guided is not None and evaluate.guided.reward is not None
    asked = [of_trainer(f"models that score for {step.name}", resources.trainer)] if rewards else []
    guided = evaluate.guided.judge if evaluate.guided is not None else None
    own = (
        [of_engines("evaluate.guided.judge", guided.engine)] if guided is not None and guided.engine is not None else []
    )
    return [of_engines(step.name, resources.engine), *own, of_verifiers(run.config, 1), *asked]


KIND = Kind(
    name="evaluate",
    takes={
        **dict.fromkeys(("model", "base", SCORE, RANK, GUIDE, JUDGE), ("model",)),
        "problems": ("problems",),
        MANY: ("groups",),
    },
    gives="scores",
    stage="{name}",
    tables=("verified", "traces"),
    place=lambda run, step, inputs: evaluation.evaluation_stage(run, step.inputs["model"], inputs),
    make=lambda run, step, inputs: evaluation.evaluate(run, step.inputs["model"], inputs),
    room=room,
)
