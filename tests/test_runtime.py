"""What Ray cannot give is said before a stage waits for it."""

from __future__ import annotations

import logging

import pytest

from redi_ray.config.resources import EngineSettings, RaySettings, ResourceSettings
from redi_ray.runtime import CapacityError, check_capacity


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
