"""What is rehearsed beside what is learnt: sequences of their own, with a loss of their own, added to that of each step.

The two losses are normalised apart, each over its own part of the step's batch, so that neither's size depends on the other's
data. A step has as many groups to rehearse as the settings say, in an order of their own, over and over while training lasts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from redi_ray.config.rollout_objectives import DphObjective
from redi_ray.config.training import TrainSettings
from redi_ray.train.batches import BatchPlan, plan_batches
from redi_ray.train.results import StepResult
from redi_ray.train.sequences import SequenceStore

LOSS = "rehearsal_loss"
"""Metric: the part of the loss that is rehearsal's."""
TOKENS = ("scored_tokens", "total_tokens")


@dataclass(frozen=True)
class Rehearsed:
    """What a training rehearses."""

    store: SequenceStore
    """With the log-probs of the reference, which is the model that training starts from."""
    objective: DphObjective
    batch_size: int
    """Groups of each step."""

    def plan(self, steps: int, settings: TrainSettings, world_size: int) -> BatchPlan:
        """Which of them a step has, for so many steps. Raises ValueError where the sequences lack what the objective reads."""
        own = replace(settings, batch_size=self.batch_size)
        epochs = -(-steps // max(1, own.steps_per_epoch(self.store.num_groups)))
        return plan_batches(self.store, replace(own, epochs=epochs, max_steps=steps), world_size, self.objective)


def added(learnt: StepResult, rehearsed: StepResult) -> StepResult:
    """A step's two parts as one: the loss is their sum, and so are the tokens; other metrics are those of what is learnt."""
    metrics = dict(learnt.metrics)
    metrics |= {name: metrics[name] + rehearsed.metrics[name] for name in TOKENS}
    metrics[LOSS] = rehearsed.loss
    return StepResult(learnt.loss + rehearsed.loss, metrics, learnt.finite and rehearsed.finite)
