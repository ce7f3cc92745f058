"""Engines that are kept: how many fit, what a lease that fails leaves, and who ends them when their room is needed."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
from processes import wait_until

from redi_ray.cluster.capacity import alive_nodes, demand, free_resources
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample import engine_pool


def test_a_pool_that_may_grow_leaves_room_for_what_hands_it_its_work(ray_session: None):
    """Or the engines would hold every CPU, and the requests' tasks would wait for ever."""
    engine_pool.end_idle()
    total = int(sum(node["Resources"].get("CPU", 0) for node in alive_nodes()))
    wait_until(lambda: free_cpus() == total)
    settings = EngineSettings(device="cpu", concurrency=(1, 2 * total))
    with engine_pool.lease(settings) as (_, engines):
        assert len(engines) == total - 2
    with engine_pool.lease(settings, rows=300) as (_, engines):
        assert len(engines) == 2, "which have 256 places each"


def test_a_lease_that_fails_half_way_holds_nothing(ray_session: None, monkeypatch: pytest.MonkeyPatch):
    engine_pool.end_idle()
    total = sum(node["Resources"].get("CPU", 0) for node in alive_nodes())
    wait_until(lambda: free_cpus() == total)
    start, begun = engine_pool._start, []

    def start_once(*told: object) -> engine_pool.Process:
        if begun:
            raise RuntimeError("the second does not begin")
        begun.append(start(*told))
        return begun[0]

    monkeypatch.setattr(engine_pool, "_start", start_once)
    with pytest.raises(RuntimeError, match="second"), engine_pool.lease(EngineSettings(device="cpu", concurrency=2)):
        pass
    assert len(begun) == 1
    wait_until(lambda: free_cpus() == total)


def test_an_idle_engine_takes_all_pieces_of_a_replica():
    """One that vLLM spreads over nodes has a piece for each GPU, and would else be ended to make room for itself."""
    settings = EngineSettings(
        device="gpu", tensor_parallel_size=4, engine_kwargs={"distributed_executor_backend": "ray"}
    )
    wanted = replace(demand("engines", settings.pieces * 2, {}), engine=settings)
    kind = engine_pool._kind(settings)
    left = [len(one.pieces) for idle in (0, 1, 2, 3) for one in engine_pool.not_served([wanted], {kind: idle})]
    assert left == [8, 4, 0, 0]
    small = demand("small", [{"CPU": 1.0}], {})
    assert [len(one.pieces) for one in engine_pool.not_served([wanted, small, wanted], {kind: 3})] == [0, 1, 4]


def free_cpus() -> float:
    gc.collect()  # other tests' datasets, which cycles of references hold, hold their workers
    return sum(node.get("CPU", 0.0) for node in free_resources({}).values())


def test_idle_engines_go_where_something_else_needs_their_room(ray_session: None):
    """One of 2 CPUs stays beside what fits; a demand for all that there is ends it. Nothing is loaded: what counts is Ray's."""
    engine_pool.end_idle()
    settings = EngineSettings(device="cpu", cpu_threads=2, max_restarts=0)
    total = sum(node["Resources"].get("CPU", 0) for node in alive_nodes())
    wait_until(lambda: free_cpus() == total)
    engine_pool.start_one(settings)
    assert len(engine_pool._idle) == 1
    wait_until(lambda: free_cpus() == total - 2)
    engine_pool.make_room([demand("small", [{"CPU": 1.0}], {})])
    assert len(engine_pool._idle) == 1
    own = replace(demand("an engine", [settings.demand], {}), engine=settings)
    engine_pool.make_room([own, demand("the rest", [{"CPU": total - 2}], {})])
    assert len(engine_pool._idle) == 1, "it is the engine that is asked for"
    engine_pool.make_room([own, own, demand("too much", [{"CPU": total - 2}], {})])
    assert engine_pool._idle == []
