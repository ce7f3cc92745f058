"""Which engines and training workers get a GPU where the config says `device: auto`: asked of the cluster, not of this machine.

A pool gets GPUs where some node that it may run on has one, wherever the driver is, or where the autoscaler has said that it may
start such a node. On a Ray that this process has started, whose packages are ours, those must be able to compute on one, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from redi_ray.cluster import capacity
from redi_ray.cluster.runtime import log
from redi_ray.config.devices import Device, left_open, on_devices
from redi_ray.config.resources import EngineSettings, TrainerSettings

if TYPE_CHECKING:
    from redi_ray.config.experiment import ExperimentConfig


def with_devices(config: ExperimentConfig) -> ExperimentConfig:
    """The config with `device: auto` decided by the connected Ray; the same one where none is.

    Raises CapacityError where engines could only run on GPUs, and there are none.
    """
    import ray

    if not ray.is_initialized():
        return config
    why = {field: without_gpu(one) for field, one in left_open(config).items()}
    for told in dict.fromkeys(filter(None, why.values())):
        log.info("on the CPU (device: auto): %s; %s", ", ".join(f for f, reason in why.items() if reason == told), told)
    try:
        return on_devices(config, choose)
    except ValueError as error:
        told = next(filter(None, why.values()), "there is no GPU")
        raise capacity.CapacityError(f"{told}, so engines run on the CPU (device: auto), but {error}") from None


def choose(pool: EngineSettings | TrainerSettings) -> Device:
    """What a pool that says `auto` runs on."""
    return "cpu" if without_gpu(pool) else "gpu"


def without_gpu(pool: EngineSettings | TrainerSettings) -> str:
    """Why a pool that says `auto` has no GPU; empty where it has one."""
    if not has_gpu(pool.label_selector):
        where = f" on nodes with {dict(pool.label_selector)}" if pool.label_selector else ""
        hint = "" if capacity.is_ours() else ", nor has its autoscaler told of any (if it can start some: device: gpu)"
        return f"this Ray has no GPU{where}{hint}"
    if capacity.is_ours() and (build := cpu_build("vllm" if isinstance(pool, EngineSettings) else "torch")):
        return f"there is a GPU, but {build} is the build for CPUs"
    return ""


def has_gpu(selector: Mapping[str, str]) -> bool:
    """Whether a node with such labels has a GPU, or may come to be started with one. What labels nodes to come will have is not
    known; where nodes with the labels are there, others like them are taken to be the same."""
    nodes = [node["Resources"] for node in capacity.alive_nodes() if capacity.selected(node, selector)]
    known = nodes if selector and nodes else [*nodes, *capacity.may_grow_by()]
    return any(resources.get("GPU", 0) > 0 for resources in known)


def cpu_build(package: str) -> str:
    """Name and version of a package that is installed here and cannot compute on GPUs; empty where it can, or is not there."""
    for name in (f"{package}-cpu", package):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        return f"{name} {found}" if name.endswith("-cpu") or "+cpu" in found else ""
    return ""
