"""What objectives on numbers and distributions of single tokens ask of the graph: that samples are the student's own where they
must be, that a column says something of all that is learnt from, and that somebody reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redi_ray.config.data import EndpointTraces, Generate, VllmTraces
from redi_ray.config.group_steps import SOFT_TARGETS, GroupSettings
from redi_ray.config.objectives import IMITATING, SAMPLED, Objective
from redi_ray.config.soft_objectives import SOFT, OnPolicyDistillationObjective
from redi_ray.pipeline.graph import Graph, Step
from redi_ray.pipeline.kinds.groups import TOKENS
from redi_ray.pipeline.kinds.logps import STORED
from redi_ray.stages.training import REHEARSED

SAMPLER = "sampler_logps"
"""The token column of the sampler's log-probs, as objectives call it."""
TEACHER = "teacher_logps"
"""That of a teacher's."""
REWARD_MEAN = "reward_mean"
"""That of a token reward model's running means."""


def columns_read(objective: Objective) -> list[str]:
    """Names of the token columns that an objective reads under its settings."""
    found = [SAMPLER] if objective.name in SAMPLED and getattr(objective, "student", "") != "policy" else []
    found += [SOFT_TARGETS] if objective.name in SOFT else []
    found += [TEACHER] if isinstance(objective, OnPolicyDistillationObjective) else []
    return found + ([REWARD_MEAN] if getattr(objective, "token_rewards", False) else [])


def sampler_of(graph: Graph, name: str, generate: Generate) -> str | None:
    """The model that drew these samples: a step of the graph, a path or a server's model; None where nothing says it."""
    samples = graph[name]
    while "of" in samples.inputs:
        samples = graph[samples.inputs["of"]]
    if samples.kind != "sample" or "model" in samples.inputs:
        return samples.inputs.get("model")
    drawn = samples.sections.get("generate", generate)
    if isinstance(drawn, EndpointTraces):
        return drawn.endpoint.model
    return drawn.model if isinstance(drawn, VllmTraces) else None


def taught_misfits(graph: Graph, step: Step, generate: Generate) -> Iterator[str]:
    """What does not fit in groups with token columns, or in a training on them, a line each. generate: the config's section."""
    if step.kind == "train":
        yield from _not_its_own(graph, step, generate)
        yield from _its_own_teacher(graph, step, generate)
    elif step.kind == "groups":
        learning = [other for other in graph if other.kind == "train" and step.name in _learnt_by(other)]
        if learning:
            yield from _unread(step, learning)
            yield from _unsaid(graph, step, learning)


def _learnt_by(training: Step) -> list[str]:
    return [training.inputs[role] for role in ("groups", REHEARSED) if role in training.inputs]


def _not_its_own(graph: Graph, step: Step, generate: Generate) -> Iterator[str]:
    """Advantages of tokens that another model drew: the gradient is one of the student's own samples, or means nothing."""
    if not isinstance(step.settings.objective, OnPolicyDistillationObjective):
        return
    sampler, student = sampler_of(graph, step.inputs["groups"], generate), step.inputs["start"]
    if sampler is not None and sampler not in _behind(graph, student):
        yield (
            f"{step.name}: {step.settings.objective.name} learns from samples of the student, {student}, and those of "
            f"{step.inputs['groups']} are of {sampler}: sample with `model: {student}`, or take forward_kl, reverse_kl or js on "
            "a column of `soft_targets`, which learn from any samples"
        )


def _its_own_teacher(graph: Graph, step: Step, generate: Generate) -> Iterator[str]:
    """Advantages that are 0 at every token: the teacher's log-probs are those that are taken from them."""
    objective, groups = step.settings.objective, graph[step.inputs["groups"]]
    if not isinstance(objective, OnPolicyDistillationObjective) or TOKENS + TEACHER not in groups.inputs:
        return
    columns = {
        name: graph[groups.inputs[TOKENS + name]] for name in (TEACHER, SAMPLER) if TOKENS + name in groups.inputs
    }
    sampler = sampler_of(graph, groups.name, generate)
    scored = {name: sampler if STORED in one.inputs else one.inputs.get("model") for name, one in columns.items()}
    student = step.inputs["start"] if objective.student == "policy" else sampler or scored.get(SAMPLER)
    teacher, same = columns[TEACHER].name, SAMPLER in columns and columns[SAMPLER].name == columns[TEACHER].name
    if (same and objective.student == "sampler") or (student is not None and scored[TEACHER] == student):
        whose = "those that are taken from them" if student is None else f"those of {student}, the student"
        zero = "are 0 before the first step" if objective.student == "policy" else "are 0"
        yield (
            f"{step.name}: {objective.name} learns from a teacher's log-probs less the student's, and "
            f"`token_columns.{TEACHER}: {teacher}` of {groups.name} has {whose}, so that all {zero}: take a column of a step "
            "`logps` whose `model` is the teacher, such as that of a step `model`"
        )


def _behind(graph: Graph, name: str) -> set[str]:
    """A model, and those that it was trained from or merged of."""
    step = graph[name]
    before = [step.inputs["start"]] if step.kind == "train" else [*step.inputs.values()] if step.kind == "merge" else []
    return {name}.union(*(_behind(graph, one) for one in before))


def _unread(step: Step, learning: list[Step]) -> Iterator[str]:
    """Columns that no training on the groups reads."""
    read = {column for training in learning for column in columns_read(training.settings.objective)}
    for column in step.settings.token_columns:
        if column not in read:
            names = ", ".join(f"{training.name} ({training.settings.objective.name})" for training in learning)
            asked = f"read {', '.join(sorted(read))}" if read else "read none"
            yield f"{step.name}: `token_columns.{column}` is read by no training on it ({names} {asked}): leave it out"


def _unsaid(graph: Graph, step: Step, learning: list[Step]) -> Iterator[str]:
    """Columns that say nothing of samples that are learnt from: these would be left out, one side of all pairs perhaps."""
    one_side = all(_imitates(training, step) for training in learning) and not _needs_both_sides(step.settings)
    for read, told in step.settings.token_columns.items():
        column = graph[step.inputs[TOKENS + read]]
        said: Any = getattr(column.settings, "verdicts", None)
        if said is None:
            continue
        positive = [one for one in _positive(step.settings) if one not in said]
        missing = (
            positive if one_side or told.side == "chosen" else [one for one in step.settings.rewards if one not in said]
        )
        if missing:
            # which helps where none of them is on that side
            side = "" if read != SOFT_TARGETS or positive else ", or ask for `side: chosen` here"
            yield (
                f"{step.name}: `token_columns.{read}: {column.name}` says nothing of samples that are {', '.join(missing)}, and "
                f"they would all be left out: name them in `verdicts` of {column.name}{side}, or give them no reward"
            )


def _imitates(training: Step, groups: Step) -> bool:
    """Whether a training learns from the right members of these groups alone."""
    return (
        training.inputs["groups"] != groups.name or training.settings.objective.name in IMITATING
    )  # rehearsal imitates


def _needs_both_sides(groups: GroupSettings) -> bool:
    """Whether a group is left out without members that are not right."""
    alone = groups.least if groups.per_side is None else groups.per_side
    return groups.both_sides or groups.margin is not None or alone < groups.least


def _positive(groups: GroupSettings) -> list[str]:
    """Verdicts of the samples on side +1; none are known to be where scores or ranks decide it."""
    if groups.scores or groups.margin is not None:
        return []
    return [verdict for verdict, reward in groups.rewards.items() if reward > groups.threshold]
