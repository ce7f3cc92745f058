"""Bytes that a training rank holds, as this trainer holds them, and the token budget that fits.

W ranks share everything that lasts (FSDP2): float32 master weights, gradients, two moments. A pack of T tokens adds what is
gathered while it runs (embedding and head in full, two layers at a time), the activations, and the head's gradient, which is
summed in float32. What `redi_ray.modeling.logps` holds of the logits is one chunk, whatever T is. With b bytes a value, width
d, attention widths q and kv, MLP width i and h heads, a layer keeps for its backward pass, per token:

    two norms       2 (4 d + 2 b d)          input in float32, normalised, output
    attention       b (2 q + 2 kv) + 4 h     query, key, value, output, log-sum-exp
    MLP             4 b i                    gate, its activation, up, product

With gradient checkpointing a layer keeps its input, b d, and one layer at a time is computed again. With `keep_gathered` all
weights are there at once, and on several ranks all gradients in full. `tests/plan/test_memory.py` holds this against what torch
saves, and against what was measured on a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from redi_ray.config.training import LoraSettings, TrainSettings
from redi_ray.plan.shapes import ModelShape

MOST_RANKS = 4096
"""More are not tried."""
BUDGET_STEP = 256
"""Token budgets are rounded down to a multiple of it."""


@dataclass(frozen=True)
class Setup:
    """What decides a rank's memory but the number of tokens and ranks."""

    shape: ModelShape
    bf16: bool
    """Computation in bfloat16; the masters are float32 either way."""
    checkpointing: bool
    head_chunk_tokens: int
    lora: LoraSettings | None = None
    keep_gathered: bool = False
    anchored: bool = False
    """Whether a frozen model of the same shape is held beside the policy, whole on every rank (`kl_vocabulary`)."""

    @classmethod
    def of(
        cls,
        shape: ModelShape,
        settings: TrainSettings,
        use_gpu: bool,
        lora: LoraSettings | None,
        anchored: bool = False,
    ) -> Setup:
        bf16 = settings.precision == "bf16" or (settings.precision == "auto" and use_gpu)
        chunk, kept = settings.head_chunk_tokens, settings.keep_gathered
        return cls(shape, bf16, settings.gradient_checkpointing, chunk, lora, kept, anchored)

    @property
    def value_bytes(self) -> int:
        return 2 if self.bf16 else 4

    @property
    def trained(self) -> int:
        """Parameters with gradient and moments."""
        if self.lora is None:
            return self.shape.parameters
        return self.shape.adapter_parameters(self.lora.rank, self.lora.target_modules)

    @property
    def stored(self) -> int:
        """Parameters held at all."""
        return self.shape.parameters + (self.trained if self.lora else 0)


@dataclass(frozen=True)
class RankMemory:
    """One rank's bytes, by what they are for."""

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    """Weights gathered by FSDP, and a layer's gradient before it is reduced."""
    activations: float
    head: float
    """A chunk of logits, and the gradients of the head's weight and input."""
    optimizer_step: float
    """What the update's norm holds for a moment, when activations are gone; AdamW itself works in place."""

    @property
    def state(self) -> float:
        """What lasts."""
        return self.weights + self.gradients + self.optimizer

    @property
    def peak(self) -> float:
        """The larger of the forward and backward pass and the optimizer's step."""
        return self.state + max(self.gathered + self.activations + self.head, self.optimizer_step)


def layer_bytes(shape: ModelShape, value_bytes: int) -> float:
    """What a layer keeps for its backward pass, per token."""
    norms = 2.0 * (4 + 2 * value_bytes) * shape.hidden_size
    attention = value_bytes * 2.0 * (shape.query_size + shape.kv_size) + 4 * shape.num_heads
    return norms + attention + value_bytes * 4.0 * shape.intermediate_size


def activation_bytes(setup: Setup) -> float:
    """All layers and the last norm, per token, with the gradients that live while one layer's backward pass runs."""
    shape, b = setup.shape, setup.value_bytes
    kept = shape.num_layers * layer_bytes(shape, b)
    if setup.checkpointing:
        kept = shape.num_layers * b * shape.hidden_size + layer_bytes(shape, b)
    in_flight = b * (2 * shape.intermediate_size + 2 * shape.hidden_size)
    return kept + (4 + 2 * b) * shape.hidden_size + in_flight


def rank_memory(setup: Setup, tokens: int, ranks: int) -> RankMemory:
    """Of a rank among `ranks` whose longest pack has `tokens` tokens, all of them scored."""
    shape, b = setup.shape, setup.value_bytes
    sharded = ranks > 1 or setup.bf16
    frozen = setup.lora is not None
    gathered = 0.0
    if sharded:
        layer, reduced = shape.layer_parameters, 4 if setup.bf16 else 0
        gathered = b * shape.root_parameters + 2.0 * b * layer + (0 if frozen else (b + reduced) * layer)
        if setup.keep_gathered:  # and on several ranks gradients that are not reduced, beside the reduced ones
            gathered = 1.0 * b * setup.stored + (4.0 * setup.trained if ranks > 1 else 0.0)
    weight = shape.embedding_parameters
    head = min(setup.head_chunk_tokens, tokens) * shape.vocab_size * (4.0 + (2 if setup.bf16 else 0))
    head += 2.0 * b * shape.hidden_size * tokens
    if sharded and not frozen:
        head += (4.0 + b) * weight  # summed in float32, then cast to what travels through autograd
    if setup.anchored:  # both models' logits of a chunk in float32, and what is made of them
        head += 4 * 4.0 * min(setup.head_chunk_tokens, tokens) * shape.vocab_size
    largest = max(weight, *(inputs * outputs for inputs, outputs in shape.linears.values()))
    return RankMemory(
        weights=4.0 * setup.stored / ranks + (b * shape.parameters if setup.anchored else 0.0),
        gradients=4.0 * setup.trained / ranks,
        optimizer=8.0 * setup.trained / ranks,
        gathered=gathered,
        activations=activation_bytes(setup) * tokens,
        head=head,
        optimizer_step=2 * 4.0 * min(largest, setup.trained) / ranks,
    )


def largest_budget(setup: Setup, ranks: int, room: float) -> int:
    """Most tokens of a pack whose peak is within `room` bytes, a multiple of BUDGET_STEP; 0 if not even that many fit."""
    low, high = 0, 1 << 22  # in steps
    while low < high:
        middle = (low + high + 1) // 2
        if rank_memory(setup, middle * BUDGET_STEP, ranks).peak <= room:
            low = middle
        else:
            high = middle - 1
    return low * BUDGET_STEP


def ranks_needed(setup: Setup, tokens: int, room: float) -> int | None:
    """Smallest power of two of ranks with which packs of `tokens` fit into `room` bytes; None if no number does."""
    for power in range(int(math.log2(MOST_RANKS)) + 1):
        if rank_memory(setup, tokens, 2**power).peak <= room:
            return 2**power
    return None


def shortest_way(setup: Setup, room: float) -> tuple[int, int]:
    """(ranks, tokens): the fewest ranks that hold at least half the pack that ever so many would, and that pack's tokens.

    For packs that no number of ranks holds. Tokens are 0 if nothing fits at all.
    """
    most = largest_budget(setup, MOST_RANKS, room)
    for power in range(int(math.log2(MOST_RANKS)) + 1):
        if (budget := largest_budget(setup, 2**power, room)) >= most / 2:
            return 2**power, budget
    return MOST_RANKS, most
