"""One vLLM engine for many checkpoints: weights are reloaded in place, and it is checked that they are the new ones.

A reload can go wrong without an error (on CPU the packed weights are not rebuilt, and the model babbles), or do nothing at
all, and either would give a trial another model's score. So after every swap the engine answers a few prompts greedily,
and transformers scores the same tokens with the new weights and with those before. If the engine's tokens are not the new
model's greedy ones, or their log-probs are nearer to the old model's, a fresh engine is started, and from then on always.
"""

from __future__ import annotations

import gc
import logging
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from redi_ray.cluster.notices import tell
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.data.sample.engines import engine_kwargs, sampling_params, start_engine
from redi_ray.data.sample.samples import COMPLETION, REQUEST, Sampling
from redi_ray.data.sample.sampling import finish_reason
from redi_ray.modeling.tokenizer import end_of_turn_ids, load_tokenizer
from redi_ray.store import storage
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids

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
        """Whether the engine computes with the weights it should have."""
        kind = "float32" if dtype == "float32" else "half"
        nearer = self.distance_to_previous is None or self.distance < self.distance_to_previous
        return self.gap <= TIE[kind] and self.distance <= DISTANCE[kind] and nearer


@dataclass(frozen=True)
class Swap:
    """How the engine came to its weights."""

    how: Literal["kept", "reloaded", "started"]
    seconds: float
    parity: Parity | None


class SwappingEngine:
    """An engine in this process (on a GPU its core in another), for one model after the other of the same architecture."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.model: str | None = None
        self.can_reload = True
        self.llm: Any = None
        self.folder = tempfile.TemporaryDirectory(prefix="redi_ray-engine-")

    def use(self, model: str, prompts: Sequence[Sequence[int]]) -> Swap:
        """Have the weights of `model` (a Hugging Face folder, local or s3://). prompts: token ids for the check."""
        started = time.monotonic()
        if self.model == model:
            return Swap("kept", 0.0, None)
        path, previous = self._local(model), self._local(self.model) if self.model else None
        how: Literal["reloaded", "started"] = "started"
        parity = self._reload(path, previous, prompts) if previous is not None and self.can_reload else None
        if parity is not None and parity.holds(self.dtype(path)):
            how = "reloaded"
        else:
            if parity is not None:
                tell(
                    f"reloading weights into vLLM failed the check ({parity}): a fresh engine for every model",
                    logging.WARNING,
                )
                self.can_reload = False
            self._start(path)
            parity = self.parity(path, None, prompts)
        self.model = model
        return Swap(how, round(time.monotonic() - started, 1), parity)

    def dtype(self, path: str) -> str:
        """What the engine computes in: its own setting, or the checkpoint's type."""
        from transformers import AutoConfig

        if (given := str(engine_kwargs(self.settings)["dtype"])) != "auto":
            return given.removeprefix("torch.")
        return str(AutoConfig.from_pretrained(path, trust_remote_code=self.settings.trusts_code).dtype).removeprefix(
            "torch."
        )

    def _local(self, model: str) -> str:
        if not model.startswith("s3://"):
            return model
        folder = Path(self.folder.name) / storage.content_hash(model)[:16]
        if not folder.exists():
            storage.download(model, folder)
        return str(folder)

    def _reload(self, path: str, previous: str, prompts: Sequence[Sequence[int]]) -> Parity | None:
        """Reload and check; None if vLLM itself refused."""
        try:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_path": path})
            self.llm.reset_prefix_cache()
            return self.parity(path, previous, prompts)
        except Exception as error:  # whatever it is, a fresh engine is the way on
            tell(f"vLLM could not reload weights ({type(error).__name__}: {error})", logging.WARNING)
            self.can_reload = False
            return None

    def _start(self, path: str) -> None:
        self.close()
        self.llm = start_engine(path, self.settings)

    def close(self) -> None:
        """End the engine's processes and free its memory."""
        if self.llm is not None:
            self.llm.llm_engine.engine_core.shutdown()
            self.llm = None
            gc.collect()

    # ------------------------------------------------------------------------------------------------------- the check

    def parity(self, path: str, previous: str | None, prompts: Sequence[Sequence[int]]) -> Parity:
        """Compare greedy tokens and their log-probs with transformers, on the weights in `path` and in `previous`."""
        from vllm import SamplingParams

        asked = [{"prompt_token_ids": list(ids)} for ids in prompts]
        greedy = SamplingParams(temperature=0.0, max_tokens=PARITY_TOKENS, logprobs=0)
        answers = [out.outputs[0] for out in self.llm.generate(asked, greedy, use_tqdm=False)]
        tokens = [list(answer.token_ids) for answer in answers]
        given = [step[token].logprob for a in answers for token, step in zip(a.token_ids, a.logprobs, strict=True)]
        trusted = self.settings.trusts_code
        found, best = teacher_forced(path, prompts, tokens, trusted)
        distance, to_previous = float(np.abs(found - given).mean()), None
        if previous is not None:
            before, _ = teacher_forced(previous, prompts, tokens, trusted)
            if not np.array_equal(before, found):
                to_previous = float(np.abs(before - given).mean())
        numbers = (float((best - found).max()), distance, to_previous)
        return Parity(*(number if number is None or math.isfinite(number) else math.inf for number in numbers))  # type: ignore[arg-type]

    # ---------------------------------------------------------------------------------------------------------- samples

    def sample(self, requests: pa.Table, sampling: Sampling, prompt: PromptSettings) -> pa.Table:
        """REQUEST rows -> COMPLETION rows, with the seeds and texts that the engines of an evaluation would give."""
        from vllm import SamplingParams

        assert self.model is not None, "use() comes first"
        path, rows = self._local(self.model), requests.select(REQUEST.names).to_pylist()
        trusted = self.settings.trusts_code
        tokenizer, ends = load_tokenizer(path, trusted), end_of_turn_ids(path, trusted)
        asked = [{"prompt_token_ids": prompt_ids(to_messages(r["problem"], prompt), tokenizer, prompt)} for r in rows]
        parameters = [SamplingParams(**sampling_params(row, sampling, ends)) for row in rows]
        found = []
        for row, output in zip(rows, self.llm.generate(asked, parameters, use_tqdm=False), strict=True):
            answer, tokens = output.outputs[0], list(output.outputs[0].token_ids)
            told = {"completion": prompt.prefix + answer.text, "num_tokens": len(tokens)}
            told["finish_reason"] = finish_reason(tokens, ends, sampling.loops)
            found.append({**row, **told, "prompt_tokens": len(output.prompt_token_ids)})
        return pa.Table.from_pylist(found, schema=COMPLETION)


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
