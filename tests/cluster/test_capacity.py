"""What Ray cannot give is said before a stage waits for it."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import replace

import pytest

from redi_ray.cli.entry import check_room
from redi_ray.cluster.capacity import CapacityError, Demand, alive_nodes, check_capacity, require_room
from redi_ray.cluster.devices import with_devices
from redi_ray.config.load import ConfigError, load_config, parse_config
from redi_ray.config.resources import EngineSettings, RaySettings, ResourceSettings, TrainerSettings


def test_engines_must_leave_room_for_what_runs_beside_them(ray_session: None, caplog: pytest.LogCaptureFixture):
    """8 CPUs: six engines, one verifier and the small tasks fit, seven engines would starve the rest for ever."""
    resources = ResourceSettings()

    def engine(**settings: object) -> dict[str, EngineSettings]:
        return {"generate.engine": EngineSettings(**{"device": "cpu", **settings})}  # type: ignore[arg-type]

    check_capacity(resources, engine(concurrency=6))
    check_capacity(resources, engine(concurrency=(6, 40)))
    check_capacity(resources, engine(cpu_threads=3, concurrency=2))
    with pytest.raises(CapacityError, match=r"generate.engine .* asks for 9 CPU, Ray has 8"):
        check_capacity(resources, engine(concurrency=7))
    with pytest.raises(CapacityError, match="asks for 10 CPU"):
        check_capacity(resources, engine(cpu_threads=4, concurrency=2))
    with pytest.raises(CapacityError, match=r"asks for 4 GPU, Ray has 0\. Mend: "):
        check_capacity(resources, engine(device="gpu", concurrency=2, tensor_parallel_size=2))
    with caplog.at_level(logging.WARNING, logger="redi_ray"):
        check_capacity(ResourceSettings(ray=RaySettings(address="auto")), engine(concurrency=7))
    assert "waits until the cluster has grown" in caplog.text, "a cluster may grow, so that it is only said"


def test_labels_that_no_node_has_are_refused(
    ray_session: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """The session's Ray has one node without labels: work for other nodes would wait for ever, on a cluster that we joined
    too, unless an autoscaler has started its nodes and can start more."""
    cpu = EngineSettings(device="cpu")
    spot = EngineSettings(device="cpu", label_selector={"pool": "engine"})
    check_capacity(ResourceSettings(cpu_label_selector={"pool": "!gpu"}), {"resources.engine": cpu})
    told = r"resources.engine asks for nodes with \{'pool': 'engine'\}: there are none. Nodes have none \(1\). Mend: "
    with pytest.raises(CapacityError, match=told):
        check_capacity(ResourceSettings(), {"resources.engine": spot})
    joined = RaySettings(address="auto")
    with pytest.raises(CapacityError, match=told):
        check_capacity(ResourceSettings(ray=joined), {"resources.engine": spot})
    with pytest.raises(
        CapacityError, match=r"resources.verify_workers asks for nodes .*; resources.curate_workers asks"
    ):
        check_capacity(ResourceSettings(cpu_label_selector={"pool": "cpu"}), {})
    train = TrainerSettings(label_selector={"pool": "train"})
    with pytest.raises(CapacityError, match=r"redi.trainer asks for nodes"):
        check_capacity(ResourceSettings(), {}, trainers={"redi.trainer": train})
    nodes = alive_nodes()
    grown = [{**node, "Labels": {**node["Labels"], "ray.io/node-group": "head"}} for node in nodes]
    monkeypatch.setattr("redi_ray.cluster.capacity.alive_nodes", lambda: grown)
    with caplog.at_level(logging.WARNING, logger="redi_ray"):
        check_capacity(ResourceSettings(ray=joined), {"resources.engine": spot})
    assert "resources.engine asks for 1 CPU on nodes with {'pool': 'engine'}, Ray has 0" in caplog.text
    with pytest.raises(CapacityError):
        check_capacity(ResourceSettings(), {"resources.engine": spot})  # a local Ray does not grow


def test_labels_split_what_a_cluster_has():
    """Two nodes of 4 CPUs with different labels hold no demand for 5 CPUs on one of them."""
    nodes = [{"Labels": {"pool": pool}, "Resources": {"CPU": 4.0}} for pool in ("cpu", "train")]
    assert Demand("x", {"CPU": 5, "GPU": 0}, {}).shortfalls(nodes) == []
    assert Demand("x", {"CPU": 4}, {"pool": "cpu"}).shortfalls(nodes) == []
    assert Demand("x", {"CPU": 5}, {"pool": "in(cpu,train)"}).shortfalls(nodes) == []
    assert Demand("x", {"CPU": 5}, {"pool": "cpu"}).shortfalls(nodes) == [
        "x asks for 5 CPU on nodes with {'pool': 'cpu'}, Ray has 4"
    ]


def test_a_pool_that_nothing_uses_is_not_asked_for():
    """Imported traces, no benchmarks: no engine, whatever its device; the default for problems from elsewhere."""
    files = {"kind": "files", "paths": ["x.jsonl"], "columns": {"completion": "y"}}
    sections = {
        "name": "x",
        "problems": {"source": files},
        "generate": {"kind": "import"},
        "model": {"init": {"kind": "scratch"}},
    }
    config = parse_config(sections)
    assert config.evaluate.benchmarks == []
    assert config.engines == {}
    judged = parse_config({**sections, "verify": {"judge": {"model": "x"}, "votes": ["judge"]}})
    assert list(judged.engines) == ["resources.engine"]
    measured = parse_config({**sections, "evaluate": {"benchmarks": [{"name": "math500"}], "num_samples": 2}})
    assert list(measured.engines) == ["resources.engine"]
    assert [b.name for b in parse_config({"name": "x"}).evaluate.benchmarks] == ["arithmetic"]
    with pytest.raises(ConfigError, match="names `arithmetic`, the built-in world"):
        parse_config({**sections, "evaluate": {"benchmarks": [{"name": "arithmetic"}]}})
    for wrong in (
        "gsm8k",
        ["gsm8k"],
        {"source": "gsm8k"},
        {"source": ["gsm8k"]},
    ):  # may be anything until it is checked
        with pytest.raises(ConfigError, match=r"- problems.*gsm8k"):
            parse_config({"name": "x", "problems": wrong})


def test_of_a_range_of_ranks_the_fewest_must_be_there(ray_session: None):
    """The local Ray of these tests has 8 CPUs and does not grow."""
    for workers, fits in (((2, 9), True), ((8, 9), True), ((9, 12), False)):
        trainers = {"redi.trainer": TrainerSettings(num_workers=workers)}
        with nullcontext() if fits else pytest.raises(CapacityError, match=r"redi.trainer asks for 9 CPU, Ray has 8"):
            check_capacity(ResourceSettings(), {}, trainers=trainers)


@pytest.mark.parametrize(
    ("nodes", "workers", "each", "fits"),
    [
        ([4, 4], 1, 8, False),  # 8 CPUs in all, but on no node
        ([4, 4], 2, 4, True),
        ([4, 4], 3, 3, False),  # 8 CPUs hold 6 of the 9
        ([6, 6], 4, 3, True),
        ([5, 5], 3, 3, False),  # 10 CPUs, 9 wanted, and the third finds 2 + 2
        ([8], 2, 4, True),
    ],
)
def test_workers_need_a_node_each(
    ray_session: None, monkeypatch: pytest.MonkeyPatch, nodes: list[int], workers: int, each: float, fits: bool
):
    """Ray places a worker on one node: what is enough in all of them together may wait for ever."""
    found = [{"Resources": {"CPU": float(cpus)}, "Labels": {}, "Alive": True} for cpus in nodes]
    monkeypatch.setattr("redi_ray.cluster.capacity.alive_nodes", lambda: found)
    trainers = {"resources.trainer": TrainerSettings(num_workers=workers, cpus_per_worker=each)}
    if fits:
        return check_capacity(ResourceSettings(), {}, trainers=trainers)
    with pytest.raises(CapacityError, match=r"resources.trainer asks for"):
        check_capacity(ResourceSettings(), {}, trainers=trainers)


def test_the_gpus_of_a_replica_are_on_one_node(ray_session: None, monkeypatch: pytest.MonkeyPatch):
    """Two nodes of two GPUs hold two replicas of two, but none of four, unless vLLM spreads it itself."""
    found = [{"Resources": {"CPU": 8.0, "GPU": 2.0}, "Labels": {}}] * 2
    monkeypatch.setattr("redi_ray.cluster.capacity.alive_nodes", lambda: found)
    two = EngineSettings(device="gpu", tensor_parallel_size=2, concurrency=2)
    check_capacity(ResourceSettings(), {"resources.engine": two})
    four = EngineSettings(device="gpu", tensor_parallel_size=4)
    told = r"1 of 4 CPU \+ 4 GPU find none: Ray's nodes have 8 CPU \+ 2 GPU, 8 CPU \+ 2 GPU"
    with pytest.raises(CapacityError, match=told):
        check_capacity(ResourceSettings(), {"resources.engine": four})
    check_capacity(
        ResourceSettings(), {"resources.engine": replace(four, engine_kwargs={"distributed_executor_backend": "ray"})}
    )


def test_what_no_kind_of_node_could_hold_is_refused_on_a_cluster_that_grows(
    ray_session: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """It would wait for ever; where one of the kinds holds it, it is only said that the cluster must grow first."""
    resources = ResourceSettings(ray=RaySettings(address="auto"))
    trainers = {"redi.trainer": TrainerSettings(num_workers=2, cpus_per_worker=16)}
    monkeypatch.setattr("redi_ray.cluster.capacity.may_grow_by", lambda: [{"CPU": 12.0}])
    with pytest.raises(CapacityError, match=r"redi.trainer asks for 16 CPU on one node.*are, or may be, 12 CPU; 8 CPU"):
        check_capacity(resources, {}, trainers=trainers)
    monkeypatch.setattr("redi_ray.cluster.capacity.may_grow_by", lambda: [{"CPU": 12.0}, {"CPU": 32.0}])
    with caplog.at_level(logging.WARNING, logger="redi_ray"):
        check_capacity(resources, {}, trainers=trainers)
    assert "waits until the cluster has grown" in caplog.text


def test_what_asks_for_more_memory_than_a_node_has_is_refused(ray_session: None):
    """Ray would keep it waiting for ever: the local Ray of these tests does not grow."""
    require_room("x", [{"CPU": 1.0, "memory": 1 << 20}] * 8, {})
    with pytest.raises(CapacityError, match=r"x: 1 of 2 times 1 CPU \+ 1.02e\+03 GiB find no node"):
        require_room("x", [{"CPU": 1.0, "memory": 1 << 40}, {"CPU": 1.0}], {})
    with pytest.raises(CapacityError, match="no such node"):
        require_room("x", [{"CPU": 1.0}], {"pool": "none"})


def test_a_student_that_no_machine_here_can_train_is_refused_before_anything_is_sampled(ray_session: None):
    """72 billion weights, gradients and moments on one rank; adapters, or what is small, do not take that."""
    large = ["model.init={kind: pretrained, path: Qwen/Qwen2.5-72B}"]
    config = with_devices(load_config("configs/demo.yaml", large))
    with pytest.raises(CapacityError, match=r"resources.trainer: 1 of 1 times 1.08e\+03 GiB find no node with room"):
        check_room(config)
    check_room(with_devices(load_config("configs/demo.yaml", [])))
