"""Low-rank adapters (peft): put into a model for training, folded into its weights for the export."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from redi_ray.config.training import LoraSettings
from redi_ray.modeling.products import FastLinear

READS_OUT_PROJ = frozenset(["falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"])
"""Architectures whose layers `out_proj` peft takes no adapter for."""


def head_of(model: PreTrainedModel) -> Any:
    """The language-model head, or that of a classification class."""
    return model.get_output_embeddings() or getattr(model, "score", None)


def add_lora(model: PreTrainedModel, settings: LoraSettings, train_head: bool = False) -> str:
    """Put low-rank adapters into the model in place and freeze everything else, but for the head with `train_head` -> how much of
    it they reach.

    ValueError where they would sit on the head, which is fused with the loss, or nowhere at all.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("model.overrides.lora needs peft: pip install peft") from error
    modules, experts = settings.target_modules, []
    if modules == "all-linear":
        modules, experts = linear_layers(model), expert_weights(model)
        if experts and settings.dropout:
            experts = []  # peft's adapters on parameters take none
    options: dict[str, Any] = {"lora_alpha": settings.alpha, "lora_dropout": settings.dropout}
    config = LoraConfig(r=settings.rank, target_modules=list(modules), target_parameters=experts or None, **options)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the names of its own conversions
        torch.manual_seed(settings.seed)  # ranks keep a shard each of what must be one and the same tensor
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:
            raise ValueError(f"model.overrides.lora.target_modules: {error}") from error
    head = head_of(model)
    if not isinstance(head, nn.Linear) or hasattr(head, "lora_A"):
        raise ValueError(
            "model.overrides.lora.target_modules: the language-model head is fused with the loss; leave it out"
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or (train_head and parameter is head.weight))
    return share(model)


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Full names of all linear layers but the head. Short ones would reach layers of other kinds that share them.

    Routers that are linear layers with an output of their own are left out, and so are layers whose weights are read
    without calling them.
    """
    head = head_of(model)
    plain = {nn.Linear.forward, FastLinear.forward, Conv1D.forward}
    return [
        name
        for name, module in model.named_modules()
        if type(module).forward in plain
        and module is not head
        and not name.endswith(".dt_proj")  # as the state-space layers that have one
        and not (model.config.model_type in READS_OUT_PROJ and name.endswith("out_proj"))
    ]


def expert_weights(model: PreTrainedModel) -> list[str]:
    """Full names of the matrices that stand together in one parameter, one for each expert."""
    return [name for name, p in model.named_parameters() if p.ndim == 3 and belongs_to_experts(model, name)]


def belongs_to_experts(model: PreTrainedModel, name: str) -> bool:
    """Whether a three-dimensional parameter is a stack of experts' matrices, and no convolution's kernel."""
    owner = model.get_submodule(name.rpartition(".")[0])
    return "expert" in type(owner).__name__.lower() or name.rpartition(".")[0].endswith("experts")


def share(model: PreTrainedModel) -> str:
    """How many of the decoder's weights have an adapter, and which matrices have none."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted: set[int] = set()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            name = getattr(module, "parameter_name", "weight")
            adapted.add(id(getattr(module.get_base_layer(), name)))
    ends = {id(e.weight) for e in (model.get_input_embeddings(), head_of(model))}
    matrices = {n: p for n, p in model.named_parameters() if p.ndim > 1 and "lora_" not in n and id(p) not in ends}
    reached = sum(p.numel() for p in matrices.values() if id(p) in adapted)
    percent = 100 * reached / sum(p.numel() for p in matrices.values())
    left = {re.sub(r"\.\d+\.", ".*.", name) for name, p in matrices.items() if id(p) not in adapted}
    return f"adapters on {percent:.1f} % of the decoder's weights" + (
        f", none on {', '.join(sorted(left))}" if left else ""
    )


def merge_adapters(
    auto: Any, config: Any, adapter: Any, state: Mapping[str, Tensor], **trust: Any
) -> dict[str, Tensor]:
    """Fold low-rank updates into their base weights, by peft itself, and return the plain model's state.

    `auto`: what transformers makes the model with. `state`: the adapted model's, `adapter`: peft's config of it.
    """
    from peft import inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = auto.from_config(config, dtype=next(iter(state.values())).dtype, **trust)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inject_adapter_in_model(adapter, model)
    model.load_state_dict(state)
    wrapped = [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name in wrapped:
        parent, _, child = name.rpartition(".")
        try:
            owner: nn.Module = model.get_submodule(parent)
            module: Any = model.get_submodule(name)
        except AttributeError:  # a wrapper inside one that is gone
            continue
        while isinstance(module, BaseTunerLayer):  # one for each parameter of its base
            module.merge()
            module = getattr(module, "base_layer")  # noqa: B009, peft's class does not declare it
        setattr(owner, child, module)
    return dict(model.state_dict())
