"""The core without Ray: what a user of torchrun writes, and what the tests compare other ways of running with.

python -m torch.distributed.run --standalone --nproc-per-node 2 plain_run.py MODEL SEQUENCES OUT SETTINGS_JSON
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from ranks import leave_group

from redi_ray.config.objectives import RediObjective
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.policy import load_policy
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.train.checkpoint import Checkpointer
from redi_ray.train.distributed import Distributed
from redi_ray.train.loop import Hooks, train
from redi_ray.train.monitors import Monitors
from redi_ray.train.process import stop_on
from redi_ray.train.progress import TrainResult
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.shard import shard_policy
from redi_ray.train.stores import LocalStore


def plain_run(model: str, sequences: str, out: str, settings: TrainSettings) -> TrainResult:
    who = Distributed.current()
    policy = load_policy(model, ModelOverrides())
    shard_policy(policy, world_size=who.world_size)
    with stop_on(signal.SIGTERM) as stop_requested:
        result = train(
            policy,
            SequenceStore.load(sequences),
            RediObjective(),
            settings,
            distributed=who,
            checkpoints=Checkpointer(LocalStore(Path(out) / "checkpoints"), {}, distributed=who),
            monitors=Monitors(Path(out)) if who.rank == 0 else None,
            hooks=Hooks(stop_requested=stop_requested),
        )
    export_policy(policy, Path(out) / "export", tokenizer=load_tokenizer(model), rank=who.rank)
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    print(plain_run(*sys.argv[1:4], TrainSettings(**json.loads(sys.argv[4]))).status)
    leave_group()
