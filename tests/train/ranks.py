"""Running a function on several gloo ranks, each a process of its own."""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_on_ranks(function: Callable[..., None], world_size: int, *args: Any) -> None:
    """Call `function(rank, world_size, *args)` on every rank of one gloo group; raises what any of them raises."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (world_size, f"file://{folder}/rendezvous", function, args), nprocs=world_size)


def _rank(rank: int, world_size: int, rendezvous: str, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    faulthandler.enable()  # a rank that dies of a signal says where
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world_size)
    function(rank, world_size, *args)
    leave_group()


def leave_group() -> None:
    """End this rank's process without tearing Python down.

    FSDP's modules keep the process group alive, and so its C++ threads; one that lets go of a tensor while the
    interpreter is being finalized aborts the process ("terminate called without an active exception").
    """
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
