"""Whether the connected Ray has, or could come to have, what a run asks for: what finds no room there waits for ever."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redi_ray.cluster.runtime import log
from redi_ray.config.resources import EngineSettings, ResourceSettings, TrainerSettings
from redi_ray.errors import UserError

SMALL_TASKS_CPUS = 1.0
"""Logical CPUs for the tasks around a pool of engines: requests, tokens, shards."""
ANSWER_SECONDS = 2.0
"""For a connection to a node."""
NODE_GROUP_LABEL = "ray.io/node-group"


class CapacityError(UserError):
    """The machine has less than the config asks for."""


@dataclass(frozen=True)
class Demand:
    """What one part of a run asks for at a time."""

    field: str
    """Where the config says so."""
    amounts: Mapping[str, float]
    """Of CPU and GPU."""
    selector: Mapping[str, str]
    """Labels that its nodes must have."""
    pieces: Sequence[Mapping[str, float]] = ()
    """What it consists of: each must fit on one node."""
    engine: EngineSettings | None = None
    """Whose replicas the pieces are, if they are an engine's."""

    def shortfalls(self, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
        """What the nodes lack, a line for each resource; or, where there is enough of all, for what finds no node."""
        room = [node["Resources"] for node in nodes if selected(node, self.selector)]
        have = {name: sum(resources.get(name, 0.0) for resources in room) for name in self.amounts}
        where = f" on nodes with {dict(self.selector)}" if self.selector else ""
        short = [
            f"{self.field} asks for {amount:g} {name}{where}, Ray has {have[name]:g}"
            for name, amount in self.amounts.items()
            if amount > have[name]
        ]
        homeless = [] if short else without_a_node(room, self.pieces)
        for piece, count in Counter(described(piece) for piece in homeless).items():
            short.append(
                f"{self.field} asks for {len(self.pieces)} parts{where}, each on one node, and {count} of {piece} find none: "
                f"Ray's nodes have {', '.join(described(resources) for resources in room)}"
            )
        return short


def require_room(field: str, pieces: Sequence[Mapping[str, float]], selector: Mapping[str, str]) -> None:
    """Raise CapacityError where the parts, of CPU, GPU and bytes of memory, would wait for ever; see `check_capacity`.

    A cluster that may grow is only said to have too little now.
    """
    nodes = [node for node in alive_nodes() if selected(node, selector)]
    homeless = without_a_node([node["Resources"] for node in nodes], pieces)
    if not homeless:
        return
    have = "; ".join(sorted({described(node["Resources"]) for node in nodes})) or "no such node"
    told = f"{field}: {len(homeless)} of {len(pieces)} times {described(homeless[0])} find no node with room: Ray has {have}"
    if not is_ours() and not stands_still(alive_nodes()):
        log.warning("%s. It waits until the cluster has grown", told)
        return
    raise CapacityError(f"{told}. Mend: fewer workers or a smaller model, or nodes with more memory")


def refuse_what_never_fits(demands: Sequence[Demand], nodes: Sequence[Mapping[str, Any]]) -> None:
    """Raise CapacityError where a part is larger than every node of a joined cluster, and than every one it could start."""
    kinds = may_grow_by()
    if not kinds and not stands_still(nodes):  # it may have an autoscaler that tells nothing
        return
    every = [*(node["Resources"] for node in nodes), *kinds]
    for demand in demands:
        for piece in demand.pieces:
            if all(without_a_node([resources], [piece]) for resources in every):
                raise CapacityError(
                    f"{demand.field} asks for {described(piece)} on one node, and this cluster will never have one: its nodes "
                    f"{'are' if not kinds else 'are, or may be,'} {'; '.join(sorted({described(r) for r in every}))}. Mend: "
                    "smaller workers, or larger nodes"
                )


def is_ours() -> bool:
    """Whether this process has started the connected Ray, which then does not grow, and runs all of it by the same packages."""
    import ray._private.worker as this_process

    return bool(getattr(this_process._global_node, "head", False))


def stands_still(nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the cluster's autoscaler only looks on, as where nodes were started by hand: it then has each node for a kind
    of its own. There is no public way to ask."""
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.experimental.internal_kv import _internal_kv_get

    told = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or b"{}")
    kinds = (told.get("autoscaler_report") or {}).get("active_nodes") or {}
    return bool(kinds) and set(kinds) <= {f"node_{node.get('NodeID')}" for node in nodes}


def without_a_node(
    room: Sequence[Mapping[str, float]], pieces: Sequence[Mapping[str, float]]
) -> list[Mapping[str, float]]:
    """The pieces that are left when each, the largest first, has gone to the first node with room for it."""
    return homeless([{"Resources": resources} for resources in room], [Demand("", {}, {}, pieces)])


def packs(nodes: Sequence[Mapping[str, Any]], demands: Iterable[Demand]) -> bool:
    """Whether each piece finds a node with room for it."""
    return not homeless(nodes, demands)


def homeless(nodes: Sequence[Mapping[str, Any]], demands: Iterable[Demand]) -> list[Mapping[str, float]]:
    """The pieces that are left when each, the largest first, has gone to the first node (its `Resources` and `Labels`) that has
    room for it and the labels."""
    free, left = [(node, dict(node["Resources"])) for node in nodes], []
    pieces = [(piece, demand.selector) for demand in demands for piece in demand.pieces]
    for piece, selector in sorted(pieces, key=lambda item: (-item[0].get("GPU", 0.0), -item[0].get("CPU", 0.0))):
        home = next((have for node, have in free if selected(node, selector) and holds(have, piece)), None)
        if home is None:
            left.append(piece)
            continue
        home.update({name: home.get(name, 0.0) - amount for name, amount in piece.items()})
    return left


def holds(have: Mapping[str, float], piece: Mapping[str, float]) -> bool:
    """Whether there is so much of everything."""
    return all(have.get(name, 0.0) >= amount - 1e-9 for name, amount in piece.items())


def described(resources: Mapping[str, float]) -> str:
    """Such as `8 CPU + 1 GPU + 2.5 GiB`."""
    shown = [f"{resources[name]:g} {name}" for name in ("CPU", "GPU") if resources.get(name)]
    shown += [f"{resources['memory'] / 2**30:.3g} GiB"] if resources.get("memory") else []
    return " + ".join(shown) or "nothing"


def check_capacity(
    resources: ResourceSettings,
    engines: Mapping[str, EngineSettings],
    verify_processes: int = 1,
    trainers: Mapping[str, TrainerSettings] | None = None,
) -> None:
    """Raise CapacityError if a Ray that cannot grow lacks what a stage will ask for: it would wait for ever.

    engines, trainers: the config's field -> each pool of engines and each set of workers in use (trainers: null takes the
    run's own). Beside the engines, verifiers and small tasks run at the same time. Call it while connected. A cluster that
    we joined may grow: there it is only said what is short now, unless labels are asked for that no node has and no
    autoscaler could start a node with, or the autoscaler has told its kinds of nodes and a part fits on none of them.
    """
    nodes = alive_nodes()
    trainers = trainers if trainers is not None else {"resources.trainer": resources.trainer}
    demands = list(_demands(resources, engines, verify_processes, trainers))
    joined = bool(resources.ray.address or os.environ.get("RAY_ADDRESS"))
    unmet = {d.field: dict(d.selector) for d in demands if not any(selected(node, d.selector) for node in nodes)}
    if unmet and not (joined and autoscales(nodes)):
        told = "; ".join(f"{field} asks for nodes with {selector}" for field, selector in unmet.items())
        raise CapacityError(
            f"{told}: there are none. Nodes have {describe_labels(nodes)}. Mend: the label_selector, or start nodes with "
            "`ray start --labels`, or a cluster whose autoscaler (v2) knows such nodes"
        )
    short = [line for demand in demands for line in demand.shortfalls(nodes)]
    if short and joined:
        refuse_what_never_fits(demands, nodes)
        log.warning("%s. The stage waits until the cluster has grown", "; ".join(short))
    elif short:
        hint = "use device: cpu, fewer workers, resources.ray.num_cpus, or a cluster (resources.ray.address)"
        raise CapacityError("; ".join(short) + f". Mend: {hint}")


def demand(field: str, pieces: Sequence[Mapping[str, float]], selector: Mapping[str, str]) -> Demand:
    """For all of the pieces at a time."""
    total = {name: sum(piece.get(name, 0.0) for piece in pieces) for name in ("GPU", "CPU")}
    return Demand(field, total, selector, pieces)


def _demands(
    resources: ResourceSettings,
    engines: Mapping[str, EngineSettings],
    verify_processes: int,
    trainers: Mapping[str, TrainerSettings],
) -> Iterator[Demand]:
    for field, trainer in trainers.items():
        worker = {"GPU": float(trainer.on_gpu), "CPU": trainer.cpus_per_worker}
        yield demand(field, [worker] * trainer.pool[0], trainer.label_selector)
    cpu, verifier = resources.cpu_label_selector, {"CPU": float(verify_processes)}
    yield demand("resources.verify_workers", [verifier] * resources.verify_workers, cpu)
    yield demand("resources.curate_workers", [{"CPU": 1.0}] * resources.curate_workers, cpu)
    for field, engine in engines.items():
        replicas = engine.pieces * engine.pool[0]
        if engine.label_selector:
            yield demand(field, replicas, engine.label_selector)
        yield demand(f"{field} (with the tasks beside it)", [*replicas, verifier, {"CPU": SMALL_TASKS_CPUS}], {})


def may_grow_by() -> list[Mapping[str, float]]:
    """Resources of each kind of node that the autoscaler may start; what it has told the cluster, and nothing else has."""
    from ray._private.state import state

    config = state.get_cluster_config()
    return (
        [dict(group.resources) for group in config.node_group_configs if group.max_count] if config is not None else []
    )


def alive_nodes() -> list[dict[str, Any]]:
    """The nodes of the connected Ray, each with its `Resources` and `Labels`."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def nodes_to_come(nodes: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The nodes that the autoscaler may still start, by what it has told the cluster."""
    from ray._private.state import state

    config = state.get_cluster_config()
    there = Counter(node["Labels"].get(NODE_GROUP_LABEL) for node in nodes)
    for group in config.node_group_configs if config is not None else ():
        labels = {NODE_GROUP_LABEL: group.name}
        yield from [{"Resources": dict(group.resources), "Labels": labels}] * max(
            0, group.max_count - there[group.name]
        )


def free_resources(selector: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """What is free on each node that has such labels, answers, and is not about to go, by node id. Ray's count lags by a
    moment, and its word of a node that has gone by many seconds."""
    from ray._private.state import available_resources_per_node, state  # drains have no public interface

    free, leaving = available_resources_per_node(), state.get_draining_nodes()
    ids = [node["NodeID"] for node in alive_nodes() if selected(node, selector) and answers(node)]
    return {node: free[node] for node in ids if node in free and node not in leaving}


def answers(node: Mapping[str, Any]) -> bool:
    """Whether Ray's process on the node takes a connection."""
    try:
        with socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=ANSWER_SECONDS):
            return True
    except OSError:
        return False


def selected(node: Mapping[str, Any], selector: Mapping[str, str]) -> bool:
    """Whether Ray would let a node do work that asks for these labels."""
    from ray._raylet import node_labels_match_selector  # type: ignore[attr-defined]  # what Ray's scheduler compares with

    return not selector or node_labels_match_selector(node["Labels"], dict(selector))


def autoscales(nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an autoscaler (v2) has started the nodes: each then has the name of its node type as a label."""
    return any(node["Labels"].get(NODE_GROUP_LABEL) for node in nodes)


def describe_labels(nodes: Sequence[Mapping[str, Any]]) -> str:
    """The labels that were given to nodes, and how many nodes have them."""
    own = [{key: value for key, value in node["Labels"].items() if not key.startswith("ray.io/")} for node in nodes]
    counted = Counter(", ".join(f"{key}: {value}" for key, value in sorted(labels.items())) for labels in own)
    return "; ".join(f"{{{labels}}} ({count})" if labels else f"none ({count})" for labels, count in counted.items())
