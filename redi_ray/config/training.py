"""Settings of the training core, as plain frozen dataclasses.

They are standard library only, so the core (`objectives`, `modeling`, `train`) runs where just torch and transformers
are installed. `redi_ray.config.experiment` embeds them in the YAML schema: pydantic reads `__pydantic_config__`, refuses
unknown keys and turns the ValueErrors of `__post_init__` into errors that name the field's path.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal

from redi_ray.config.strict import STRICT, require, told_together


@dataclass(frozen=True, kw_only=True)
class CollapseGuard:
    """Watches log-prob slopes, the norms of update and gradient, and development accuracy together.

    A falling chosen log-prob alone is normal in a good REDI run and never trips the guard.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    action: Literal["off", "warn", "stop", "rollback"] = "warn"
    """What a tripped guard does; `rollback` ends the run at the newest checkpoint from before the collapse began."""
    window: int = 20
    """Steps over which slopes are fitted and norms are averaged."""
    chosen_drop: float = 0.3
    """Fall of both mean log-probs (nats per token) within a window that counts as a plunge."""
    norm_surge: float = 1.5
    """Update norm per unit of learning rate, or gradient norm, relative to its early median, that counts as a surge. Where
    a probe measures development accuracy, its fall is asked for instead."""
    accuracy_drop: float = 0.05
    """Fall of the development accuracy below its best that counts, where a probe measures it. Set it above the probe's
    noise: with n problems and accuracy p the standard error is sqrt(p (1 - p) / n), 0.05 at p = 0.8 and n = 64."""
    accuracy_collapse: float = 0.25
    """Fall of the development accuracy below its best that is a collapse alone, at two measurements in a row."""

    @told_together
    def __post_init__(self) -> None:
        require(self.window >= 2, f"window must be >= 2, got {self.window}")
        require(self.chosen_drop > 0, f"chosen_drop must be > 0, got {self.chosen_drop}")
        require(self.norm_surge > 1, f"norm_surge must be > 1, got {self.norm_surge}")
        for name in ("accuracy_drop", "accuracy_collapse"):
            require(0 <= getattr(self, name) < 1, f"{name} must be in [0, 1), got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """Development accuracy while training: between steps, the policy itself answers held-out problems, one sample each.

    It is logged as `dev_accuracy`, and the collapse guard hears of it. The weights are not changed by it. Sampling is
    transformers' own, on the training workers, each of which holds all parameters meanwhile: good for short answers, or
    for rare looks at long ones.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    every: int = 50
    """Steps between two measurements; there is one after the first step and one after the last, too."""
    problems: int = 64
    """Development problems to answer, chosen by a hash of their ids; all of them if there are fewer."""
    max_tokens: int = 512
    """Longest answer in tokens; one that is cut off there is judged as in the evaluation."""
    temperature: float = 0.0
    """Sampling temperature; 0 is greedy."""
    batch_size: int = 16
    """Problems answered at a time on one rank. Batches are dealt to the ranks in turn, so a rank may have nothing to do
    where there are fewer than ranks; their members do not depend on the number of ranks."""
    seed: int = 0
    """Of the samples, where the temperature is not 0."""

    @told_together
    def __post_init__(self) -> None:
        for name in ("every", "problems", "max_tokens", "batch_size"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        require(self.temperature >= 0, f"temperature must be >= 0, got {self.temperature}")


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters (peft). The export merges them, so that every consumer sees a plain model."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    rank: int = 16
    """Rank of the update."""
    alpha: float = 32.0
    """Scale: the update is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Dropout in front of the adapter."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Module names that get an adapter."""
    seed: int = 0
    """Of the adapters' initial values, which are the same on all ranks and in every attempt."""

    @told_together
    def __post_init__(self) -> None:
        require(self.rank >= 1, f"rank must be >= 1, got {self.rank}")
        require(0 <= self.dropout < 1, f"dropout must be in [0, 1), got {self.dropout}")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training stage: optimizer, schedule, batches, packing, checkpoints. The objective is set beside it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    learning_rate: float = 1e-5
    """Peak learning rate of AdamW."""
    lr_schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Shape of the decay after the warm-up."""
    warmup_ratio: float = 0.1
    """Share of all steps spent on linear warm-up."""
    min_lr_ratio: float = 0.0
    """The decay ends at this share of the peak."""
    weight_decay: float = 1e-4
    """Decoupled weight decay, on embeddings and on what is multiplied with as a matrix; norms and biases of any shape are
    spared."""
    adam_beta1: float = 0.9
    """First-moment decay."""
    adam_beta2: float = 0.999
    """Second-moment decay."""
    adam_eps: float = 1e-8
    """Added to the root of the second moment."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this global norm; 0 turns clipping off."""
    batch_size: int = 32
    """Groups (pairs, or single examples) per optimizer step, over all ranks. A step's members depend on seed and step alone."""
    epochs: int = 1
    """Passes over the data; the last incomplete batch of a pass is kept."""
    max_steps: int | None = None
    """Stops earlier than `epochs` would. The schedule then spans `max_steps`."""
    max_length: int = 32768
    """Longest sequence in tokens, prompt included."""
    on_too_long: Literal["error", "drop", "truncate"] = "error"
    """What happens to a sequence longer than `max_length`: `truncate` cuts the completion's end (and its end-of-turn token),
    `drop` leaves its whole group out, with a count."""
    tokens_per_pack: int = 16384
    """Token budget of one packed row, the unit of a forward pass."""
    on_oversized: Literal["own_pack", "error"] = "own_pack"
    """What happens to a sequence within `max_length` but longer than `tokens_per_pack`: a pack of its own, which needs more
    memory than the others, or an error before the first step that names it."""
    head_chunk_tokens: int = 512
    """Scored tokens whose logits are held at a time."""
    mask_rejected_end_of_turn: bool = False
    """Do not push down the end-of-turn token of rejected traces."""
    mask_rejected_think_tags: bool = False
    """Do not push down `<think>` and `</think>` in rejected traces: no token that holds a part of one."""
    outside_spans: Literal[0, 1] = 0
    """What the tokens weigh that are in none of a member's spans, where it has any: 0 scores the spans alone, 1 the rest too."""
    units: Literal["sequence", "turns", "spans"] = "sequence"
    """What has a score of its own, for objectives that read several of a sequence: the sequence, each of the model's turns, or
    each span, whose value is then its reward."""
    gradient_checkpointing: bool = False
    """Recompute activations layer by layer in the backward pass."""
    compile: bool = False
    """Compile each decoder layer with torch.compile."""
    keep_gathered: bool = False
    """Keep the weights gathered, and the gradients unreduced, over all packs of a step instead of for each: less traffic for
    six more bytes a parameter and GPU."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Parameters' compute type under FSDP; master weights stay fp32. `auto` is bf16 on GPU and fp32 on CPU."""
    checkpoint_every: int = 0
    """Steps between checkpoints; 0 saves at the end only."""
    keep_last: int = 2
    """Checkpoints kept while training; the final one always stays."""
    keep_best: Literal["dev_accuracy", "pair_accuracy", "margin"] | None = None
    """A metric: the checkpoint with its highest value is kept besides `keep_last`, and named in the manifest. `dev_accuracy`
    needs a probe that measures at every checkpoint."""
    export: Literal["last", "best"] = "last"
    """Which weights are exported: those of the last step, or of the checkpoint that `keep_best` keeps."""
    export_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the exported weights; `auto` is the compute type. bfloat16 has 8 bits: of updates at small learning rates most
    are rounded away (the manifest says how many, as `rounding`), and engines round alike unless their `dtype` is float32. What
    another training starts from is kept in float32 either way."""
    patience: int | None = None
    """Training ends after so many steps without a better value of `keep_best` at a checkpoint; null waits for the last step."""
    on_nonfinite: Literal["skip", "stop"] = "stop"
    """When the loss or the gradient is not finite on any rank, all ranks skip the step or stop; nothing is saved from it."""
    guard: CollapseGuard = field(default_factory=CollapseGuard)
    """The collapse guard."""
    probe: ProbeSettings | None = None
    """Development accuracy while training; null measures none. Needs a development split (`problems.dev`, or `num_dev` of
    the built-in world)."""
    seed: int = 42
    """Order of the data."""

    def steps_per_epoch(self, groups: int) -> int:
        """Optimizer steps of a pass over so many groups, the last of which may be smaller."""
        return -(-groups // self.batch_size)

    def total_steps(self, groups: int) -> int:
        """Optimizer steps of a training on so many groups."""
        steps = self.epochs * self.steps_per_epoch(groups)
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def identity(self) -> dict[str, Any]:
        """What decides the weights. Checkpoints do where a run may end or go back to one of them."""
        how = {"compile", "keep_gathered"}
        if self.guard.action != "rollback":
            how |= {"keep_last"}
            if self.keep_best is None:
                how |= {"checkpoint_every"}
        return {name: value for name, value in asdict(self).items() if name not in how}

    @told_together
    def __post_init__(self) -> None:
        require(self.learning_rate > 0, f"learning_rate must be > 0, got {self.learning_rate}")
        for name in ("adam_beta1", "adam_beta2"):
            require(0 <= getattr(self, name) < 1, f"{name} must be in [0, 1), got {getattr(self, name)}")
        require(self.adam_eps > 0, f"adam_eps must be > 0, got {self.adam_eps}")
        require(0 <= self.warmup_ratio < 1, f"warmup_ratio must be in [0, 1), got {self.warmup_ratio}")
        require(0 <= self.min_lr_ratio <= 1, f"min_lr_ratio must be in [0, 1], got {self.min_lr_ratio}")
        require(self.weight_decay >= 0, f"weight_decay must be >= 0, got {self.weight_decay}")
        require(self.max_grad_norm >= 0, f"max_grad_norm must be >= 0, got {self.max_grad_norm}")
        require(
            self.units != "spans" or self.outside_spans == 0,
            "units: spans scores nothing but the spans: outside_spans must be 0",
        )
        for name in ("batch_size", "epochs", "max_length", "tokens_per_pack", "head_chunk_tokens", "keep_last"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        require(self.max_steps is None or self.max_steps >= 1, f"max_steps must be >= 1, got {self.max_steps}")
        require(self.checkpoint_every >= 0, f"checkpoint_every must be >= 0, got {self.checkpoint_every}")
        require(
            self.keep_best is None or self.checkpoint_every > 0,
            "keep_best needs checkpoints to choose from: set checkpoint_every",
        )
        chosen = self.keep_best is not None
        require(self.export == "last" or chosen, "export: best needs a metric to go by: set keep_best")
        require(self.patience is None or chosen, "patience needs a metric to go by: set keep_best")
        require(self.patience is None or self.patience >= 1, f"patience must be >= 1, got {self.patience}")
        if self.keep_best == "dev_accuracy":
            measured = self.probe is not None and self.checkpoint_every % self.probe.every == 0
            require(measured, "keep_best: dev_accuracy needs a probe, and checkpoint_every a multiple of probe.every")


@dataclass(frozen=True, kw_only=True)
class ModelOverrides:
    """Changes to a loaded model's architecture config, and adapters."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    rope_theta: float | None = None
    """Base of the rotary embedding (the paper sets 300000 to reach 32k tokens)."""
    max_position_embeddings: int | None = None
    """Longest position (the paper sets 32768)."""
    lora: LoraSettings | None = None
    """Train low-rank adapters instead of all weights."""
    dropout: bool = False
    """Train with the dropout that the model's config asks for. It is off otherwise, as with other preference trainers: with
    it, log-probs differ from those of a reference even where the weights do not."""
    trust_remote_code: bool = False
    """Run code that ships with the model. Leave it off unless you have read that code. Engines are told by `trust_remote_code`
    in their own `engine_kwargs`, those of a teacher or a judge too."""

    @property
    def scoring(self) -> ModelOverrides:
        """What a pass that trains nothing takes: an exported model has its adapters merged, and nothing is dropped out."""
        return replace(self, lora=None, dropout=False)

    @property
    def unstretched(self) -> ModelOverrides:
        """The same for a model whose positions stay as they are."""
        return replace(self, rope_theta=None, max_position_embeddings=None)
