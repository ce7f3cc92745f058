"""Starting vLLM on a model, and what has to be alike where only its weights are exchanged."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from redi_ray.cluster.notices import tell
from redi_ray.config.engine_limits import SchedulerLimits
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.engines import engine_kwargs
from redi_ray.modeling.limits import FLOAT32

WEIGHTS_ONLY = ("generation_config.json", "manifest.json", "model.safetensors.index.json")
"""Small files of a model's folder that may differ where weights are reloaded."""
WATCH_SECONDS = 0.5


@dataclass(frozen=True)
class Held:
    """The model in the engine."""

    model: str
    path: str
    """Where its files are here."""
    settings: EngineSettings


def start_vllm(path: str, settings: EngineSettings) -> Any:
    """A `vllm.LLM`, which takes the limits of its device, and a line for the user about them. It has said a token: some models
    start and cannot be run, such as those of small heads on a CPU, and would be asked until no restart is left."""
    from vllm import LLM, SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs

    # users write for AsyncEngineArgs, which has a few more; a name that neither knows is vLLM's to refuse
    more = {field.name for field in fields(AsyncEngineArgs)} - {field.name for field in fields(EngineArgs)}
    kwargs = {name: value for name, value in engine_kwargs(settings).items() if name not in more}
    llm = LLM(model=path, **kwargs)
    _watch_core(llm.llm_engine.engine_core)
    scheduler = llm.llm_engine.vllm_config.scheduler_config
    log_limits(SchedulerLimits(scheduler.max_num_seqs, scheduler.max_num_batched_tokens), settings)
    llm.generate({"prompt_token_ids": [0]}, SamplingParams(max_tokens=1, temperature=0.0), use_tqdm=False)
    return llm


def _watch_core(core: Any) -> None:
    """Let a step fail when the core's process has died: vLLM's synchronous client notices, and waits for its outputs for ever."""
    if not hasattr(core, "outputs_queue"):  # the core is in this process
        return

    def watch() -> None:
        while not core.resources.engine_dead:
            time.sleep(WATCH_SECONDS)
        core.outputs_queue.put(RuntimeError("the engine's core process has ended"))

    threading.Thread(target=watch, daemon=True, name="engine-core-watch").start()


def log_limits(limits: SchedulerLimits, settings: EngineSettings) -> None:
    """One line for an engine that starts, and a warning where the config hands it fewer rows than it takes."""
    tell(f"engine on {settings.device}: up to {limits.sequences} sequences at a time and {limits.tokens} tokens a step")
    rows = settings.batches_in_flight(limits.sequences) * settings.batch_size
    if rows < limits.sequences:
        tell(
            f"max_concurrent_batches {settings.max_concurrent_batches} of batch_size {settings.batch_size} are {rows} rows in "
            f"flight, too few for the engine's {limits.sequences} places: raise them, or leave max_concurrent_batches out",
            logging.WARNING,
        )


def kwargs_of(settings: EngineSettings) -> dict[str, Any]:
    """What engines of equal value have in common."""
    return {"device": settings.device, **engine_kwargs(settings)}


def computed_in(held: Held) -> str:
    """The type that the engine computes in: its own setting, or the checkpoint's."""
    from transformers import AutoConfig

    if (given := str(engine_kwargs(held.settings)["dtype"])) != "auto":
        return given.removeprefix("torch.")
    config = AutoConfig.from_pretrained(held.path, trust_remote_code=held.settings.trusts_code)
    return str(config.dtype).removeprefix("torch.")


def small_files(path: str) -> Mapping[str, str]:
    """What a model's folder holds beside its weights: architecture, tokenizer, template; name -> text. Empty off the disk."""
    folder, kinds = Path(path), (".json", ".jinja", ".txt", ".model", ".py")
    files = sorted(file for file in folder.glob("*") if file.suffix in kinds and file.name not in WEIGHTS_ONLY)
    return {file.name: file.read_text(errors="replace") for file in files}


def parameters_of(path: str) -> int:
    """At most so many numbers in a folder's weights; by their bytes, as if each took two."""
    sizes = [file.stat().st_size for file in Path(path).glob("*.safetensors")]
    return sum(sizes) // 2 if sizes else 2**62


def room_for_check(path: str) -> bool:
    """Whether this machine has memory for transformers to load the weights, in float32, in which it scores the check."""
    import psutil

    return psutil.virtual_memory().available > 1.5 * FLOAT32 * parameters_of(path)
