"""Requests that an engine answers together: from REQUEST rows to what vLLM is asked, and from its outputs to COMPLETION rows."""

from __future__ import annotations

from concurrent.futures import Future
from functools import lru_cache
from typing import Any

import pyarrow as pa

from redi_ray.config.loops import LoopSettings
from redi_ray.config.prompts import PromptSettings
from redi_ray.data.sample.engine_start import Held
from redi_ray.data.sample.engines import sampling_params
from redi_ray.data.sample.samples import BEGUN, COMPLETION, Sampling
from redi_ray.modeling.tokenizer import end_of_turn_ids, load_tokenizer
from redi_ray.text.loops import token_loop
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import completion_ids, prompt_ids


class Block:
    """Requests that are answered together."""

    def __init__(self, rows: list[dict[str, Any]], held: Held, sampling: Sampling, prompt: PromptSettings) -> None:
        self.rows, self.sampling, self.prompt = rows, sampling, prompt
        self.future: Future[pa.Table] = Future()
        trusted = held.settings.trusts_code
        self._tokenizer, self._ends = load_tokenizer(held.path, trusted), end_of_turn_ids(held.path, trusted)
        self._left = len(rows)
        if not rows:
            self.future.set_result(COMPLETION.empty_table())

    def asked(self) -> list[tuple[list[int], Any]]:
        """Each row's prompt, in token ids, and vLLM's sampling parameters."""
        from vllm import SamplingParams

        more = final_only() | ({"logprobs": 0} if self.sampling.logps else {})  # 0: that of the token itself alone
        told = [sampling_params(row, self.sampling, self._ends) | more for row in self.rows]
        return [(ids, SamplingParams(**t)) for ids, t in zip(self.prompts(), told, strict=True)]

    def prompts(self) -> list[list[int]]:
        """What the model sees of each row: the prompt, and what the answer begins with."""

        @lru_cache(maxsize=1)
        def ids_of(problem: str, begun: str | None) -> list[int]:
            ids = prompt_ids(to_messages(problem, self.prompt), self._tokenizer, self.prompt)
            if begun is None:
                return ids
            return [*ids, *completion_ids(begun, self._tokenizer, self.prompt, finished=False)]

        return [ids_of(row["problem"], row.get(BEGUN)) for row in self.rows]

    def answer(self, place: int, output: Any) -> None:
        """Take up vLLM's final output of one request."""
        tokens = list(output.outputs[0].token_ids)
        told = {
            "completion": (self.rows[place].get(BEGUN) or self.prompt.prefix) + output.outputs[0].text,
            "num_tokens": len(tokens),
            "prompt_tokens": len(output.prompt_token_ids),
            "finish_reason": finish_reason(tokens, self._ends, self.sampling.loops),
        }
        if self.sampling.logps:
            steps = zip(tokens, output.outputs[0].logprobs, strict=True)
            told |= {"token_ids": tokens, "logps": [step[token].logprob for token, step in steps]}
        self._take(place, told)

    def refuse(self, place: int, error: Exception, reason: str = "refused_by_engine") -> None:
        """A request that no engine takes, or that cannot be asked; it is not asked again."""
        self._take(place, {"failure": reason, "detail": f"{type(error).__name__}: {error}", "retry": False})

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def fail_with(self, entered: Future[None]) -> None:
        """If the requests could not even be entered."""
        if (error := entered.exception()) is not None:
            self.fail(error)

    def _take(self, place: int, told: dict[str, Any]) -> None:
        self.rows[place] |= told
        self._left -= 1
        if not self._left and not self.future.done():
            self.future.set_result(pa.Table.from_pylist(self.rows, schema=COMPLETION))


def final_only() -> dict[str, Any]:
    """For vLLM's sampling parameters: by default the engine makes an output of each request at every step, which costs as much as
    detokenising it."""
    from vllm.sampling_params import RequestOutputKind

    return {"output_kind": RequestOutputKind.FINAL_ONLY}


def finish_reason(tokens: list[int], end_ids: frozenset[int], loops: LoopSettings) -> str:
    """`stop`, `length` or `loop`: a completion is whole if its last token ends it."""
    if tokens and tokens[-1] in end_ids:
        return "stop"
    return "loop" if token_loop(tokens, loops) else "length"
