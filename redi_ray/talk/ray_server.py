"""Ray Serve's LLM deployment: the same server in replicas over a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from redi_ray.config.resources import RaySettings
from redi_ray.data.sample.engines import environment
from redi_ray.talk.models import TalkError
from redi_ray.talk.serving import Served, ServeOptions, require_vllm

NEEDED = ("fastapi", "uvicorn", "starlette", "watchfiles", "grpc_reflection")
"""What of `ray[serve]` its import fails without."""


def missing() -> str:
    """What Ray Serve's LLM deployment lacks here, in words; empty if nothing."""
    lacking = [name for name in NEEDED if find_spec(name) is None]
    return f"{', '.join(lacking)}: pip install 'redi_ray[serve]'" if lacking else ""


@contextmanager
def ray_server(served: Served, options: ServeOptions, ray_settings: RaySettings, replicas: int) -> Iterator[None]:
    """An application of Ray Serve that answers, for the block; Ray must be connected. Other applications of the cluster stay.

    Raises TalkError where Ray Serve lacks something here, or the replicas did not start.
    """
    require_vllm()
    if lacking := missing():
        raise TalkError(f"Ray Serve lacks {lacking}; or serve without Ray (--with vllm)")
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.llm import build_openai_app

    serve.start(http_options=HTTPOptions(host=options.host, port=options.port))
    name = f"redi-ray-{served.name}"
    try:
        serve.run(build_openai_app({"llm_configs": [config_of(served, ray_settings, replicas)]}), name=name)
        yield
    except RuntimeError as error:
        raise TalkError(f"Ray Serve did not start {served.name}: {error}") from error
    finally:
        serve.delete(name)
        if not serve.status().applications:
            serve.shutdown()


def config_of(served: Served, ray_settings: RaySettings, replicas: int) -> Any:
    """Ray's LLMConfig of the model."""
    from ray.serve.llm import LLMConfig

    export, engine = served.model.export, served.engine
    source: Any = {"bucket_uri": export} if export.startswith("s3://") else export
    told = {
        **served.arguments,
        "chat_template": served.template,
        "chat_template_content_format": "string",
        "override_generation_config": served.sampling,
    }
    return LLMConfig(
        model_loading_config={"model_id": served.name, "model_source": source},
        engine_kwargs=told,
        accelerator_config={"kind": engine.device},
        placement_group_config={"bundles": engine.bundles},
        deployment_config={"num_replicas": replicas},
        runtime_env={"env_vars": {**environment(engine), **ray_settings.env}},
        log_engine_metrics=False,
    )
