"""Development accuracy while training: the policy answers held-out problems between two steps, in place.

No copy of the model and no engine: the very weights that train are sampled with transformers' `generate`. The problems go
in fixed batches, dealt to the ranks in turn, so that what is sampled depends on the weights alone and not on the number of
ranks. Afterwards nothing tells that the policy was looked at: training ends with the same weights, bit for bit.

Under FSDP2 all parameters are gathered for as long as it takes and stay gathered between forward passes. Otherwise every
token would be a collective call, and ranks decode different numbers of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from transformers import GenerationConfig

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.training import ProbeSettings
from redi_ray.modeling.attention import pack_layout
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.tokenizer import read_completion
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids
from redi_ray.train.distributed import Distributed, from_all_ranks

Judge = Callable[[str, str, bool], bool]
"""(gold answer, completion, whether it ended by itself) -> whether its answer is right."""


@dataclass(frozen=True)
class DevProblem:
    """A development problem, ready to be asked."""

    prompt: tuple[int, ...]
    """Token ids, those of training and evaluation."""
    answer: str


def choose_problems(
    rows: Sequence[Mapping[str, Any]], tokenizer: Any, prompt: PromptSettings, count: int
) -> list[DevProblem]:
    """`count` of the rows (`problem_id, problem, answer`), the same ones whatever their order.

    Similar lengths stand together, since a batch is padded to its longest prompt.
    """
    ordered = sorted(rows, key=lambda row: hashlib.blake2b(row["problem_id"].encode(), digest_size=8).digest())
    found = [
        DevProblem(tuple(prompt_ids(to_messages(row["problem"], prompt), tokenizer, prompt)), row["answer"])
        for row in ordered[:count]
    ]
    return sorted(found, key=lambda problem: len(problem.prompt))


class Probe:
    """Made for `Hooks.on_step` of the loop: `dev_accuracy` at the steps where it is due. All ranks call it alike."""

    def __init__(
        self,
        policy: Policy,
        problems: Sequence[DevProblem],
        judge: Judge,
        settings: ProbeSettings,
        *,
        tokenizer: Any,
        end_ids: frozenset[int],
        prefix: str,
        total_steps: int,
        distributed: Distributed | None = None,
    ) -> None:
        """`end_ids` end a completion, `prefix` is the forced one, which its text is judged with. Raises ValueError
        without problems."""
        if not problems:
            raise ValueError("a probe needs at least one development problem")
        self.policy, self.judge, self.settings = policy, judge, settings
        self.tokenizer, self.end_ids, self.prefix = tokenizer, end_ids, prefix
        self.last_step, self.who = total_steps - 1, distributed or Distributed()
        size = settings.batch_size
        self.batches = [problems[start : start + size] for start in range(0, len(problems), size)]

    def __call__(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        due = step in (0, self.last_step) or (step + 1) % self.settings.every == 0
        return {"dev_accuracy": self.accuracy(step)} if due else {}

    def accuracy(self, step: int) -> float:
        """Share of the problems that the policy answers right. A collective call."""
        mine = [number for number in range(len(self.batches)) if number % self.who.world_size == self.who.rank]
        devices = [self.who.device] if self.who.device.type == "cuda" else []
        with answering(self.policy), torch.random.fork_rng(devices):
            # a rank without a batch must run the model all the same, see `answering`
            answers = [(number, self._answer(number, step)) for number in mine or [0]]
        right = [
            self.judge(problem.answer, completion, finished)
            for number, completions in answers[: len(mine)]
            for problem, (completion, finished) in zip(self.batches[number], completions, strict=True)
        ]
        verdicts = [verdict for rank in from_all_ranks(right) for verdict in rank]
        return sum(verdicts) / len(verdicts)

    def _answer(self, number: int, step: int) -> list[tuple[str, bool]]:
        """Completions of a batch, with the forced prefix, and whether each ended before `max_tokens`."""
        prompts = [problem.prompt for problem in self.batches[number]]
        width, pad = max(map(len, prompts)), min(self.end_ids)
        ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        torch.manual_seed((((self.settings.seed << 24) + step << 12) + number) % 2**62)
        model: Any = self.policy.model
        tokens = model.generate(
            input_ids=ids.to(self.who.device),
            attention_mask=mask.to(self.who.device),
            generation_config=self._generation_config(pad),
            synced_gpus=False,
        )
        return [self._read(row) for row in tokens[:, width:].tolist()]

    def _generation_config(self, pad: int) -> GenerationConfig:
        sampling: dict[str, Any] = {"do_sample": False}
        if self.settings.temperature > 0:
            # a diverged model must not end the run in the sampler: the loop has its own way to say so
            sampling = {"do_sample": True, "temperature": self.settings.temperature, "remove_invalid_values": True}
            sampling |= {"top_k": 0, "top_p": 1.0}
        ends = sorted(self.end_ids)
        return GenerationConfig(
            max_new_tokens=self.settings.max_tokens, eos_token_id=ends, pad_token_id=pad, **sampling
        )

    def _read(self, tokens: list[int]) -> tuple[str, bool]:
        text, ended = read_completion(tokens, self.tokenizer, self.end_ids)
        return self.prefix + text, ended


@contextmanager
def answering(policy: Policy) -> Iterator[None]:
    """Inside the block the policy's model can `generate`; behind it the policy is as it was. A collective call.

    Every rank must run the model in it at least once: FSDP2 notes the order of forward passes and prefetches by it in the
    next backward pass, so ranks with different notes would wait for each other for ever.
    """
    units = [module for module in policy.modules() if isinstance(module, FSDPModule)]
    layers = [unit for unit in units if unit is not policy]
    modes = [(module, module.training) for module in policy.modules()]
    own_config = policy.model.generation_config
    policy.eval()
    policy.model.generation_config = GenerationConfig()  # or its top-k, repetition penalty ... would join ours
    for layer in layers:
        layer.set_reshard_after_forward(False, recurse=False)
    try:
        # layers are compiled for packs; every other length of a batch would compile them again
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            if units:
                _gather(policy)
            yield
    finally:
        for layer in layers:
            layer.set_reshard_after_forward(not policy.keep_gathered, recurse=False)
        for unit in units:
            unit.reshard()
        policy.model.generation_config = own_config
        for module, mode in modes:
            module.training = mode


def _gather(policy: Policy) -> None:
    """Send one token through: FSDP2 gathers every parameter on its way, and learns in the first such pass what the root is."""
    device = policy.head_weight.device
    one, none = torch.zeros(1, dtype=torch.int64, device=device), torch.zeros(0, dtype=torch.int64, device=device)
    policy(one, one, layout=pack_layout([1]).to(device), rows=none, targets=none)
