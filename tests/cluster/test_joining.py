"""Joining a Ray: what stands in the way is told at once, and a start that took too long is tried again."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import ray

from redi_ray.cluster.joining import TOO_SLOW, RayUnreachable, require_answer, start
from redi_ray.config.resources import RaySettings


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host.invalid:6379"])
def test_an_address_where_nothing_answers(address: str):
    """Ray itself tries for minutes."""
    with pytest.raises(RayUnreachable, match=rf"nothing answers at {address} .*resources.ray.address, or RAY_ADDRESS"):
        require_answer(address)


@pytest.mark.parametrize("address", ["head", "head:port", "http://127.0.0.1:8265", "", ":6379", "head:99999"])
def test_what_is_no_address(address: str):
    with pytest.raises(RayUnreachable, match="is no address of a Ray"):
        require_answer(address)


def test_the_command_says_so():
    command = [sys.executable, "-m", "redi_ray.cli", "run", "configs/demo.yaml", "resources.ray.address=127.0.0.1:1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "nothing answers at 127.0.0.1:1" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("told", TOO_SLOW)
def test_a_start_that_is_too_slow_is_tried_once_more(monkeypatch: pytest.MonkeyPatch, told: str):
    """What Ray does on a machine that is too busy; other errors pass."""
    begun: list[dict[str, Any]] = []

    def too_slow(**asked: Any) -> None:
        begun.append(asked)
        raise Exception(f"The current node {told}.")

    monkeypatch.setattr(ray, "init", too_slow)
    monkeypatch.setattr(ray, "shutdown", lambda: None)  # the Ray of the tests that come is left alone
    with pytest.raises(RayUnreachable, match="twice: this machine is too busy"):
        start(RaySettings(), dashboard=False)
    assert len(begun) == 2

    def wrong(**asked: Any) -> None:
        raise ValueError("something else")

    monkeypatch.setattr(ray, "init", wrong)
    with pytest.raises(ValueError, match="something else"):
        start(RaySettings(), dashboard=False)


def test_ray_still_says_it_like_that():
    """The retry goes by Ray's words."""
    from inspect import getsource

    from ray._private.node import Node

    assert TOO_SLOW[0] in " ".join(getsource(Node.__init__).replace('"', "").split())
