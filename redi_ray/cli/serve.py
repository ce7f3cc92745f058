"""`redi-ray serve`: choose the server, say when it is ready and how to ask it, end it in order."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Literal

from redi_ray.cluster.runtime import log, setup_logging
from redi_ray.talk.models import RunModel, TalkError, find_speakers
from redi_ray.talk.ray_server import missing, ray_server
from redi_ray.talk.serving import Served, ServeOptions, describe, example, require_port, require_vllm
from redi_ray.talk.vllm_server import vllm_server

By = Literal["auto", "vllm", "ray"]
TOLD_EVERY = 15.0
"""Seconds between two lines while the server starts."""


def serve(run: str, name: str, options: ServeOptions, *, by: By = "auto", replicas: int = 1) -> None:
    """Serve a model until ctrl-C or SIGTERM. Raises TalkError where that cannot begin, or the server ends by itself."""
    setup_logging()
    require_vllm()
    (model,) = find_speakers(run, [name])
    by = choose(model, by, replicas)
    if by == "ray" and options.extra:
        raise TalkError(
            f"{' '.join(options.extra)}: arguments of `vllm serve`, which Ray Serve does not read (--with vllm)"
        )
    require_port(options)
    served = describe(model, options)
    log.info("%s: starting %s on %s", served.name, "Ray Serve" if by == "ray" else "vllm serve", served.engine.device)
    with ends_with_signals():
        try:
            _ray(served, options, replicas) if by == "ray" else _vllm(served, options)
        except KeyboardInterrupt:
            log.info("%s: ended", served.name)


def choose(model: RunModel, by: By, replicas: int) -> By:
    """`ray` where a cluster is named, or several replicas are wanted, and Ray Serve is whole here; else `vllm`."""
    named = bool(model.config.resources.ray.address or os.environ.get("RAY_ADDRESS"))
    if by == "vllm" and replicas > 1:
        raise TalkError("--replicas is for Ray Serve (--with ray)")
    if by != "auto":
        return by
    if not named and replicas == 1:
        return "vllm"
    if lacking := missing():
        log.info("Ray Serve lacks %s; serving by vLLM on this machine alone", lacking)
    return "vllm" if lacking else "ray"


def _vllm(served: Served, options: ServeOptions) -> None:
    told = 0.0

    def waiting(seconds: float) -> None:
        nonlocal told
        if seconds - told >= TOLD_EVERY:
            told = seconds
            log.info("%s: vLLM has been starting for %.0f s", served.name, seconds)

    with vllm_server(served, options, waiting=waiting) as running:
        _ready(served, options, running.key)
        log.info("vLLM's log: %s", running.log)
        running.wait()


def _ray(served: Served, options: ServeOptions, replicas: int) -> None:
    from redi_ray.cluster.runtime import ray_connection

    settings = served.model.config.resources.ray
    if not options.is_local:
        log.warning(
            "Ray Serve asks clients for no key: whoever reaches %s:%d can use the model", options.host, options.port
        )
    with ExitStack() as stack:
        stack.enter_context(ray_connection(settings))
        stack.enter_context(ray_server(served, options, settings, replicas))
        _ready(served, options, None)
        while True:
            signal.pause()


def _ready(served: Served, options: ServeOptions, key: str | None) -> None:
    """The lines that say where it is; on stdout, for scripts that wait for them."""
    shown = key if key and key != os.environ.get("VLLM_API_KEY") else "$VLLM_API_KEY" if key else None
    print(f"ready: {served.name} at {options.url}/v1", flush=True)
    print(f"try: {example(served, options, shown)}", flush=True)


@contextmanager
def ends_with_signals() -> Iterator[None]:
    """Inside the block SIGTERM, and a terminal that goes, end the command as ctrl-C does, which a shell may have switched off."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
