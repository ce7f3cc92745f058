"""Runs as jobs on a cluster: one job per attempt, the code that lies here, the driver's own exit code, a stop that saves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from imported_run import write_imported
from processes import run, start
from ray_head import ray_head

from redi_ray.cluster.submission import packed
from redi_ray.config.load import load_config
from redi_ray.config.secrets import secret_variables


def test_what_looks_like_a_secret_is_found_by_name_or_value():
    harmless = {"AWS_REGION": "eu-west-1", "HF_HOME": "/data/hf", "TOKENIZERS_PARALLELISM": "false", "KEYBOARD": "us"}
    assert secret_variables(harmless) == []
    names = ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "HF_TOKEN", "wandb_api_key", "DB_PASSWORD", "RAY_AUTH_TOKEN"]
    assert secret_variables(dict.fromkeys(names, "x")) == sorted(names)
    values = {"A": "AKIA" + "Q" * 16, "B": "hf_" + "a" * 24, "C": "http://me:word@proxy:3128", "D": "http://proxy:3128"}
    assert secret_variables(values) == ["A", "B", "C"]


def test_a_config_with_a_secret_is_refused_and_the_secret_not_printed(tmp_path: Path):
    path = write_imported(tmp_path, 2)
    output = run("config", str(path), "resources.ray.env.HF_TOKEN=abcdefghijklmnop", expect=2)
    assert "HF_TOKEN looks like a secret" in output
    assert "abcdefghijklmnop" not in output


def test_the_package_and_the_resolved_config_travel(tmp_path: Path):
    config = load_config(str(write_imported(tmp_path, 2)), ["sft.train.epochs=7"])
    with packed(config) as folder:
        assert load_config(f"{folder}/config.yaml", []) == config
        assert (Path(folder) / "redi_ray" / "cli" / "app.py").exists()
        assert not list(Path(folder).rglob("__pycache__"))


def test_what_no_cluster_could_take_is_refused(tmp_path: Path):
    path = str(write_imported(tmp_path, 2))
    assert "storage.root is runs" in run("submit", path, "--address", "http://127.0.0.1:1", expect=2)
    root = f"storage.root={tmp_path}"
    assert "give --address" in run("submit", path, root, environment={"RAY_ADDRESS": ""}, expect=2)
    assert "not a dashboard's address" in run("submit", path, root, "--address", "host:6379", expect=2)
    assert "Is the cluster up" in run("submit", path, root, "--address", "http://127.0.0.1:1", expect=2)
    assert "no step named sftt; did you mean sft?; there are problems" in run(
        "submit", path, root, "--until", "sftt", expect=2
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    with ray_head() as environment:
        yield environment


def wait_for(address: dict[str, str], path: str, root: str) -> None:
    """Until the cluster's dashboard answers."""
    for _ in range(60):
        process = start("status", path, root, environment=address)
        if process.wait(timeout=120) == 0:
            return
        time.sleep(1)
    pytest.fail("the cluster never answered")


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_submitted_twice_followed_stopped_and_taken_up_again(cluster: dict[str, str], tmp_path: Path):
    """One job; a stop in the middle of training saves (75); the next attempt goes on and ends with 0; bad input ends with
    2; a wrong or missing token is told as such."""
    path, root = str(write_imported(tmp_path, 60)), f"storage.root={tmp_path}"
    wait_for(cluster, path, root)
    for other in ("0" * 64, ""):
        environment = {**cluster, "RAY_AUTH_TOKEN": other, "HOME": str(tmp_path)}  # Ray looks for a token there, too
        assert "the cluster wants a token" in run("submit", path, root, environment=environment, expect=2)

    long = ["sft.train.epochs=200", "sft.train.checkpoint_every=1000"]
    first = run("submit", path, root, *long, "--command", "train", environment=cluster).strip().splitlines()[-1]
    assert first.startswith("imported-")
    assert first.endswith("-1")
    again = run("submit", path, root, *long, "--command", "train", environment=cluster)
    assert again.strip().splitlines()[-1] == first
    assert "submitted before" in again
    assert "another config" in run("submit", path, root, environment=cluster, expect=2)
    metrics = tmp_path / "imported" / "checkpoints" / "sft"
    deadline = time.monotonic() + 600
    while not any(len(file.read_text().splitlines()) > 3 for file in metrics.glob("*/metrics.jsonl")):
        assert time.monotonic() < deadline, run("status", path, root, *long, environment=cluster)
        time.sleep(0.5)
    assert "STOPPED" in run("stop", path, root, *long, environment=cluster)
    assert list(metrics.glob("*/checkpoints/*/files.json")), "it has not saved"

    bad = [root, "problems.source.columns.answer=no_such_column", "--command", "generate", "--follow"]
    told = run("resubmit", path, *bad, environment=cluster, expect=2)
    assert "check problems.source.columns" in told
    done = run(
        "resubmit",
        path,
        root,
        "sft.train.epochs=1",
        "--until",
        "sft",
        "--follow",
        environment=cluster,
    )
    assert "checkpoints/sft" in done
    assert not (tmp_path / "imported" / "checkpoints" / "redi").exists(), "the job ends at the step"
    listed = run("status", path, root, environment=cluster).strip().splitlines()
    assert [line.split()[0][-2:] for line in listed] == ["-1", "-2", "-3"]
    assert [line.split()[1] for line in listed] == ["STOPPED", "FAILED", "SUCCEEDED"]
