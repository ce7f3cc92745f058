"""vLLM's scheduler with one more reason to stop a request: its completion is caught in a loop.

vLLM has a detection of its own (`SamplingParams.repetition_detection`), but it tries every period at every token: 110
microseconds a token at 256 periods, where reasoning loops over passages of up to a thousand tokens. Here a request is
looked at every `CHECK_EVERY` tokens, which costs less than a microsecond a token at 1,024 periods. Logits processors,
the other place to hook in, differ between vLLM's two model runners and would see tokens late under asynchronous
scheduling. Nothing here touches what is sampled: a completion that does not loop has the same tokens.

Imported in the engine's process alone, by its name in `scheduler_cls`.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from redi_ray.config.loops import LoopSettings
from redi_ray.text.loops import token_loop

CHECK_EVERY = 64
"""Output tokens between two looks at a request."""


class LoopStopping:
    """Mixed into a scheduler. A request brings its settings in `SamplingParams.extra_args["loops"]`."""

    def _update_request_with_output(self, request: Request, new_token_ids: list[int], *args: Any, **kwargs: Any) -> Any:
        parent: Any = super()
        new_token_ids, stopped = parent._update_request_with_output(request, new_token_ids, *args, **kwargs)
        size = request.num_output_tokens
        due = size // CHECK_EVERY > (size - len(new_token_ids)) // CHECK_EVERY
        if due and not stopped and self._loops(request):
            request.status = RequestStatus.FINISHED_REPETITION
            request.stop_reason = "loop"
            stopped = True
        return new_token_ids, stopped

    @staticmethod
    def _loops(request: Request) -> bool:
        told = (request.sampling_params.extra_args or {}).get("loops") if request.sampling_params else None
        return told is not None and token_loop(request.output_token_ids, LoopSettings(**told)) is not None


def loop_stopping_scheduler(vllm_config: Any, **kwargs: Any) -> Scheduler:
    """The scheduler that vLLM would have taken for this configuration, with `LoopStopping` mixed in."""
    base = AsyncScheduler if vllm_config.scheduler_config.async_scheduling else Scheduler
    return type("LoopStoppingScheduler", (LoopStopping, base), {})(vllm_config=vllm_config, **kwargs)
