"""Requests that are answered by what some words are worth as the next token, in place of a sample."""

from __future__ import annotations

import json
from typing import Any

from redi_ray.data.sample.engine_block import Block, final_only
from redi_ray.text.tokens import plain_ids


class WordsBlock(Block):
    """Requests whose completion is JSON: word -> log-probability of its first token behind what the answer begins with, before
    any temperature."""

    def asked(self) -> list[tuple[list[int], Any]]:
        from vllm import SamplingParams

        self.firsts = {word: plain_ids(word, self._tokenizer)[0] for word in self.sampling.words}
        told = SamplingParams(
            max_tokens=1, temperature=0.0, logprob_token_ids=sorted(set(self.firsts.values())), **final_only()
        )
        return [(ids, told.clone()) for ids in self.prompts()]

    def answer(self, place: int, output: Any) -> None:
        """Take up vLLM's final output of one request."""
        (found,) = output.outputs[0].logprobs
        weighed = {word: found[token].logprob for word, token in self.firsts.items()}
        told = {"num_tokens": 1, "prompt_tokens": len(output.prompt_token_ids), "finish_reason": "stop"}
        self._take(place, {"completion": json.dumps(weighed), **told})
