"""The policy: a Hugging Face causal language model whose forward pass takes a pack and returns log-probs.

The decoder and the head's loss both run inside `Policy.forward`, so that FSDP2, which gathers a module's weights around
its forward, gathers the head's too. Logits are never formed outside `redi_ray.modeling.logps`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from redi_ray.config.training import LoraSettings, ModelOverrides
from redi_ray.modeling.attention import NAME, PackLayout, pack_layout
from redi_ray.modeling.logps import HeadShape, per_token_logps, weighted_logps
from redi_ray.modeling.products import use_onednn

Coefficients = Tensor | Callable[[Tensor], Tensor]


class Policy(nn.Module):
    """`model` (a Hugging Face causal language model) over packs, its head fused with the loss."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        use_onednn(model)
        self.head_scale, self.head_softcap = _head_shape(model.config.get_text_config())
        self.sharded = False
        """Set by `shard_policy`: gradients then have to travel through autograd to be reduced."""

    @property
    def decoder(self) -> nn.Module:
        return self.model.get_decoder()

    @property
    def head_weight(self) -> Tensor:
        """`[V, d]`, tied to the embedding or not."""
        return self.model.get_output_embeddings().weight

    def hidden_states(self, input_ids: Tensor, position_ids: Tensor, layout: PackLayout) -> Tensor:
        """Final hidden states of a pack, `input_ids[T]` -> `[T, d]`."""
        # A mask that already has four dimensions is passed through by transformers, so that no T x T mask is built.
        unused = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=input_ids.device)
        return self.decoder(
            input_ids=input_ids[None],
            position_ids=position_ids[None],
            attention_mask=unused,
            use_cache=False,
            pack_layout=layout,
        ).last_hidden_state[0]

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        *,
        layout: PackLayout,
        rows: Tensor,
        targets: Tensor,
        coefficients: Coefficients | None = None,
        chunk_tokens: int = 512,
    ) -> tuple[Tensor, Tensor]:
        """Log-probs of a pack's scored tokens, and their weighted sum.

        Args:
            input_ids: `[T]` the pack's tokens, sequence after sequence.
            position_ids: `[T]`, starting at 0 with every sequence.
            layout: where sequences begin and end.
            rows: `[N]` positions in the pack whose next token is scored.
            targets: `[N]` those next tokens.
            coefficients: `[N]` d loss / d logp; or a function of the log-probs `[N]` that returns them, for losses whose
                coefficients depend on the scores; or None to score only.
            chunk_tokens: rows whose logits are held at a time.

        Returns: `(sum coefficients * logps [], logps [N])`; only the first carries gradient.
        """
        hidden = self.hidden_states(input_ids, position_ids, layout)[rows]
        weight = self.head_weight
        head = HeadShape(chunk_tokens, self.head_scale, self.head_softcap)
        if coefficients is None:
            logps = per_token_logps(hidden, weight, targets, head)
            return logps.new_zeros(()), logps
        if callable(coefficients):
            coefficients = coefficients(per_token_logps(hidden, weight, targets, head))
        return weighted_logps(hidden, weight, targets, coefficients, head, grad_weight=self._grad_buffer(weight))

    def _grad_buffer(self, weight: Tensor) -> Tensor | None:
        """The head weight's `.grad` to add to directly, where autograd need not see that gradient."""
        if self.sharded or not weight.requires_grad or not torch.is_grad_enabled():
            return None
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        return weight.grad


def _head_shape(config: PretrainedConfig) -> tuple[float, float | None]:
    """Scale and softcap of the logits of the architectures that have them; `check_exact` notices any other."""
    scale = getattr(config, "logit_scale", None) or 1.0  # Cohere
    scale /= getattr(config, "logits_scaling", None) or 1.0  # Granite
    return scale, getattr(config, "final_logit_softcapping", None)  # Gemma


def load_policy(
    path: str,
    overrides: ModelOverrides,
    *,
    dtype: torch.dtype = torch.float32,
    gradient_checkpointing: bool = False,
    compile: bool = False,
) -> Policy:
    """Load a Hugging Face folder (or hub name) on the CPU, with architecture overrides and adapters applied.

    `dtype` is that of the master weights. Raises ValueError, naming the reason, for a model the packed core would not
    compute exactly, and OSError where there is no model.
    """
    config = AutoConfig.from_pretrained(path, trust_remote_code=overrides.trust_remote_code)
    override_config(config, overrides)
    model = AutoModelForCausalLM.from_pretrained(
        path,
        config=config,
        dtype=dtype,
        attn_implementation=NAME,
        trust_remote_code=overrides.trust_remote_code,
    )
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise ValueError(f"{path}: the language-model head has a bias, which the fused head does not compute")
    policy = Policy(model)
    check_exact(policy)
    if overrides.lora is not None:
        add_lora(model, overrides.lora)
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy.train()
    if compile:
        for layer in decoder_layers(policy):
            layer.compile(dynamic=True)
    return policy


def override_config(config: PretrainedConfig, overrides: ModelOverrides) -> None:
    """Apply `rope_theta` and `max_position_embeddings` in place; ValueError where the architecture has no such thing."""
    if overrides.max_position_embeddings is not None:
        if not hasattr(config, "max_position_embeddings"):
            raise ValueError(f"{config.model_type} has no max_position_embeddings to override")
        config.max_position_embeddings = overrides.max_position_embeddings
    if overrides.rope_theta is not None:
        rope: Any = getattr(config, "rope_parameters", None)
        if not isinstance(rope, dict) or "rope_theta" not in rope:
            raise ValueError(f"{config.model_type} has no single rope_theta to override (rope_parameters: {rope})")
        config.rope_parameters = {**rope, "rope_theta": overrides.rope_theta}


def add_lora(model: PreTrainedModel, settings: LoraSettings) -> None:
    """Put low-rank adapters into the model in place and freeze everything else."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("model.lora needs peft: pip install peft") from error
    modules = settings.target_modules
    if modules == "all-linear":
        head = model.get_output_embeddings()
        modules = sorted(
            {
                name.rsplit(".", 1)[-1]
                for name, module in model.named_modules()
                if isinstance(module, nn.Linear) and module is not head
            }
        )
    options: dict[str, Any] = {"lora_alpha": settings.alpha, "lora_dropout": settings.dropout}
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)  # ranks keep a shard each of what must be one and the same tensor
        inject_adapter_in_model(LoraConfig(r=settings.rank, target_modules=list(modules), **options), model)
    if not isinstance(model.get_output_embeddings(), nn.Linear) or hasattr(model.get_output_embeddings(), "lora_A"):
        raise ValueError("model.lora.target_modules: the language-model head is fused with the loss; leave it out")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def decoder_layers(policy: Policy) -> Sequence[nn.Module]:
    """The decoder's layers, the units of sharding and compilation."""
    layers = getattr(policy.decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(f"{type(policy.decoder).__name__} has no `layers`; sharding and compilation need them")
    return list(layers)


@torch.no_grad()
def check_exact(policy: Policy) -> None:
    """Compare two short sequences in one pack with the model's own forward pass on each; ValueError if they differ.

    This is what refuses an architecture whose attention ignores our borders (state-space or linear layers), builds its
    positions itself, or does something unknown to its logits, instead of training on a wrong loss.
    """
    text_config, name = policy.model.config.get_text_config(), policy.model.config.model_type
    ids = torch.randint(0, text_config.vocab_size, (14,), generator=torch.Generator().manual_seed(0))
    parts = [ids[:9], ids[9:]]
    positions = torch.cat([torch.arange(len(part)) for part in parts])
    rows = torch.tensor([*range(8), *range(9, 13)])
    training = policy.training
    policy.eval()
    try:
        _, ours = policy(
            ids, positions, layout=pack_layout([len(part) for part in parts]), rows=rows, targets=ids[rows + 1]
        )
        logits = [policy.model(input_ids=part[None], use_cache=False).logits[0, :-1].double() for part in parts]
    except Exception as error:  # architectures fail in ways of their own on arguments they do not expect
        raise ValueError(f"{name}: this architecture does not run over packs of sequences ({error})") from error
    finally:
        policy.train(training)
    theirs = torch.cat(logits).log_softmax(-1).gather(1, ids[rows + 1, None])[:, 0]
    tolerance = 1e-3 if ours.dtype == policy.head_weight.dtype else 5e-2  # log-probs are wider than bfloat16 weights
    difference = float((ours.double() - theirs).abs().max())
    if not difference <= tolerance * max(1.0, float(theirs.abs().max())):
        raise ValueError(
            f"{name}: packed log-probs differ from the model's own by {difference:.3g} nats; "
            "its layers mix neighbouring sequences or its head is not a plain (scaled, soft-capped) product"
        )
