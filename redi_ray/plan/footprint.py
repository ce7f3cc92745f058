"""The memory of every training's ranks, and what a run leaves on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass

from redi_ray.config.experiment import ArithmeticModel, ExperimentConfig
from redi_ray.config.objectives import Objective, SftObjective
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.plan.costs import Inputs, StageCost, StageMemory
from redi_ray.plan.memory import Setup, largest_budget, rank_memory, ranks_needed, shortest_way
from redi_ray.plan.shapes import ModelShape
from redi_ray.plan.workload import Workload, sides_of

TOKEN_BYTES = 5.0
"""A token's id and mask in a sequence store."""
REFERENCE_BYTES = 4.0 + 12.0
"""A scored token's log-prob in the arrays, and in the shard before it, with its place."""


@dataclass(frozen=True)
class Training:
    """One training of a config."""

    name: str
    objective: Objective
    settings: TrainSettings
    trainer: TrainerSettings
    overrides: ModelOverrides

    def setup(self, shape: ModelShape) -> Setup:
        """What decides its ranks' memory."""
        return Setup.of(shape, self.settings, self.trainer.use_gpu, self.overrides.lora)


def trainer_of(config: ExperimentConfig, paired: bool) -> TrainerSettings:
    """The workers of the arms, or of everything else."""
    return (config.redi.trainer if paired else None) or config.resources.trainer


def trainings(config: ExperimentConfig) -> list[Training]:
    """All trainings of a config in their order."""
    workers = trainer_of(config, False)
    found = [Training("sft", config.sft.objective, config.sft.train, workers, config.model.overrides)]
    if isinstance(config.model.init, ArithmeticModel):
        found.insert(0, Training("base", SftObjective(), config.model.init.train, workers, ModelOverrides()))
    for name, arm in config.redi.arms.items():
        workers = trainer_of(config, True)
        found.append(Training(name, arm.objective, config.redi.settings(name), workers, config.model.overrides))
    return found


def stage_memory(inputs: Inputs, work: Workload, stage: Training) -> StageMemory:
    """What a rank of a training holds, and whether that fits; of a range with the fewest ranks, when each holds most."""
    assume = work.assume
    assume.used.clear()
    settings, setup, ranks = stage.settings, stage.setup(inputs.student), stage.trainer.pool[0]
    sides = sides_of(work, stage.objective.name, stage.name not in ("base", "sft"), settings)
    longest = min(settings.max_length, math.ceil(max(float(side.lengths.max()) for side in sides)))
    pack = max(settings.tokens_per_pack, longest)
    room = budget = needed = shorter = None
    if stage.trainer.use_gpu:
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
        assumptions=sorted(assume.used),
    )


def storage(inputs: Inputs, work: Workload, stages: list[StageCost]) -> dict[str, float]:
    """Bytes by table: zstd Parquet, token arrays as they are, float32 checkpoints with both moments, exports.

    Of a training its newest checkpoints stay, and the exported model; in float32 too, where the next one starts from it and
    the export is narrower.
    """
    text = work.assume["bytes_per_token"] * work.assume["compression"]
    traces = work.traces() * (work.trace_tokens + work.prompt) * text
    curated = work.positives * work.chosen.tokens + work.pairs * (work.chosen.tokens + work.rejected.tokens)
    found = {"traces": traces, "verified": traces, "curated": curated * text, "sequences": curated * TOKEN_BYTES}
    for stage in stages:
        if stage.name.startswith("references"):
            own = (
                2 * TOKEN_BYTES if stage.name.endswith("mismatched") else TOKEN_BYTES
            )  # those are sequences of their own
            found[stage.name] = stage.tokens * (REFERENCE_BYTES + own)
        elif stage.name.startswith("evaluate"):
            found["eval"] = stage.tokens * text
    for training in trainings(inputs.config):
        setup, settings = training.setup(inputs.student), training.settings
        kept = settings.keep_last if settings.checkpoint_every else 1
        exported = {"auto": setup.value_bytes, "float32": 4, "bfloat16": 2}[settings.export_dtype]
        if exported < 4 and training.name in ("base", "sft"):
            exported += 4
        found[f"checkpoints/{training.name}"] = kept * 12.0 * setup.trained + float(exported) * setup.shape.parameters
    return found
