"""The policy with a scalar head over packs: a value at each token instead of its log-prob.

    v_t = w . h_t        h_t: the decoder's last hidden state at the token itself

It is a classification class of transformers with one label, whose head `score` has no bias: what is exported is what
`AutoModelForSequenceClassification` and vLLM's pooling runner load, with nothing to fold. No logits are formed, and no weights of
a language-model head are held. The head is float32 whatever the decoder's type.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from redi_ray.config.reward_objectives import ValueHead
from redi_ray.config.training import ModelOverrides
from redi_ray.errors import UserError
from redi_ray.modeling.attention import NAME, PackLayout, pack_layout
from redi_ray.modeling.exact import CHECKED, TOLERANCE, reset_positions, sequences, short
from redi_ray.modeling.logps import Local
from redi_ray.modeling.lora import add_lora
from redi_ray.modeling.policy import (
    Coefficients,
    Policy,
    load_weights,
    note_way,
    read_config,
    require_weights,
    set_up,
)
from redi_ray.modeling.pull import Pull
from redi_ray.modeling.soft_targets import SoftTargets
from redi_ray.text.templates import closing_id

log = logging.getLogger("redi_ray")

SCORE = "score.weight"
RECORD = "redi_reward"
"""Key of an exported config: what the values are."""


class RewardPolicy(Policy):
    """`model` (a Hugging Face classification class with one label) over packs."""

    auto: Any = AutoModelForSequenceClassification

    def __init__(self, model: PreTrainedModel, one_by_one: bool = False, quiet: bool = True) -> None:
        super().__init__(model, one_by_one, quiet)
        self.head_rate = 1.0
        """Factor on the learning rate for the head."""

    @property
    def float32_head(self) -> nn.Module:
        head: Any = self.model.score
        return head

    @property
    def head_weight(self) -> Tensor:
        """`[1, d]`"""
        head: Any = self.model.score
        return head.weight

    @property
    def head_bias(self) -> Tensor | None:
        return None

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
        """Values of a pack's scored tokens, and their weighted sum: as `Policy.forward`, with values for log-probs.

        rows: `[N]` positions in front of the scored tokens, as there; the values are those at the tokens. `targets`, `pull`,
        `soft` and `chunk_tokens` have no say.
        """
        hidden = self.hidden_states(input_ids, position_ids, layout)[rows + 1]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        values = self.float32_head(hidden.to(wide))[:, 0]
        told = values.detach()
        if coefficients is None:
            return values.new_zeros(()), told
        found = (coefficients(told) if callable(coefficients) else coefficients).to(wide)
        if local is not None:
            found = found + local(slice(0, len(told)), told)
        return (found * values).sum(), told


def load_reward_policy(
    path: str,
    overrides: ModelOverrides,
    head: ValueHead | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    gradient_checkpointing: bool = False,
    compile: bool = False,
) -> RewardPolicy:
    """Load a folder (or hub name) of a reward model, or with `head` that of a language model, which gets one.

    Raises ValueError, naming the reason, for an architecture without such a class, for a language model without `head`, and where
    values over packs would not be exact.
    """
    config, silenced, way = read_config(path, overrides)
    require_class(path, config)
    config.num_labels = 1
    try:
        model, missing = load_weights(RewardPolicy.auto, path, config, way, overrides, dtype)
    except RuntimeError as error:  # of a head with more labels
        raise ValueError(f"{path} is no reward model with one label: {short(error)}") from error
    require_weights(path, [name for name in missing if name != SCORE])
    layer: Any = getattr(model, "score", None)
    if not isinstance(layer, nn.Linear) or layer.bias is not None:
        raise ValueError(f"{path}: transformers' {type(model).__name__} has no plain head `score`")
    layer.to(torch.promote_types(dtype, torch.float32))
    if SCORE in missing:
        if head is None:
            raise ValueError(f"{path} is a language model and no reward model: it has no {SCORE}")
        start_head(layer, head)
    policy = RewardPolicy(model, one_by_one=way.name == "one by one", quiet=not overrides.dropout)
    policy.silenced = silenced
    check_hidden(policy)
    note_way(policy, way)
    if overrides.lora is not None:
        policy.notes.append(add_lora(model, overrides.lora, train_head=True))
    if head is not None:
        policy.head_rate = head.head_learning_rate
    set_up(policy, gradient_checkpointing=gradient_checkpointing, compile=compile)
    return policy


def require_class(path: str, config: PretrainedConfig) -> None:
    """Raise ValueError for an architecture that transformers has no classification class for."""
    if type(config) not in AutoModelForSequenceClassification._model_mapping:
        raise ValueError(
            f"{path}: {config.model_type} has no class with a scalar head in transformers (AutoModelForSequenceClassification), "
            "so that it cannot be trained as a reward model; take another architecture"
        )


@torch.no_grad()
def start_head(layer: nn.Linear, head: ValueHead) -> None:
    """The head's first weights, the same on all ranks and in every attempt."""
    if head.head_init == "zero":
        layer.weight.zero_()
        return
    draws = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(head.head_seed))
    layer.weight.copy_(draws / (layer.in_features + 1) ** 0.5)


@torch.no_grad()
def check_hidden(policy: Policy) -> None:
    """Compare hidden states of a few sequences in one pack with the decoder's own of each; ValueError if they differ."""
    model = policy.model
    name, own, training = model.config.model_type, model.config._attn_implementation, policy.training
    parts = sequences(model.config, CHECKED)
    lengths = [len(part) for part in parts]
    positions = torch.cat([torch.arange(length) for length in lengths])
    policy.eval()
    try:
        ours = policy.hidden_states(torch.cat(parts), positions, pack_layout(lengths)).double().split(lengths)
        if own == NAME:
            model.set_attn_implementation("eager")
        theirs = []
        for part in parts:
            reset_positions(model)
            theirs.append(policy.decoder(input_ids=part[None], use_cache=False).last_hidden_state[0].double())
    except Exception as error:  # architectures fail in ways of their own
        raise ValueError(f"{name}: this architecture does not run over packs of sequences ({short(error)})") from error
    finally:
        if own == NAME:
            model.set_attn_implementation(own)
        policy.train(training)
    # Single tokens may differ by more: rounding decides between two experts that a router likes equally.
    differences = [float((a - b).norm(dim=1).div(b.norm(dim=1)).median()) for a, b in zip(ours, theirs, strict=True)]
    dtype = next(policy.decoder.parameters()).dtype
    if not max(differences) <= TOLERANCE[dtype]:
        raise ValueError(
            f"{name}: hidden states over packs differ from the model's own by {max(differences):.3g} of their size"
        )


def finish_config(config: Any, tokenizer: Any) -> None:
    """Say in an exported config which token fills up batches: transformers takes the value at the last other token, so it must
    not be the one that closes a turn."""
    text, closing = config.get_text_config(), closing_id(tokenizer)
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    fitting = [number for number in known if number is not None and number != closing]
    text.pad_token_id = config.pad_token_id = fitting[0] if fitting else None
    if not fitting:
        log.warning(
            "export: the tokenizer has no token beside the closing one to fill up batches: score one text at a time"
        )


def record_values(config: PretrainedConfig, objective: str, link: str, at_last: bool) -> None:
    """Write down in a config what the values of the model are."""
    setattr(config, RECORD, {"objective": objective, "link": link, "at": "last" if at_last else "mean"})


def values_told(config: PretrainedConfig, path: str) -> dict[str, str]:
    """What a config says of its values, those of a head from elsewhere being plain numbers at the last token. Raises UserError
    for a record that cannot be read."""
    told = getattr(config, RECORD, None) or {"link": "identity", "at": "last"}
    if (
        not isinstance(told, dict)
        or told.get("link") not in ("identity", "sigmoid")
        or told.get("at") not in ("last", "mean")
    ):
        raise UserError(f"{path}: `{RECORD}` in its config says {told}, which this version does not know")
    return told
