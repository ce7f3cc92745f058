"""Who this rank is, and how ranks agree on small things. All of it is a no-op in a single process without a group."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed as dist

from redi_ray.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Distributed:
    """This process among its peers. `local_*` count the ranks that share this node's disks."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    local_rank: int = 0
    local_world_size: int = 1

    @staticmethod
    def current() -> Distributed:
        """Read from torch's process group, if there is one (as under torchrun). Its GPU becomes the process's current one:
        NCCL sends objects through that, and two ranks on one GPU are an error there."""
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if not has_group():
            return Distributed(device=device)
        local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return Distributed(dist.get_rank(), dist.get_world_size(), device, local_rank, local_world_size)


def has_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def any_rank(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """Each flag or-ed over the ranks."""
    if not has_group():
        return list(flags)
    tensor = torch.tensor([int(flag) for flag in flags], dtype=torch.int32, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return [bool(value) for value in tensor.tolist()]


def from_rank_zero(value: T) -> T:
    """Rank 0's value, on all ranks."""
    if not has_group():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def from_all_ranks(value: T) -> list[T]:
    """Every rank's value, in rank order, on all ranks."""
    if not has_group():
        return [value]
    values: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]  # every place has been filled


MENDABLE = (UserError, ValueError, OSError)
"""What another attempt would meet again, unless someone mends it or storage comes back."""


def together(action: Callable[[], T]) -> T:
    """`action()`, which calls no other rank, on every rank.

    An error of `MENDABLE` on any of them is raised on all, so that none waits for one that has given up; it says on which.
    """
    value, error = None, None
    try:
        value = action()
    except MENDABLE as caught:
        error = caught if isinstance(caught, UserError) else plain(caught)
    found = from_all_ranks(error)
    first = next((rank for rank, other in enumerate(found) if other is not None), None)
    if first is not None:
        raised = found[first]
        assert raised is not None
        if any(other is None for other in found):
            raised.add_note(f"on rank {first} of {len(found)}")
        raised.agreed = True  # type: ignore[attr-defined]
        raise raised
    return value  # type: ignore[return-value]  # there was no error


def plain(error: Exception) -> Exception:
    """The same error without what a library's own class may not let travel."""
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror, error.filename) if error.errno else OSError(str(error))
    return ValueError(str(error))


def agreed(error: BaseException) -> bool:
    """Whether all ranks end by this error (see `together`)."""
    return getattr(error, "agreed", False)


def barrier() -> None:
    """Wait for all ranks (an object gather, which works the same on gloo and NCCL without naming a device)."""
    from_all_ranks(None)
