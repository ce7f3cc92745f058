"""The files in `cluster/` are what Ray, EC2, KubeRay and Docker take, and no typo in them goes by."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_checks import AWS, CLUSTER, JOB, ROOT, aws_errors, command_errors, crd_errors, kuberay_errors, read
from dockerfile_checks import Surroundings, dockerfile_errors

FREE = ("labels", "file_mounts", "nodeSelector", "available_node_types")
"""Maps whose keys are names of our own; that they agree is tested apart."""


def check_dockerfile(text: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ignore = (ROOT / "cluster" / "Dockerfile.dockerignore").read_text()
    python = re.search(r"Python (3\.\d+)", (ROOT / "requirements" / "gpu.lock").read_text())
    assert python is not None
    assert project["project"]["requires-python"] == f">={python[1]}"
    scripts = list(project["project"]["scripts"])
    return dockerfile_errors(text, Surroundings(listed, ignore, ("cpu", "gpu"), python[1], scripts))


def test_every_file_passes():
    """Without a network: Ray's and EC2's descriptions come with their packages."""
    assert aws_errors(read(AWS)) == []
    assert kuberay_errors(read(CLUSTER)) == []
    assert kuberay_errors(read(JOB)) == []


def test_the_dockerfile_passes():
    assert check_dockerfile((ROOT / "cluster" / "Dockerfile").read_text()) == []


# --------------------------------------------------------------------------------------------------------------- typos


def places(value: Any, path: tuple[Any, ...] = (), seen: set[int] | None = None) -> Iterator[tuple[Any, ...]]:
    """The path of every key; what an alias repeats is visited once."""
    seen = set() if seen is None else seen
    if isinstance(value, dict | list):
        if id(value) in seen:
            return
        seen.add(id(value))
    if isinstance(value, dict):
        for key, inner in value.items():
            if not path or path[-1] not in FREE:
                yield (*path, key)
            yield from places(inner, (*path, key), seen)
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, (*path, number), seen)


def with_typo(document: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """The document with a letter too many in the key at `path`; order kept."""
    changed = copy.deepcopy(document)
    holder: Any = changed
    for step in path[:-1]:
        holder = holder[step]
    items = [(f"{key}x" if key == path[-1] else key, value) for key, value in holder.items()]
    holder.clear()
    holder.update(items)
    return changed


CHECKS: dict[Path, Callable[[dict[str, Any]], list[str]]] = {
    AWS: aws_errors,
    CLUSTER: kuberay_errors,
    JOB: kuberay_errors,
}


@pytest.fixture(autouse=True)
def quiet_ray(caplog: pytest.LogCaptureFixture) -> None:
    """Ray says of every file what it sets by default."""
    caplog.set_level("ERROR", logger="ray.autoscaler")


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.name)
def test_a_typo_in_any_key_is_found_and_named(path: Path):
    """Every key of the file in turn, at any depth."""
    document = read(path)
    everywhere = list(places(document))
    assert len(everywhere) > 40
    missed = []
    for place in everywhere:
        told = CHECKS[path](with_typo(document, place))
        if not any(str(place[-1]) in line for line in told):
            missed.append(f"{'.'.join(map(str, place))}: {told}")
    assert missed == []


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("FROM base AS gpu", "FROM base AS gpus", "target gpu is missing"),
        ("FROM base AS gpu", "FROM bas AS gpu", "FROM bas: neither a stage nor the python image"),
        ("FROM python:", "FROM mirror.example/python:", "names a registry host"),
        ("PYTHON_VERSION=3.11", "PYTHON_VERSION=3.12", "PYTHON_VERSION '3.12' is not 3.11"),
        ("COPY requirements/gpu.lock", "COPY requirements/cuda.lock", "COPY requirements/cuda.lock: not in git"),
        ("-r requirements/cpu.lock", "-r requirements/gpu.lock", "target cpu installs requirements/gpu.lock"),
        ("COPY redi_ray redi_ray", "COPY redi-ray redi_ray", "COPY redi-ray: not in git"),
        ("COPY jobs jobs", "COPY benchmarks benchmarks", "COPY benchmarks: left out by Dockerfile.dockerignore"),
        ("WORKDIR", "WORKDR", "WORKDR: no instruction"),
        ("USER redi", "USER root", "target cpu runs as root"),
        ('CMD ["redi-ray"', 'CMD ["rediray"', "calls none of ['redi-ray']"),
        ("ENV HOME=/srv/redi ", "ENV ", "has no ENV HOME"),
    ],
)
def test_a_mistake_in_the_dockerfile_is_found(right: str, wrong: str, told: str):
    text = (ROOT / "cluster" / "Dockerfile").read_text()
    assert right in text
    assert told in "\n".join(check_dockerfile(text.replace(right, wrong)))


def test_options_of_start_commands_exist():
    """They are text to every schema."""
    assert command_errors("export A=b; ray start --head --dashbord-host=127.0.0.1") == [
        "`ray start` has no option --dashbord-host"
    ]
    assert (
        command_errors("nohup python -m redi_ray.cluster.spot_drain --adress=$RAY_HEAD_IP:6379 > /tmp/log 2>&1 &") != []
    )


def test_what_the_operator_would_take_but_must_not_be():
    """Secrets in plain text, root, a pool that is upside down."""
    for change, told in (
        (
            lambda head, _: head["containers"][0]["env"].append({"name": "HF_TOKEN", "value": "hf_x"}),
            "secret in plain text",
        ),
        (lambda head, _: head["securityContext"].update(runAsUser=0), "runAsUser"),
        (lambda _, worker: worker.update(maxReplicas=1, replicas=2), "minReplicas <= replicas <= maxReplicas"),
        (lambda _, worker: worker["labels"].update(pool="-"), "Invalid label key value"),
        (lambda head, _: head["containers"][0]["volumeMounts"][0].update(name="shm"), "are no volumes"),
    ):
        document = read(CLUSTER)
        change(document["spec"]["headGroupSpec"]["template"]["spec"], document["spec"]["workerGroupSpecs"][0])
        assert told in "\n".join(kuberay_errors(document))


# ----------------------------------------------------------------------------------------------------- KubeRay's own CRDs

TINY_CRD = yaml.safe_load("""
spec:
  versions:
    - name: v1
      schema:
        openAPIV3Schema:
          type: object
          properties:
            apiVersion: {type: string}
            metadata: {type: object}
            spec:
              type: object
              required: [rayVersion]
              properties:
                rayVersion: {type: string}
                open: {type: object, properties: {known: {type: string}}, x-kubernetes-preserve-unknown-fields: true}
                limits:
                  type: object
                  additionalProperties: {anyOf: [{type: integer}, {type: string}], x-kubernetes-int-or-string: true}
""")


def test_a_crd_is_read_as_strict_kubectl_reads_it():
    """Unknown keys are errors where Kubernetes would drop them, and only there."""
    good = {"apiVersion": "ray.io/v1", "metadata": {"name": "x"}}
    spec = {"rayVersion": "2", "open": {"anything": 1}, "limits": {"cpu": 1, "memory": "1Gi"}}
    assert crd_errors({**good, "spec": spec}, TINY_CRD) == []
    for change, told in (
        ({"rayVersoin": "2"}, "rayVersoin"),
        ({"rayVersion": 2}, "spec.rayVersion: 2 is not of type 'string'"),
        ({"limits": {"cpu": 0.5}}, "spec.limits.cpu"),
    ):
        assert told in "\n".join(crd_errors({**good, "spec": {**spec, **change}}, TINY_CRD))


@pytest.mark.parametrize("path", [CLUSTER, JOB], ids=lambda path: path.name)
def test_kuberays_own_definitions_take_the_files(path: Path):
    """With REDI_KUBERAY_CRDS, a folder of ray.io_rayclusters.yaml and ray.io_rayjobs.yaml from the operator in use."""
    folder = os.environ.get("REDI_KUBERAY_CRDS")
    if not folder:
        pytest.skip("REDI_KUBERAY_CRDS is not set: KubeRay's CRDs are not part of this repository")
    document = read(path)
    crd = read(Path(folder) / f"ray.io_{document['kind'].lower()}s.yaml")
    assert crd_errors(document, crd) == []
