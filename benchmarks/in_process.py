"""What the benchmarks of learning share: a small model that is trained and sampled in this process, without Ray or an engine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from redi_ray.config.student import Architecture
from redi_ray.config.training import CollapseGuard, ModelOverrides, TrainSettings
from redi_ray.modeling.policy import Policy, load_policy
from redi_ray.modeling.scratch import save_scratch_model
from redi_ray.stages.encoding import Encoder
from redi_ray.stages.groups import Group
from redi_ray.train.mismatched import mismatched_sequences
from redi_ray.train.probe import answering
from redi_ray.train.records import SequenceRecord
from redi_ray.train.references import reference_logps
from redi_ray.train.sequences import REFERENCE, SequenceStore

BATCH = 500
"""Sequences that are sampled side by side."""
SAMPLING = {"teacher": (1.0, 1.0), "evaluation": (0.6, 0.95)}
"""Temperature and top-p of the teacher's traces, and the paper's for evaluation."""
TOKENS_PER_PACK = 4096


@dataclass(frozen=True)
class Said:
    """What a model said behind a prompt."""

    text: str
    ended_by: int | None
    """The token that ended it, which is not in the text; None where it was cut off."""
    tokens: int
    """Sampled, the ending one among them."""


def settings(learning_rate: float, epochs: int, seed: int, batch_size: int = 16, **more: Any) -> TrainSettings:
    return TrainSettings(
        learning_rate=learning_rate,
        epochs=epochs,
        seed=seed,
        batch_size=batch_size,
        tokens_per_pack=TOKENS_PER_PACK,
        max_length=256,
        guard=CollapseGuard(action="warn"),
        **more,
    )


def random_model(architecture: Architecture, tokenizer: Any) -> Policy:
    """Random weights, those of the architecture's seed."""
    with tempfile.TemporaryDirectory() as folder:
        save_scratch_model(architecture, tokenizer, folder)
        return load_policy(folder, ModelOverrides())


def draw(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    tokenizer: Any,
    kind: str,
    seed: int,
    *,
    ends: Iterable[int] = (),
    max_tokens: int = 80,
) -> list[Said]:
    """What the policy says behind each prompt. ends: tokens that end a text beside the tokenizer's own."""
    temperature, top_p = SAMPLING[kind]
    pad, stops = tokenizer.eos_token_id, {tokenizer.eos_token_id, *ends}
    told = GenerationConfig(
        max_new_tokens=max_tokens,
        do_sample=True,
        temperature=temperature,
        top_p=top_p,
        top_k=0,
        eos_token_id=sorted(stops),
        pad_token_id=pad,
        remove_invalid_values=True,  # a collapsed model is to be scored, not to end the benchmark
    )
    torch.manual_seed(seed)
    model: Any = policy.model
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    found: dict[int, Said] = {}
    with answering(policy):
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            width = max(len(prompts[place]) for place in places)
            short = [width - len(prompts[place]) for place in places]
            rows = [[pad] * less + list(prompts[place]) for less, place in zip(short, places, strict=True)]
            mask = torch.tensor([[0] * less + [1] * (width - less) for less in short])
            tokens = model.generate(input_ids=torch.tensor(rows), attention_mask=mask, generation_config=told)
            for place, row in zip(places, tokens[:, width:].tolist(), strict=True):
                found[place] = _read(row, tokenizer, stops)
    return [found[place] for place in range(len(prompts))]


def _read(row: list[int], tokenizer: Any, stops: set[int]) -> Said:
    end = next((at for at, token in enumerate(row) if token in stops), None)
    text = tokenizer.decode(row[:end], skip_special_tokens=False)
    return Said(text, None if end is None else row[end], len(row) if end is None else end + 1)


def store_of_groups(groups: Iterable[Group], encoder: Encoder) -> SequenceStore:
    """Groups as they are trained on."""
    return SequenceStore.from_records(
        SequenceRecord(
            number,
            one.side,
            one.tokens.tolist(),
            one.prompt_length,
            one.weights.tolist(),
            reward=reward_of(one.rewards),
        )
        for number, group in enumerate(groups)
        for one in encoder.group(group)
    )


def reward_of(rewards: np.ndarray) -> list[float] | None:
    """Of a sequence's units; None where it has none."""
    return rewards.tolist() if np.isfinite(rewards).all() else None


def with_references(store: SequenceStore, reference: Policy, *, mismatched: bool = False) -> SequenceStore:
    """The same sequences with the reference's log-probs. mismatched: beside those of other problems' completions, for KTO."""
    index, values = reference_logps(
        reference.eval(), store, np.arange(len(store)), tokens_per_pack=TOKENS_PER_PACK, chunk_tokens=512
    )
    filled = np.zeros(len(store.tokens), dtype=np.float32)
    filled[index] = values
    found = store.with_column(REFERENCE, filled)
    return found.with_mismatched(with_references(mismatched_sequences(store), reference)) if mismatched else found
