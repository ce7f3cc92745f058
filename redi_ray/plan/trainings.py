"""The trainings of a graph, and what each costs: tokens, operations, GPU-hours, and the log-probs of its reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redi_ray.config.experiment import ArithmeticModel, ExperimentConfig
from redi_ray.config.objectives import SftObjective
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.rollout_objectives import Rehearsal
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.objectives import OBJECTIVES
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.plan.costs import Inputs, StageCost
from redi_ray.plan.flops import Flops, scoring, training
from redi_ray.plan.memory import Setup
from redi_ray.plan.shapes import ModelShape
from redi_ray.plan.workload import Side, Workload, groups_read, groups_trained, sides_of
from redi_ray.stages.training import Recipe

REFERENCES, MISMATCHED = "references", "references/mismatched"


@dataclass(frozen=True)
class PlannedTraining:
    """One training of a graph."""

    name: str
    recipe: Recipe
    overrides: ModelOverrides
    groups: str | None
    """The step that makes its data; None for the built-in model, whose corpus is made up."""

    @property
    def settings(self) -> TrainSettings:
        return self.recipe.settings

    def sides(self, work: Workload) -> list[Side]:
        """Of a group, as this training reads it. work: of its data."""
        sides = sides_of(work, self.recipe)
        read = sides[:1] if OBJECTIVES[self.recipe.objective.name].sides == "chosen" else sides
        return [side.within(self.settings.max_length) for side in read]

    def setup(self, shape: ModelShape) -> Setup:
        """What decides its ranks' memory."""
        anchored = getattr(self.recipe.objective, "kl_vocabulary", 0) > 0
        return Setup.of(shape, self.settings, self.recipe.trainer.device != "cpu", self.overrides.lora, anchored)


def training_of(config: ExperimentConfig, step: Step) -> PlannedTraining | None:
    """The training that a step is, None if it is none."""
    init = step.settings.init if step.kind == "model" else config.model.init
    if step.kind in ("base", "model") and isinstance(init, ArithmeticModel):
        trainer = config.resources.trainer
        recipe = Recipe(SftObjective(), init.train, trainer, "examples", starts_others=True)
        return PlannedTraining(step.name, recipe, ModelOverrides(), None)
    if step.kind == "train":
        return PlannedTraining(step.name, step.settings, config.model.overrides, step.inputs["groups"])
    return None


def trainings(inputs: Inputs) -> list[PlannedTraining]:
    """All of a graph, in its order."""
    found = (training_of(inputs.config, step) for step in inputs.graph)
    return [each for each in found if each is not None]


def corpus_cost(inputs: Inputs, work: Workload, name: str, init: ArithmeticModel) -> StageCost:
    """Of the built-in world's base model."""
    side, groups = work.chosen, groups_trained(init.corpus_size, init.train)
    shape = inputs.shape_of(name)
    flops = training(shape, side.lengths, side.scored, checkpointing=init.train.gradient_checkpointing)
    trainer, tokens = inputs.config.resources.trainer, groups * side.tokens
    return _trained(inputs, work, name, [name], groups, tokens, flops.times(groups), trainer)


def training_cost(inputs: Inputs, work: Workload, each: PlannedTraining) -> StageCost:
    """Of a training on positives, pairs or groups. work: of its data."""
    settings, objective, trainer = each.settings, each.recipe.objective, each.recipe.trainer
    shape = inputs.shape_of(each.name)
    available = groups_read(work, each.recipe)
    groups = groups_trained(available, settings)
    sides, spec = each.sides(work), OBJECTIVES[objective.name]
    flops, checkpointing = Flops(0, 0), settings.gradient_checkpointing
    group_tokens = sum(side.tokens * side.each for side in sides)
    step_tokens = group_tokens * settings.batch_size
    passes = math.ceil(step_tokens / (settings.tokens_per_pack * trainer.pool[1]))
    adapters = each.overrides.lora is not None
    for side in sides:
        once = scoring(shape, side.lengths, side.scored).times(side.each)
        trained = training(shape, side.lengths, side.scored, checkpointing=checkpointing, adapters=adapters)
        flops += trained.times(side.each)
        if not spec.linear(objective) and passes > 1:
            flops += Flops(0, once.hardware)  # scores are needed before coefficients
        if spec.needs_mismatched(objective):
            flops += Flops(0, once.hardware)
    nothing = {"examples": "there are no positives"}.get(each.recipe.reads, f"there are no {each.recipe.reads}")
    notes = [] if groups else [nothing]
    if not spec.linear(objective) and passes > 1:
        notes.append("scores first, then trains: one more forward pass")
    note = "; ".join([f"{settings.total_steps(available):,} steps", *notes])
    tokens, sequences = groups * group_tokens, groups * sum(side.each for side in sides)
    return _trained(inputs, work, each.name, [each.name], sequences, tokens, flops.times(groups), trainer, note)


def rehearsal_cost(
    inputs: Inputs, work: Workload, each: PlannedTraining, rehearsal: Rehearsal, steps: int
) -> StageCost:
    """Of what a training of so many steps rehearses, its log-probs by the first model among it. work: of what is rehearsed."""
    side, known = work.chosen.within(each.settings.max_length), work.positives
    checkpointing, adapters = each.settings.gradient_checkpointing, each.overrides.lora is not None
    shape = inputs.shape_of(each.name)
    again = rehearsal.batch_size * steps if known else 0
    flops = training(shape, side.lengths, side.scored, checkpointing=checkpointing, adapters=adapters).times(again)
    flops += scoring(shape, side.lengths, side.scored).times(known)
    name, note = f"{each.name} (rehearsal)", f"{rehearsal.batch_size} a step, of {known:,}"
    tokens, trainer = again * side.tokens, each.recipe.trainer
    return _trained(inputs, work, name, [each.name], again, tokens, flops, trainer, note)


def siblings(graph: Graph, step: Step) -> list[Step]:
    """The trainings that start from the same model on the same data, which share the log-probs of their reference."""

    def data(one: Step) -> tuple[str, str, str]:
        return one.inputs["start"], one.inputs["groups"], one.settings.reads

    return [other for other in graph if other.kind == "train" and data(other) == data(step)]


def reference_costs(inputs: Inputs, work: Workload, step: Step) -> Iterator[StageCost]:
    """Log-probs of the reference, once for all siblings that need them; told at the first of these. work: of their data."""
    together = siblings(inputs.graph, step)
    if together[0].name != step.name:
        return
    for title in (REFERENCES, MISMATCHED):
        users = [other for other in together if _needs(other.settings, title)]
        if not users:
            continue
        flops, sides = Flops(0, 0), sides_of(work, step.settings)
        for side in sides:
            flops += scoring(inputs.shape_of(step.inputs["start"]), side.lengths, side.scored).times(side.each)
        groups, names = groups_read(work, step.settings), [other.name for other in users]
        whose = f" ({step.inputs['start']} on {step.inputs['groups']})" if all(other.own for other in users) else ""
        tokens, sequences = (
            groups * sum(side.tokens * side.each for side in sides),
            groups * sum(side.each for side in sides),
        )
        trainer, note = inputs.config.resources.trainer, f"for {', '.join(names)}"
        yield _trained(inputs, work, title + whose, names, sequences, tokens, flops.times(groups), trainer, note)


def contrast_cost(inputs: Inputs, work: Workload, step: Step) -> StageCost:
    """Wrong traces as two models see them. work: of the traces."""
    side, traces = Side(work.prompt, work.wrong), work.traces * (1 - work.share("correct"))
    flops = Flops(0, 0)
    for model in ("right", "wrong"):
        flops += scoring(inputs.shape_of(step.inputs[model]), side.lengths, side.scored).times(traces)
    trainer = inputs.config.resources.trainer
    return _trained(inputs, work, step.name, [step.name], traces, traces * side.tokens, flops, trainer, "two models")


REWARDS = "a reward model"
"""What a line is about."""


def reward_cost(inputs: Inputs, work: Workload, step: Step, note: str) -> StageCost:
    """Traces as a model sees them of which only hidden states are asked, such as a reward model. work: of the traces."""
    right = work.share("correct")
    read = [
        (Side(work.prompt, work.correct), work.traces * right),
        (Side(work.prompt, work.wrong), work.traces * (1 - right)),
    ]
    return valued_cost(inputs, work, step.name, [step.name], read, note)


def valued_cost(
    inputs: Inputs, work: Workload, name: str, steps: list[str], read: Sequence[tuple[Side, float]], note: str = REWARDS
) -> StageCost:
    """What such a model reads: texts of a kind, and how many of them."""
    tokens, flops = 0.0, Flops(0, 0)
    for side, texts in read:
        flops += scoring(inputs.student, side.lengths, 0).times(texts)
        tokens += texts * side.tokens
    trainer, many = inputs.config.resources.trainer, sum(texts for _, texts in read)
    return _trained(inputs, work, name, steps, many, tokens, flops, trainer, note)


def logps_cost(inputs: Inputs, work: Workload, step: Step, note: str = "") -> StageCost:
    """Traces as a model sees them. work: of these."""
    shape, flops = inputs.shape_of(step.inputs["model"]), Flops(0, 0)
    for side, many in _sides_by_verdict(work, step):
        flops += scoring(shape, side.lengths, side.scored).times(many)
    traces, tokens = read_by_verdict(work, step)
    trainer = inputs.config.resources.trainer
    return _trained(inputs, work, step.name, [step.name], traces, tokens, flops, trainer, note)


def read_by_verdict(work: Workload, step: Step) -> tuple[float, float]:
    """How many traces a step reads that makes a column, and their tokens, prompts among them. work: of the traces."""
    read = list(_sides_by_verdict(work, step))
    return sum(many for _, many in read), sum(many * side.tokens for side, many in read)


def _sides_by_verdict(work: Workload, step: Step) -> Iterator[tuple[Side, float]]:
    judged, right = getattr(step.settings, "verdicts", None), work.share("correct")
    for verdict, lengths, share in (("correct", work.correct, right), ("wrong", work.wrong, 1 - right)):
        if judged is None or verdict in judged:
            yield Side(work.prompt, lengths), work.traces * share


def _needs(recipe: Recipe, title: str) -> bool:
    spec = OBJECTIVES[recipe.objective.name]
    return spec.needs_mismatched(recipe.objective) if title == MISMATCHED else spec.needs_reference


def _trained(
    inputs: Inputs,
    work: Workload,
    name: str,
    steps: list[str],
    sequences: float,
    tokens: float,
    flops: Flops,
    trainer: TrainerSettings,
    note: str = "",
) -> StageCost:
    fewest, most = trainer.pool
    if fewest < most:
        note = "; ".join([*filter(None, [note]), f"{fewest} to {most} ranks: hours with {most}, memory with {fewest}"])
    if trainer.device == "cpu":
        note = "; ".join(["on CPU", *filter(None, [note])])
        used = sorted(work.assume.used)
        return StageCost(name, steps, sequences, tokens, None, flops=flops.hardware, note=note, assumptions=used)
    peak, utilization = inputs.gpu.bf16_tflops * 1e12, work.assume["utilization"]
    seconds = flops.hardware / (peak * utilization)
    return StageCost(
        name,
        steps,
        sequences,
        tokens,
        seconds / 3600,
        most,
        flops.hardware,
        flops.model / (peak * seconds) if seconds else None,
        note=note,
        assumptions=sorted(work.assume.used),
    )
