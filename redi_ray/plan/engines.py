"""What asking a model costs: one that vLLM runs here, or a server."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from redi_ray.config.endpoints import EndpointSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.plan.assumptions import Assumptions
from redi_ray.plan.costs import StageCost
from redi_ray.plan.hardware import Gpu
from redi_ray.plan.serving import serving
from redi_ray.plan.shapes import ModelShape


@dataclass(frozen=True)
class Asked:
    """Requests to a model."""

    name: str
    """Of the stage."""
    steps: list[str]
    samples: float
    prompt: float
    """Tokens read for each."""
    written: float
    """Tokens written for each, on the average."""
    shared: bool = True
    """Whether many samples share a prompt, so that reading it is nothing."""
    turns: float = 1.0
    """The model's own in each, between which tools answer."""
    outputs: float = 0.0
    """Tokens that tools answer in each."""

    @property
    def sent(self) -> float:
        """Prompt tokens of all requests that one sample takes, where each turn is a request that brings what came before."""
        later = self.written / self.turns + self.outputs / max(1.0, self.turns - 1)
        return self.turns * self.prompt + self.turns * (self.turns - 1) / 2 * later

    @property
    def calls(self) -> str:
        """How often tools are called, for a note; nothing where there are none."""
        return f"{self.samples * (self.turns - 1):,.0f} calls of tools" if self.turns > 1 else ""


def at_endpoint(asked: Asked, endpoint: EndpointSettings, assume: Assumptions) -> StageCost:
    """Tokens and, where the config has prices, money."""
    read, written = asked.samples * asked.sent, asked.samples * asked.written
    price = endpoint.cost(round(read), round(written)) if endpoint.has_prices else None
    note = "; ".join(filter(None, [f"{read / 1e6:,.1f}M prompt tokens at an endpoint", asked.calls]))
    return StageCost(
        asked.name, asked.steps, asked.samples, written, None, price=price, note=note, assumptions=sorted(assume.used)
    )


def on_engine(
    asked: Asked, shape: ModelShape, engine: EngineSettings, longest: int, gpu: Gpu, assume: Assumptions
) -> StageCost:
    """GPU-hours of vLLM. longest: tokens that one request may write."""
    tokens = asked.samples * asked.written
    if engine.device == "cpu":
        note = "; ".join(filter(None, ["on CPU", asked.calls]))
        return StageCost(
            asked.name, asked.steps, asked.samples, tokens, None, note=note, assumptions=sorted(assume.used)
        )
    gpus = len(engine.bundles)
    replica = partial(
        serving,
        shape,
        gpu,
        context=asked.prompt + (asked.written + asked.outputs) / 2,
        longest=min(asked.prompt + longest + asked.outputs, engine.longest or math.inf),
        memory_share=engine.gpu_memory_utilization,
        efficiency=assume["decode_efficiency"],
        max_sequences=engine.limits(gpu.limits).sequences,
    )
    found, note = replica(gpus=gpus), ""
    if not found.tokens_per_second:
        note = f"DOES NOT FIT on {gpus} {gpu.name} a replica; counted with {found.gpus_needed} (tensor_parallel_size): "
        gpus = found.gpus_needed
        found = replica(gpus=gpus)
    seconds = tokens / found.tokens_per_second * gpus
    if (read := asked.outputs + (0.0 if asked.shared else asked.prompt)) > 0:
        work = 2.0 * shape.parameters * asked.samples * read
        seconds += work / (gpu.bf16_tflops * 1e12 * assume["utilization"])
    note += f"{found.tokens_per_second / gpus:,.0f} tokens/s a GPU, {found.sequences} sequences at a time"
    note = "; ".join(filter(None, [note, asked.calls]))
    held, used = engine.pool[1] * gpus, sorted(assume.used)
    return StageCost(asked.name, asked.steps, asked.samples, tokens, seconds / 3600, held, note=note, assumptions=used)
