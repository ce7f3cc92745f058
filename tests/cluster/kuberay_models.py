"""The part of KubeRay's `ray.io/v1` that `cluster/kuberay/` uses, strictly: any other key is an error.

Written after KubeRay's API reference. It is narrower than the operator on purpose: what it lets through, the operator knows,
and secrets in plain text, root and unbounded pods are refused, which the operator would take.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from ray._private.label_utils import validate_node_label_syntax

SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|ACCESS_KEY|API_KEY", re.IGNORECASE)
FIRST_WITH_TOKEN_AUTH = (2, 52)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _labels(labels: dict[str, str]) -> dict[str, str]:
    validate_node_label_syntax(labels)
    return labels


def _start_params(params: dict[str, str]) -> dict[str, str]:
    known = ray_start_options()
    if wrong := [name for name in params if f"--{name}" not in known]:
        raise ValueError(f"`ray start` has no option {wrong}")
    return params


def ray_start_options() -> set[str]:
    """The options of `ray start`, as `--name`."""
    from ray.scripts.scripts import start

    return {option for parameter in start.params for option in parameter.opts}


Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$")]
Labels = Annotated[dict[str, str], AfterValidator(_labels)]
StartParams = Annotated[dict[str, str], AfterValidator(_start_params)]
Amounts = dict[Literal["cpu", "memory", "nvidia.com/gpu"], Quantity]


class SecretKey(Strict):
    name: Name
    key: str
    optional: bool = False


class EnvSource(Strict):
    secretKeyRef: SecretKey


class Env(Strict):
    name: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    value: str | None = None
    valueFrom: EnvSource | None = None

    @model_validator(mode="after")
    def _no_secret_in_plain_text(self) -> Env:
        if (self.value is None) == (self.valueFrom is None):
            raise ValueError(f"{self.name}: give either value or valueFrom")
        if self.value is not None and SECRET.search(self.name):
            raise ValueError(f"{self.name}: a secret in plain text; take it from a Secret with valueFrom.secretKeyRef")
        return self


class SeccompProfile(Strict):
    type: Literal["RuntimeDefault"]


class PodSecurity(Strict):
    runAsNonRoot: Literal[True]
    runAsUser: Annotated[int, Field(ge=1)]
    fsGroup: Annotated[int, Field(ge=1)]
    seccompProfile: SeccompProfile


class Capabilities(Strict):
    drop: list[Literal["ALL"]]


class ContainerSecurity(Strict):
    allowPrivilegeEscalation: Literal[False]
    capabilities: Capabilities


class Port(Strict):
    name: Name
    containerPort: Annotated[int, Field(ge=1, le=65535)]


class Resources(Strict):
    requests: Amounts
    limits: Amounts

    @model_validator(mode="after")
    def _bounded(self) -> Resources:
        if "memory" not in self.limits:
            raise ValueError("limits: memory is missing, so one pod could take the machine's")
        if self.requests.get("nvidia.com/gpu") != self.limits.get("nvidia.com/gpu"):
            raise ValueError("nvidia.com/gpu must be the same in requests and limits")
        return self


class Mount(Strict):
    name: Name
    mountPath: Annotated[str, Field(pattern="^/")]


class Exec(Strict):
    command: list[str]


class Hook(Strict):
    exec: Exec


class Lifecycle(Strict):
    postStart: Hook


class Container(Strict):
    name: Name
    image: str
    env: list[Env]
    securityContext: ContainerSecurity
    ports: list[Port] = []
    lifecycle: Lifecycle | None = None
    resources: Resources
    volumeMounts: list[Mount]


class EmptyDir(Strict):
    medium: Literal["Memory"]


class Volume(Strict):
    name: Name
    emptyDir: EmptyDir


class Toleration(Strict):
    key: str
    operator: Literal["Exists"]
    effect: Literal["NoSchedule"]


class PodSpec(Strict):
    serviceAccountName: Name
    securityContext: PodSecurity
    nodeSelector: dict[str, str] = {}
    tolerations: list[Toleration] = []
    containers: Annotated[list[Container], Field(min_length=1, max_length=1)]
    volumes: list[Volume]

    @model_validator(mode="after")
    def _mounts_exist(self) -> PodSpec:
        known = {volume.name for volume in self.volumes}
        if lost := [mount.name for mount in self.containers[0].volumeMounts if mount.name not in known]:
            raise ValueError(f"volumeMounts {lost} are no volumes")
        return self


class PodTemplate(Strict):
    spec: PodSpec


class HeadGroup(Strict):
    labels: Labels
    rayStartParams: StartParams
    template: PodTemplate


class WorkerGroup(Strict):
    groupName: Name
    replicas: Annotated[int, Field(ge=0)]
    minReplicas: Annotated[int, Field(ge=0)]
    maxReplicas: Annotated[int, Field(ge=1)]
    labels: Labels
    rayStartParams: StartParams
    template: PodTemplate

    @model_validator(mode="after")
    def _ordered(self) -> WorkerGroup:
        if not self.minReplicas <= self.replicas <= self.maxReplicas:
            raise ValueError(f"{self.groupName}: minReplicas <= replicas <= maxReplicas does not hold")
        return self


class AutoscalerOptions(Strict):
    version: Literal["v2"]
    idleTimeoutSeconds: Annotated[int, Field(ge=1)]
    resources: Resources


class AuthOptions(Strict):
    mode: Literal["token"]


class RayClusterSpec(Strict):
    rayVersion: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    authOptions: AuthOptions
    enableInTreeAutoscaling: Literal[True]
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]

    @field_validator("rayVersion")
    @classmethod
    def _knows_token_auth(cls, version: str) -> str:
        if tuple(int(part) for part in version.split(".")[:2]) < FIRST_WITH_TOKEN_AUTH:
            raise ValueError("authOptions needs Ray 2.52 or newer")
        return version

    @field_validator("workerGroupSpecs")
    @classmethod
    def _each_once(cls, groups: list[WorkerGroup]) -> list[WorkerGroup]:
        names = [group.groupName for group in groups]
        if len(set(names)) < len(names):
            raise ValueError(f"groupName is there twice: {names}")
        return groups


class Metadata(Strict):
    name: Name


class RayCluster(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: RayClusterSpec


class SubmitterConfig(Strict):
    backoffLimit: Annotated[int, Field(ge=0)]


class RayJobSpec(Strict):
    entrypoint: str
    backoffLimit: Annotated[int, Field(ge=0)]
    activeDeadlineSeconds: Annotated[int, Field(ge=1)]
    shutdownAfterJobFinishes: Literal[True]
    ttlSecondsAfterFinished: Annotated[int, Field(ge=0)]
    submitterConfig: SubmitterConfig
    rayClusterSpec: RayClusterSpec


class RayJob(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: RayJobSpec


KINDS = {"RayCluster": RayCluster, "RayJob": RayJob}
