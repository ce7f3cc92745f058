"""Ray's own EC2 provider starts a machine of every pool of `aws.yaml`, on a server that plays EC2 and IAM."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_checks import AWS, read

pytestmark = pytest.mark.long


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account with the two instance profiles that cluster/README.md asks for; gives an EC2 client."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "HOME": str(tmp_path),  # the provider writes the key pair that it makes to ~/.ssh
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    region = read(AWS)["provider"]["region"]
    for profile in ("redi-ray-head", "redi-ray-worker"):
        boto3.client("iam", region).create_instance_profile(InstanceProfileName=profile)
    yield boto3.client("ec2", region)
    server.stop()


def bootstrapped(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` makes of the file before it starts anything: keys, groups, networks, resources of the types."""
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config

    prepared = prepare_config(copy.deepcopy(config))
    return bootstrap_aws(AWSNodeProvider.fillout_available_node_types_resources(prepared))


def test_every_pool_starts_as_it_is_written(cloud: Any):
    """The type, spot or not, the profile, IMDSv2; and the resources told to Ray are those that EC2 says the type has."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

    written = read(AWS)
    config = bootstrapped(written)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, node in config["available_node_types"].items():
        provider.create_node(node["node_config"], {TAG_RAY_USER_NODE_TYPE: name}, 1)
    started = {}
    for reservation in cloud.describe_instances()["Reservations"]:
        for machine in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
            assert tags["ray-cluster-name"] == "redi-ray"
            assert machine["MetadataOptions"]["HttpTokens"] == "required"
            profile = machine["IamInstanceProfile"]["Arn"].rpartition("/")[2]
            market = machine.get("InstanceLifecycle", "on-demand")
            started[tags[TAG_RAY_USER_NODE_TYPE]] = (machine["InstanceType"], market, profile)
    assert started == {
        "head": ("m7i.xlarge", "on-demand", "redi-ray-head"),
        "cpu": ("c7i.4xlarge", "on-demand", "redi-ray-worker"),
        "engine": ("g6e.xlarge", "spot", "redi-ray-worker"),
        "train": ("p4de.24xlarge", "on-demand", "redi-ray-worker"),
    }
    told = {name: node["resources"] for name, node in written["available_node_types"].items()}
    assert told.pop("head") == {"CPU": 0}
    for node in written["available_node_types"].values():
        node["resources"] = {}
    types = AWSNodeProvider.fillout_available_node_types_resources(written)["available_node_types"]
    found = {name: {key: types[name]["resources"].get(key) for key in resources} for name, resources in told.items()}
    assert found == told
