"""A tiny model and random sequences, shared by the tests of the training core."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from redi_ray.modeling.attention import NAME
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.soft_columns import SoftFormat, pack
from redi_ray.train.mismatched import mismatched_sequences
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore

VOCABULARY = 61


def tiny_config(tied: bool = True, hidden: int = 32, layers: int = 2) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
    )


def tiny_model(tied: bool = True, dtype: torch.dtype = torch.float64, seed: int = 0) -> PreTrainedModel:
    """A Qwen2 (tied head) or a Llama (untied), weights larger than usual so that nothing is nearly uniform.

    transformers' RMSNorm computes in float32 whatever the model's type; torch's replaces it, so that float64 is float64.
    """
    torch.manual_seed(seed)
    config = tiny_config(tied)
    if not tied:
        config = LlamaConfig(
            **{k: v for k, v in config.to_diff_dict().items() if k not in ("model_type", "layer_types")}
        )
    config._attn_implementation = NAME
    model = (Qwen2ForCausalLM if tied else LlamaForCausalLM)(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(3.0)
            elif "norm" not in name:
                parameter.normal_(0, 0.1)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child).__name__.endswith("RMSNorm"):
                norm = nn.RMSNorm(len(child.weight), eps=child.variance_epsilon)
                norm.weight = child.weight
                setattr(parent, name, norm)
    return model.to(dtype)


def tiny_policy(tied: bool = True, dtype: torch.dtype = torch.float64, seed: int = 0) -> Policy:
    return Policy(tiny_model(tied, dtype, seed)).train()


def tiny_store(
    num_pairs: int = 6,
    seed: int = 1,
    longest: int = 40,
    reference: bool = True,
    weighted: bool = False,
    units: bool = False,
) -> SequenceStore:
    """Pairs with a shared prompt, lengths of both sides unrelated, some completion tokens masked out, a reward for each side.

    With a reference, made-up log-probs of it are there for the pairs and for their mismatched sequences, and for the pairs those
    of a sampler and of a teacher, its distributions and the means of a token reward model. `weighted`: tokens weigh between 0.5
    and 1.5 where they are scored. `units`: completions have one to four units, a reward for each.
    """
    rng, more, beside, taught = (np.random.default_rng(key) for key in (seed, [seed, 1], [seed, 2], [seed, 3]))
    records = []
    for group in range(num_pairs):
        prompt = rng.integers(0, VOCABULARY, rng.integers(1, 6)).tolist()
        for side in (1, -1):
            completion = rng.integers(0, VOCABULARY, rng.integers(2, longest - 6)).tolist()
            ids = prompt + completion
            mask = (rng.random(len(ids)) < 0.8).astype(int)
            mask[-1] = 1
            # Below what random weights give, so that log-ratios are above 0 on the average and KTO's clamp leaves them alone.
            logps = rng.normal(-8, 0.3, len(ids))
            weights = mask * more.uniform(0.5, 1.5, len(ids)) if weighted else mask
            unit = np.zeros(len(ids), dtype=int)
            if units:
                scored = len(prompt) + np.flatnonzero(mask[len(prompt) :])
                unit[scored] = np.arange(len(scored)) * min(1 + len(records) % 4, len(scored)) // len(scored)
            reward = more.normal(0.5 if side > 0 else 0, 0.2, unit.max() + 1).tolist()
            columns = {"ref_logps": logps, **sampled_columns(logps, beside)} if reference else {}
            columns |= taught_columns(logps, taught) if reference else {}
            records.append(
                SequenceRecord(
                    group, side, ids, len(prompt), weights.tolist(), unit.tolist(), reward=reward, columns=columns
                )
            )
    store = SequenceStore.from_records(records)
    if not reference:
        return store
    mismatched = mismatched_sequences(store)
    column = rng.normal(-8, 0.3, len(mismatched.tokens)).astype(np.float32)
    return store.with_mismatched(mismatched.with_column("ref_logps", column))


def taught_columns(logps: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A teacher's log-probs, and its distributions over the next token: four tokens and the rest."""
    ids = np.stack([rng.permutation(VOCABULARY)[:4] for _ in logps])
    shares = np.log(rng.dirichlet(np.full(5, 0.5), len(logps)) + 1e-6)
    return {
        "teacher_logps": logps / 2 + rng.normal(0, 1, len(logps)),
        "soft_targets": pack(ids, shares, SoftFormat(4, VOCABULARY)),
    }


def sampled_columns(logps: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The sampler's log-probs, which are about as large as the policy's, so that ratios bend on both sides of 1; and a reward
    model's means."""
    return {
        "sampler_logps": logps / 2 + rng.normal(0, 1, len(logps)),
        "reward_mean": rng.normal(0, 1, len(logps)),
    }
