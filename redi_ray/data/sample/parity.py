"""Whether an engine computes with the weights that it should have.

Weights that are reloaded in place can go wrong without an error (on CPU the packed weights are not rebuilt, and the model
babbles), or stay what they were, and either gives a model another one's samples. So the engine answers a few prompts greedily,
and transformers scores the same tokens with the new weights and with those before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PARITY_TOKENS = 24
"""Greedy tokens of each prompt that are compared."""
TIE, DISTANCE = {"float32": 1e-2, "half": 0.5}, {"float32": 1e-3, "half": 0.1}
"""In nats, by the type that the engine computes in: how far below the likeliest token one may lie that is taken for it, and
how far the engine's log-probs may lie from transformers' on the average. Logits in bfloat16 are rounded to 1/8 and more."""


@dataclass(frozen=True)
class Parity:
    """How the engine's greedy tokens look to transformers."""

    gap: float
    """Largest lead of transformers' likeliest token over the engine's, nats; 0 if all tokens agree."""
    distance: float
    """Mean distance between the log-probs of those tokens, nats."""
    distance_to_previous: float | None
    """The same for the weights that the engine had before; None if it had none, or if they give the same log-probs."""

    def holds(self, dtype: str) -> bool:
        """Whether the engine computes with the weights it should have. dtype: what it computes in."""
        kind = "float32" if dtype == "float32" else "half"
        nearer = self.distance_to_previous is None or self.distance < self.distance_to_previous
        return self.gap <= TIE[kind] and self.distance <= DISTANCE[kind] and nearer


def parity(
    llm: Any, path: str, previous: str | None, prompts: Sequence[Sequence[int]], trust_remote_code: bool = False
) -> Parity:
    """Compare a `vllm.LLM`'s greedy tokens and their log-probs with transformers, on the weights in `path` and in `previous`.

    path, previous: local folders or hub names. prompts: token ids.
    """
    from vllm import SamplingParams

    asked = [{"prompt_token_ids": list(ids)} for ids in prompts]
    greedy = SamplingParams(temperature=0.0, max_tokens=PARITY_TOKENS, logprobs=0)
    answers = [out.outputs[0] for out in llm.generate(asked, greedy, use_tqdm=False)]
    tokens = [list(answer.token_ids) for answer in answers]
    given = [step[token].logprob for a in answers for token, step in zip(a.token_ids, a.logprobs, strict=True)]
    found, best = teacher_forced(path, prompts, tokens, trust_remote_code)
    distance, to_previous = float(np.abs(found - given).mean()), None
    if previous is not None:
        before, _ = teacher_forced(previous, prompts, tokens, trust_remote_code)
        if not np.array_equal(before, found):
            to_previous = float(np.abs(before - given).mean())
    numbers = (float((best - found).max()), distance, to_previous)
    return Parity(*(number if number is None or math.isfinite(number) else math.inf for number in numbers))  # type: ignore[arg-type]


def teacher_forced(
    path: str, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], trust_remote_code: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probs (nats) of the answers' tokens given what stands before them, and of the likeliest token there: float[N] both."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, trust_remote_code=trust_remote_code).eval()
    found, best = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([[*prompt, *answer]])
        with torch.no_grad():
            logps = torch.log_softmax(model(ids).logits[0, len(prompt) - 1 : -1].float(), dim=-1)
        found.append(logps[torch.arange(len(answer)), torch.tensor(answer)].numpy())
        best.append(logps.max(dim=-1).values.numpy())
    return np.concatenate(found), np.concatenate(best)
