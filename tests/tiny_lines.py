"""Teaching a model of 0.1 million parameters what it is to say, in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

from redi_ray.config.student import Architecture
from redi_ray.modeling.scratch import save_scratch_model

Line = tuple[Sequence[int], Sequence[float]]
"""Token ids of a chat, and as many weights: 0 where nothing is learnt."""


def teach(folder: Path, tokenizer: Any, batches: Iterable[Sequence[Line]], learning_rate: float) -> str:
    """Train on the batches, a step each, and save it as a Hugging Face folder. Fails if it has not learnt its lines."""
    save_scratch_model(Architecture(hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=2), tokenizer, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    for lines in batches:
        ids = pad_sequence(
            [torch.tensor(ids) for ids, _ in lines], batch_first=True, padding_value=tokenizer.pad_token_id
        )
        weights = pad_sequence([torch.tensor(weights) for _, weights in lines], batch_first=True)
        loss = model(input_ids=ids, labels=ids.masked_fill(weights == 0, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02, f"it has not learnt its lines: loss {loss.item():.3f}"
    model.save_pretrained(folder)
    return str(folder)
