"""The policy: a Hugging Face causal language model whose forward pass takes a pack and returns log-probs.

Where the architecture allows it the pack is one row; otherwise its sequences go through the decoder one by one, which is
exact for every causal decoder and slower (`redi_ray.modeling.exact` finds out which).

The decoder and the head's loss both run inside `Policy.forward`, so that FSDP2, which gathers a module's weights around
its forward, gathers the head's too. Logits are never formed outside `redi_ray.modeling.logps`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from redi_ray.config.training import ModelOverrides
from redi_ray.modeling.attention import PackLayout
from redi_ray.modeling.dropout import silence
from redi_ray.modeling.exact import Way, check_exact, reset_positions, way_of
from redi_ray.modeling.logps import HeadShape, Local, per_token_logps, weighted_logps
from redi_ray.modeling.lora import add_lora
from redi_ray.modeling.products import use_fast_products
from redi_ray.modeling.pull import Pull
from redi_ray.modeling.soft_targets import SoftTargets

Coefficients = Tensor | Callable[[Tensor], Tensor]

DUMMY_TOKENS = 8
"""Length of a sequence that is only there for other ranks' sake."""


class Policy(nn.Module):
    """`model` (a Hugging Face causal language model) over packs, its head fused with the loss."""

    auto: Any = AutoModelForCausalLM
    """What transformers makes such models with."""

    def __init__(self, model: PreTrainedModel, one_by_one: bool = False, quiet: bool = True) -> None:
        super().__init__()
        self.model, self.one_by_one, self.quiet = model, one_by_one, quiet
        use_fast_products(model)
        self.head_scale, self.head_softcap = _head_shape(model.config.get_text_config())
        self.sharded = False
        """Set by `shard_policy`: gradients then have to travel through autograd to be reduced."""
        self.keep_gathered = False
        """Set by `shard_policy`: the packs of a step share one gathering of the weights."""
        self.silenced: dict[str, float] = {}
        """Dropout of the model's config that is off while it trains, by key; an export has it again."""
        self.notes: list[str] = []
        """What a user should know of how this model trains."""

    def train(self, mode: bool = True) -> Policy:
        """As torch's; a quiet policy leaves in evaluation mode all but adapters and what recomputes its activations, since
        some routers draw experts at random in training mode, whatever the config says."""
        super().train(mode)
        for name, module in self.model.named_modules() if mode and self.quiet else ():
            module.training = hasattr(module, "gradient_checkpointing") or "lora_" in name
        return self

    @property
    def is_random(self) -> bool:
        """Whether a forward pass in training mode may be another one each time."""
        return not self.quiet or any(isinstance(m, nn.Dropout) and m.training and m.p > 0 for m in self.modules())

    @property
    def decoder(self) -> nn.Module:
        """What makes hidden states; transformers' look-up finds the whole model, or the head, for a few architectures."""
        found: nn.Module = self.model.get_decoder()
        return self.model.model if found is self.model or isinstance(found, nn.Linear) else found

    @property
    def float32_head(self) -> nn.Module | None:
        """A head that computes in float32 whatever the rest does; None where it is as all else."""
        return None

    @property
    def head_weight(self) -> Tensor:
        """`[V, d]`, tied to the embedding or not."""
        return self.model.get_output_embeddings().weight

    @property
    def head_bias(self) -> Tensor | None:
        """`[V]`"""
        return getattr(self.model.get_output_embeddings(), "bias", None)

    def hidden_states(self, input_ids: Tensor, position_ids: Tensor, layout: PackLayout) -> Tensor:
        """Final hidden states of a pack, `input_ids[T]` -> `[T, d]`; of more tokens if other ranks have more sequences."""
        if self.one_by_one:
            return self._one_by_one(input_ids, layout)
        # A mask that already has four dimensions is passed through by transformers, so that no T x T mask is built.
        unused = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=input_ids.device)
        return self.decoder(
            input_ids=input_ids[None],
            position_ids=position_ids[None],
            attention_mask=unused,
            use_cache=False,
            pack_layout=layout,
        ).last_hidden_state[0]

    def _one_by_one(self, input_ids: Tensor, layout: PackLayout) -> Tensor:
        """Every sequence by the model's own forward pass, with its own masks and positions.

        Sharded layers are gathered by all ranks at every call, so a rank with fewer sequences makes up for them behind
        its own: nothing is scored there, and zeros flow back.
        """
        parts = list(input_ids.split(layout.lengths))
        parts += [input_ids.new_zeros(DUMMY_TOKENS)] * (layout.calls - len(parts))
        hidden = []
        for part in parts:
            reset_positions(self.model)
            hidden.append(self.decoder(input_ids=part[None], use_cache=False).last_hidden_state[0])
        return torch.cat(hidden)

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
        local: Local | None = None,
        pull: Pull | None = None,
        soft: SoftTargets | None = None,
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
            local: derivatives of terms of single log-probs, added to the coefficients (`weighted_logps`).
            pull: a divergence from another model, whose gradient is added (the same).
            soft: divergences from a teacher's distributions (the same).

        Returns: `(sum coefficients * logps [], logps [N])`; only the first carries gradient, with that of `local`.
        """
        weight, bias = self.head_weight, self.head_bias
        # some keep what runs past their layers in float32 whatever the weights' type is (Mamba 2)
        hidden = self.hidden_states(input_ids, position_ids, layout)[rows].to(weight.dtype)
        head = HeadShape(chunk_tokens, self.head_scale, self.head_softcap)
        if coefficients is None:
            logps = per_token_logps(hidden, weight, targets, head, bias)
            return logps.new_zeros(()), logps
        if callable(coefficients):
            coefficients = coefficients(per_token_logps(hidden, weight, targets, head, bias))
        buffer = self._grad_buffer(weight)
        more: Any = {"grad_weight": buffer, "bias": bias, "local": local, "pull": pull, "soft": soft}
        return weighted_logps(hidden, weight, targets, coefficients, head, **more)

    @torch.no_grad()
    def pull(
        self, input_ids: Tensor, position_ids: Tensor, layout: PackLayout, rows: Tensor, coefficients: Tensor
    ) -> Pull:
        """Towards this model: what it says of a pack's scored rows `[N]`. coefficients: `[N]` d loss / d KL of each."""
        hidden, weight = self.hidden_states(input_ids, position_ids, layout)[rows], self.head_weight
        return Pull(hidden.to(weight.dtype), weight, self.head_bias, coefficients, self.head_scale, self.head_softcap)

    def _grad_buffer(self, weight: Tensor) -> Tensor | None:
        """The head weight's `.grad` to add to directly, where autograd need not see that gradient."""
        if self.sharded or not weight.requires_grad or not torch.is_grad_enabled():
            return None
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        return weight.grad


def _head_shape(config: PretrainedConfig) -> tuple[float, float | None]:
    """Scale and softcap of the logits of the architectures that have them; the comparison notices any other."""
    scale = getattr(config, "logit_scale", None) or 1.0  # Cohere
    scale *= getattr(config, "lm_head_multiplier", None) or 1.0  # Falcon-H1
    scale /= getattr(config, "logits_scaling", None) or 1.0  # Granite
    scale /= getattr(config, "logits_mup_width_multiplier", None) or 1.0  # Inkling
    softcaps = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")  # Gemma, RecurrentGemma, xLSTM
    return scale, next((cap for name in softcaps if (cap := getattr(config, name, None))), None)


def load_policy(
    path: str,
    overrides: ModelOverrides,
    *,
    dtype: torch.dtype = torch.float32,
    gradient_checkpointing: bool = False,
    compile: bool = False,
) -> Policy:
    """Load a Hugging Face folder (or hub name) on the CPU, with architecture overrides and adapters applied.

    `dtype` is that of the master weights, all of them. Raises ValueError, naming the reason, for a model whose log-probs
    would not be exact or whose weights stay quantised, ModelError for one that gives no finite numbers, and OSError where
    there is none.
    """
    config, silenced, way = read_config(path, overrides)
    model, missing = load_weights(Policy.auto, path, config, way, overrides, dtype)
    require_weights(path, missing)
    policy = Policy(model, one_by_one=way.name == "one by one", quiet=not overrides.dropout)
    policy.silenced = silenced
    check_exact(policy, way.settled, path)
    note_way(policy, way)
    if overrides.lora is not None:
        policy.notes.append(add_lora(model, overrides.lora))
    return set_up(policy, gradient_checkpointing=gradient_checkpointing, compile=compile)


def read_config(path: str, overrides: ModelOverrides) -> tuple[PretrainedConfig, dict[str, float], Way]:
    """A folder's config as it is trained, the dropout that is off, and how its decoder is run."""
    config = AutoConfig.from_pretrained(path, trust_remote_code=overrides.trust_remote_code)
    override_config(config, overrides)
    unpack_weights(config)
    silenced = {} if overrides.dropout else silence(config)
    way = way_of(config, Policy)
    if way.name == "refused":
        raise ValueError(f"{path}: {config.model_type} cannot be trained: {way.reason}")
    return config, silenced, way


def load_weights(
    auto: Any, path: str, config: PretrainedConfig, way: Way, overrides: ModelOverrides, dtype: torch.dtype
) -> tuple[PreTrainedModel, list[str]]:
    """The model in this type, and the weights of its own that the folder lacks."""
    experts = {"experts_implementation": "eager"} if dtype == torch.float64 else {}  # grouped products stop at float32
    model, loaded = auto.from_pretrained(
        path,
        output_loading_info=True,
        config=config,
        dtype=dtype,
        attn_implementation=way.attention,
        trust_remote_code=overrides.trust_remote_code,
        **experts,
    )
    for parameter in model.parameters():  # unpacked ones come in another type
        parameter.data = parameter.data.to(dtype)
    return model, sorted(loaded["missing_keys"])


def require_weights(path: str, missing: Sequence[str]) -> None:
    """Raise ValueError where some are missing: transformers makes random ones of them."""
    if missing:
        raise ValueError(f"{path} lacks {len(missing)} of the weights that its config asks for, such as {missing[0]}")


def set_up(policy: Policy, *, gradient_checkpointing: bool, compile: bool) -> Policy:
    """The policy in training mode, its layers recomputed or compiled."""
    if gradient_checkpointing:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy.train()
    if compile:
        for layer in decoder_layers(policy):
            layer.compile(dynamic=True)
    return policy


def note_way(policy: Policy, way: Way) -> None:
    """Note how this architecture runs, and what is no part of the objective."""
    config = policy.model.config.get_text_config()
    if policy.one_by_one:
        policy.notes.append(
            f"sequences go through the decoder one by one ({way.reason}). Exact, but short sequences leave a GPU idle, and "
            "with several ranks weights are gathered once per sequence instead of once per pack"
        )
    auxiliary = ("router_aux_loss_coef", "aux_loss_coef", "aux_loss_alpha", "z_loss_coefficient")
    if named := [f"{name} = {value}" for name in auxiliary if (value := getattr(config, name, None))]:
        policy.notes.append(f"the router's auxiliary loss ({', '.join(named)}) is no part of the objective")


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


def unpack_weights(config: PretrainedConfig) -> bool:
    """Have weights that are stored in few bits (gpt-oss, DeepSeek-V3) loaded as plain numbers -> whether they are so stored;
    ValueError where transformers cannot unpack them."""
    stored: Any = getattr(config, "quantization_config", None)
    inside: Any = getattr(config.get_text_config(), "quantization_config", None)
    if not (stored or inside):
        return False
    told = stored or inside
    name = str(told.get("quant_method") if isinstance(told, dict) else told.quant_method)
    method = AUTO_QUANTIZATION_CONFIG_MAPPING.get(name)
    if not isinstance(stored, dict) or method is None or "dequantize" not in inspect.signature(method).parameters:
        raise ValueError(
            f"its weights are quantised ({name}) and take no gradient: train the model that it was made of"
        )
    config.quantization_config = {**stored, "dequantize": True}
    return True


def decoder_layers(policy: Policy) -> Sequence[nn.Module]:
    """The decoder's layers, the units of sharding and compilation: its list of as many blocks as the config has layers.

    Empty where there is no such list; the whole decoder is then one unit.
    """
    decoder, config = policy.decoder, policy.model.config.get_text_config()
    lists = [module for module in decoder.modules() if isinstance(module, nn.ModuleList)]
    named = getattr(decoder, "layers", None)
    return list(next((x for x in (named, *lists) if x in lists and len(x) == config.num_hidden_layers), ()))
