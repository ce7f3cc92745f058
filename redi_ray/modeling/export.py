"""A Hugging Face folder from a (sharded) policy: what vLLM and `AutoModelForCausalLM` load.

Weights are gathered on rank 0 only, into the memory of the CPU. Adapters are merged, so that the folder is a plain model.
Written beside its place and renamed at the end: the folder is there whole or not at all.
"""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import GenerationConfig, PreTrainedModel

from redi_ray.modeling.cards import CARD, Card, render_card
from redi_ray.modeling.dropout import restore
from redi_ray.modeling.lora import merge_adapters
from redi_ray.modeling.older_readers import write_older_forms
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.rewards import RewardPolicy, finish_config
from redi_ray.modeling.rounding import Rounding, rounding_of
from redi_ray.modeling.tokenizer import listed_ends
from redi_ray.text.templates import closing_id

log = logging.getLogger("redi_ray")


def export_policy(
    policy: Policy,
    folder: str | Path,
    *,
    tokenizer: Any,
    dtype: torch.dtype | None = None,
    name: str | None = None,
    facts: Mapping[str, Any] | None = None,
    rank: int = 0,
    start: str | None = None,
) -> Rounding | None:
    """Write weights (safetensors), config, generation config, tokenizer with its template, and a model card.

    A collective call: all ranks gather, rank 0 writes. `dtype` is that of the stored weights, None keeps the masters'.
    `name` and `facts` go into the card. An existing folder is replaced. With `start`, the folder that training began with,
    rank 0 gets what `dtype` leaves of the update.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    gathered = get_model_state_dict(policy, options=options)
    if rank != 0:
        return None
    prefix = "model."  # the policy's own attribute
    assert all(name.startswith(prefix) for name in gathered), sorted(gathered)[:3]
    state: Mapping[str, Any] = {name[len(prefix) :]: tensor for name, tensor in gathered.items()}
    config, trusted = exported_config(policy), is_remote_code(policy.model)
    if adapter := getattr(policy.model, "peft_config", None):
        state = merge_adapters(policy.auto, config, adapter["default"], state, trust_remote_code=trusted)
    if isinstance(policy, RewardPolicy):
        finish_config(config, tokenizer)
    model = rebuild(policy.auto, config, state, dtype, trust_remote_code=trusted)
    if not isinstance(policy, RewardPolicy):
        model.generation_config = generation_config(policy.model, tokenizer)

    target = Path(folder)
    draft = target.with_name(target.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    write_older_forms(draft, tokenizer)
    card = Card(name or target.name, config.model_type, isinstance(policy, RewardPolicy), facts or {})
    (draft / CARD).write_text(render_card(card))
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    return rounding_of(state, start, dtype) if start is not None and dtype is not None else None


def exported_config(policy: Policy) -> Any:
    """The model's config without what only training needs (our attention, the switched-off cache and dropout)."""
    config = copy.deepcopy(policy.model.config)
    restore(config, policy.silenced)
    config._attn_implementation = "eager"  # every model has it; readers of the folder choose for themselves
    config.use_cache = True
    for name in config._get_generation_parameters():  # old models have them here; the generation config took them over
        delattr(config, name)
    return config


def is_remote_code(model: PreTrainedModel) -> bool:
    """Whether the model runs code that came with it (and so was trusted when it was loaded)."""
    return any(cls.__module__.startswith("transformers_modules") for cls in type(model).__mro__)


def rebuild(
    auto: Any, config: Any, state: Mapping[str, Tensor], dtype: torch.dtype | None, trust_remote_code: bool = False
) -> PreTrainedModel:
    """A plain model around the gathered weights, without a second copy of them unless `dtype` asks for one."""
    with torch.device("meta"):
        model = auto.from_config(config, trust_remote_code=trust_remote_code)
    cast = {name: t.to(dtype) if dtype and t.is_floating_point() else t for name, t in state.items()}
    missing, unexpected = model.load_state_dict(cast, strict=False, assign=True)
    model.tie_weights()
    untied = [name for name, p in model.named_parameters() if p.is_meta]
    if untied or unexpected:
        raise RuntimeError(f"export: weights missing {untied or missing}, unexpected {unexpected}")
    model.config.dtype = next(model.parameters()).dtype
    return model


def generation_config(model: PreTrainedModel, tokenizer: Any) -> GenerationConfig:
    """The model's generation config, with the token that closes a turn, which was trained, among those that end generation.

    Base models often lack it: they stop at the end of a document, and a chat-tuned export would run on past its turn.
    """
    config = saveable(copy.deepcopy(model.generation_config) or GenerationConfig())
    ids = [closing_id(tokenizer), tokenizer.eos_token_id, *listed_ends(config)]
    config.eos_token_id = list(dict.fromkeys(ids))
    config._from_model_config = None  # else transformers may make it anew, without them
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    return config


SAMPLING = {"temperature", "top_p", "min_p", "top_h", "typical_p", "top_k", "epsilon_cutoff", "eta_cutoff"}


def saveable(config: GenerationConfig) -> GenerationConfig:
    """A generation config that transformers saves: it loads more than that.

    Sampling parameters without `do_sample` (many base models have them) get it, which is how vLLM reads them anyway; but
    those beside a temperature of 0, which samples nothing, are left out, since transformers does not generate with it. Of
    what still contradicts itself, the parameter that comes later in the alphabet is left out, with a line in the log.
    """
    if can_be_saved(config):
        return config
    told = config.to_diff_dict()
    if told.get("temperature") == 0:
        told = {name: value for name, value in told.items() if name not in {*SAMPLING, "do_sample"}}
    if SAMPLING & set(told):
        told["do_sample"] = True
    first = ("bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "num_beams")
    kept: dict[str, Any] = {}
    for name in sorted(told, key=lambda name: (name not in first, name)):
        try:
            if can_be_saved(GenerationConfig(**kept, **{name: told[name]})):
                kept[name] = told[name]
        except (TypeError, ValueError):  # already when it is made
            pass
    if left_out := sorted(set(told) - set(kept)):
        log.warning("export: the generation config contradicts itself; left out: %s", ", ".join(left_out))
    return GenerationConfig(**kept)


def can_be_saved(config: GenerationConfig) -> bool:
    try:
        config.validate(strict=True)
    except ValueError:
        return False
    return True
