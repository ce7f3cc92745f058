"""The memory of every training's ranks, and what a run leaves on disk."""

from __future__ import annotations

import math

from redi_ray.modeling.soft_columns import SoftFormat
from redi_ray.pipeline.graph import Step
from redi_ray.pipeline.kinds import KINDS
from redi_ray.pipeline.kinds.groups import TOKENS, WEIGHTS
from redi_ray.pipeline.rounds import written
from redi_ray.plan.costs import Inputs, StageCost, StageMemory
from redi_ray.plan.derived import workload_of
from redi_ray.plan.memory import largest_budget, rank_memory, ranks_needed, shortest_way
from redi_ray.plan.trainings import (
    MISMATCHED,
    REFERENCES,
    PlannedTraining,
    read_by_verdict,
    training_of,
    trainings,
)
from redi_ray.plan.workload import Workload, groups_read, sides_of

TOKEN_BYTES = 5.0
"""A token's id and mask in a sequence store."""
VALUE_BYTES = 4
"""A number of a token in a column, in groups and in the arrays."""
REFERENCE_BYTES = 4.0 + 12.0
"""A scored token's log-prob in the arrays, and in the shard before it, with its place."""


def stage_memory(inputs: Inputs, work: Workload, stage: PlannedTraining) -> StageMemory:
    """What a rank of a training holds, and whether that fits; of a range with the fewest ranks, when each holds most.

    work: of its data.
    """
    assume = work.assume
    assume.used.clear()
    shape = inputs.shape_of(stage.name)
    settings, setup, ranks = stage.settings, stage.setup(shape), stage.recipe.trainer.pool[0]
    sides = stage.sides(work)
    longest = min(settings.max_length, math.ceil(max(float(side.lengths.max()) for side in sides)))
    pack = max(settings.tokens_per_pack, longest)
    room = budget = needed = shorter = None
    if stage.recipe.trainer.device != "cpu":
        room = inputs.gpu.memory_gb * 1e9 * (1 - assume["fragmentation"]) - assume["reserve_gb"] * 1e9
        budget, needed = largest_budget(setup, ranks, room), ranks_needed(setup, pack, room)
        shorter = shortest_way(setup, room) if needed is None else None
    return StageMemory(
        name=stage.name,
        ranks=ranks,
        pack_tokens=pack,
        memory=rank_memory(setup, pack, ranks),
        room=room,
        budget=budget,
        ranks_needed=needed,
        shorter=shorter,
        checkpointing=setup.checkpointing,
        keep_gathered=setup.keep_gathered,
        assumptions=sorted(assume.used),
    )


def storage(inputs: Inputs, whole: Workload, stages: list[StageCost]) -> dict[str, float]:
    """Bytes by table: zstd Parquet, token arrays as they are, float32 checkpoints with both moments, exports.

    Of a training its newest checkpoints stay, and the exported model; in float32 too, where another one may start from it and
    the export is narrower.
    """
    text = whole.assume["bytes_per_token"] * whole.assume["compression"]
    found: dict[str, float] = {}
    for step in inputs.graph:
        found |= data_bytes(inputs, whole, step, text)
        if record := bytes_of_record(inputs, step):
            work = workload_of(inputs.graph, step.name, whole)
            traces, tokens = read_by_verdict(work, step)
            found[f"steps/{step.name}/column"] = (tokens - traces * work.prompt) * record
    for stage in stages:
        if stage.name.startswith(REFERENCES):
            own = (
                2 * TOKEN_BYTES if stage.name.startswith(MISMATCHED) else TOKEN_BYTES
            )  # those are sequences of their own
            found[stage.name] = stage.tokens * (REFERENCE_BYTES + own)
        elif stage.name.startswith("evaluate"):
            found["eval"] = found.get("eval", 0.0) + stage.tokens * text
    for training in trainings(inputs):
        kept = training.settings.keep_last if training.settings.checkpoint_every else 1
        shape = inputs.shape_of(training.name)
        weights = kept * 12.0 * training.setup(shape).trained
        exported = export_bytes(inputs, training) + (4 if is_kept_exact(inputs, training) else 0)
        found[f"checkpoints/{training.name}"] = weights + float(exported) * shape.parameters
    for step in inputs.graph:
        if step.kind == "merge":
            found[f"checkpoints/{step.name}"] = merged_bytes(inputs, step) * inputs.shape_of(step.name).parameters
    return found


def data_bytes(inputs: Inputs, whole: Workload, step: Step, text: float) -> dict[str, float]:
    """Bytes of a data step's tables, and of a named training's own token arrays. text: of a token of them."""
    place = f"steps/{step.name}/" if step.own else ""
    if step.gives not in ("traces", "verified", "groups") and not (step.kind == "train" and step.own):
        return {}
    if step.kind == "train":
        work = workload_of(inputs.graph, step.inputs["groups"], whole)
        tokens = groups_read(work, step.settings) * sum(s.tokens * s.each for s in sides_of(work, step.settings))
        return {f"{place}sequences": tokens * (TOKEN_BYTES + taught_bytes(inputs, inputs.graph[step.inputs["groups"]]))}
    work = workload_of(inputs.graph, step.name, whole)
    if step.kind == "rectify":  # a bound: its texts are beginnings of traces
        return {f"{place}groups": work.traces * work.trace_tokens * text}
    both = work.chosen.tokens + work.rejected.tokens
    if step.kind in ("import", "groups"):
        tokens = work.groups * sum(side.tokens * side.each for side in work.members)
        return {f"{place}{KINDS[step.kind].stage}": tokens * (text + taught_bytes(inputs, step))}
    if step.gives == "groups":
        tokens = work.positives * work.chosen.tokens + work.pairs * both
        arrays = {} if step.own else {"sequences": tokens * TOKEN_BYTES}  # one set, of all trainings on them
        return {f"{place}curated": tokens * text, **arrays}
    return {f"{place}{step.gives}": work.traces * (work.trace_tokens + work.prompt) * text}


def bytes_of_record(inputs: Inputs, step: Step) -> int:
    """What a step's column keeps of a token: a teacher's distribution or a number. 0 of a step that says nothing of tokens."""
    if step.kind == "soft_targets":
        return SoftFormat(step.settings.top_k, inputs.student.vocab_size).bytes_per_token
    written_step = inputs.config.steps.get(written(step.name))
    return VALUE_BYTES if getattr(written_step, "grain", None) == "token" else 0


def taught_bytes(inputs: Inputs, groups: Step) -> int:
    """What columns say of a token of these groups, which hold it again."""
    columns = [column for name, column in groups.inputs.items() if name == WEIGHTS or name.startswith(TOKENS)]
    return sum(bytes_of_record(inputs, inputs.graph[column]) for column in columns)


def export_bytes(inputs: Inputs, training: PlannedTraining) -> int:
    """Of a parameter in the exported model."""
    value = training.setup(inputs.shape_of(training.name)).value_bytes
    return {"auto": value, "float32": 4, "bfloat16": 2}[training.settings.export_dtype]


def is_kept_exact(inputs: Inputs, training: PlannedTraining) -> bool:
    """Whether its float32 weights lie beside a narrower export, for trainings that start from it."""
    return training.recipe.starts_others and export_bytes(inputs, training) < 4


def merged_bytes(inputs: Inputs, step: Step) -> float:
    """Of a parameter of a merge: it has the type of the first model."""
    first = inputs.graph[next(iter(step.inputs.values()))]
    if first.kind == "merge":
        return merged_bytes(inputs, first)
    training = training_of(inputs.config, first)
    return float(export_bytes(inputs, training)) if training is not None else 2.0
