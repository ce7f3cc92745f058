"""What can be known of the YAML in `cluster/` without a cloud: each check returns a line for every mistake."""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from kuberay_models import KINDS, ray_start_options
from pydantic import ValidationError

ROOT = Path(__file__).resolve().parents[2]
AWS, CLUSTER, JOB = (ROOT / "cluster" / name for name in ("aws.yaml", "kuberay/raycluster.yaml", "kuberay/rayjob.yaml"))


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def kuberay_spec(path: Path) -> dict[str, Any]:
    """The cluster's specification, of a RayJob too."""
    spec = read(path)["spec"]
    return spec.get("rayClusterSpec", spec)


# ------------------------------------------------------------------------------------------------- the cluster launcher

PROVIDER_KEYS = {"type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips"}
"""Ray's own schema lets any key through here."""
RESOURCE_NAMES = {"CPU", "GPU"}


def aws_errors(config: Mapping[str, Any]) -> list[str]:
    """Ray's offline check, EC2's own description of what starts a machine, and what neither looks at."""
    import ray.autoscaler
    from ray._private.label_utils import validate_node_label_syntax
    from ray.autoscaler._private.util import prepare_config, validate_config

    # what `ray up` does first; its schema once more before it, since it fails at some keys without naming them
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    found = [_told(error) for error in jsonschema.Draft7Validator(schema).iter_errors(config)]
    try:
        validate_config(prepare_config(copy.deepcopy(dict(config))))
    except jsonschema.ValidationError as error:
        return [*found, _told(error)]
    except (ValueError, RuntimeError, AssertionError, KeyError) as error:
        return [*found, f"{type(error).__name__}: {error}"]
    found += [f"provider.{key}: unknown" for key in config["provider"] if key not in PROVIDER_KEYS]
    for name, node in config["available_node_types"].items():
        found += [f"{name}.node_config.{line}" for line in ec2_errors(node["node_config"])]
        found += [f"{name}.resources.{key}: unknown" for key in node["resources"] if key not in RESOURCE_NAMES]
        try:
            validate_node_label_syntax(node.get("labels", {}))
        except ValueError as error:
            found.append(f"{name}.labels: {error}")
    for field_name in ("head_start_ray_commands", "worker_start_ray_commands"):
        found += [f"{field_name}: {line}" for command in config[field_name] for line in command_errors(command)]
    return found


def _told(error: jsonschema.ValidationError) -> str:
    return f"{'.'.join(map(str, error.absolute_path))}: {error.message}"


def ec2_errors(node_config: Mapping[str, Any]) -> list[str]:
    """Whether EC2's RunInstances would take it: names and types, by the description that boto3 ships with."""
    report = _validator().validate({"MinCount": 1, "MaxCount": 1, **node_config}, _run_instances())
    return [report.generate_report()] if report.has_errors() else []


@lru_cache(maxsize=1)
def _run_instances() -> Any:
    import botocore.session

    model = botocore.session.get_session().get_service_model("ec2")
    return model.operation_model("RunInstances").input_shape


def _validator() -> Any:
    from botocore.validate import ParamValidator

    return ParamValidator()


def command_errors(command: str) -> list[str]:
    """Options that `ray start` or `redi_ray.cluster.spot_drain`, where the command calls them, do not have."""
    from redi_ray.cluster.spot_drain import parse_arguments

    found = []
    for part in re.split(r";|&&", command):
        words = shlex.split(re.split(r"\s[>&|]", part)[0])
        if words[:2] == ["ray", "start"]:
            options = {word.partition("=")[0] for word in words[2:]}
            found += [f"`ray start` has no option {option}" for option in sorted(options - ray_start_options())]
        if "redi_ray.cluster.spot_drain" in words:
            try:
                parse_arguments(words[words.index("redi_ray.cluster.spot_drain") + 1 :])
            except SystemExit:
                found.append(f"redi_ray.cluster.spot_drain does not take {part.strip()}")
    return found


# -------------------------------------------------------------------------------------------------------------- KubeRay


def kuberay_errors(document: Mapping[str, Any]) -> list[str]:
    """By our own models of the part that is used."""
    kind = document.get("kind")
    if kind not in KINDS:
        return [f"kind: {kind!r} is none of {', '.join(KINDS)}; keys are {', '.join(document)}"]
    try:
        KINDS[kind].model_validate(dict(document))
    except ValidationError as error:
        return [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False)]
    return []


def crd_errors(document: Mapping[str, Any], crd: Mapping[str, Any]) -> list[str]:
    """By the schema of a CustomResourceDefinition, with keys that it does not know as errors, as strict kubectl has it."""
    _, _, version = str(document["apiVersion"]).partition("/")
    (schema,) = (v["schema"]["openAPIV3Schema"] for v in crd["spec"]["versions"] if v["name"] == version)
    validator = jsonschema.Draft7Validator(_strict(schema))
    return [_told(error) for error in validator.iter_errors(document)]


def _strict(schema: Any) -> Any:
    """The schema with objects closed that name their properties, unless Kubernetes is told to keep unknown ones."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {key: _strict(value) for key, value in schema.items()}
    keeps = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if isinstance(schema.get("properties"), Mapping) and "additionalProperties" not in schema and not keeps:
        closed["additionalProperties"] = False
    return closed
