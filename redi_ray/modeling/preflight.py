"""Whether a student can be asked, trained and exported: found in seconds, before any trace is paid for.

Nothing of the real weights is read. What decides are the config, the tokenizer and its template, and a copy of the
architecture with few and narrow layers, random weights and a small vocabulary, which is loaded as training does it, trained
for a step, exported and loaded again.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.modeling.attention import pack_layout
from redi_ray.modeling.exact import is_remote, short
from redi_ray.modeling.export import export_policy
from redi_ray.modeling.limits import Bound, embedding_rows, length_problems, longest_sequence
from redi_ray.modeling.miniature import miniature
from redi_ray.modeling.policy import Policy, load_policy, override_config, unpack_weights
from redi_ray.modeling.rewards import require_class
from redi_ray.modeling.tokenizer import (
    ModelError,
    load_tokenizer,
    local_folder,
    stored_generation_config,
    tokenizer_fingerprints,
)
from redi_ray.modeling.weights import weight_problems
from redi_ray.text.prompts import render_prompt, to_messages
from redi_ray.text.templates import PromptError

log = logging.getLogger("redi_ray")

VOCABULARY = 512
"""Tokens of the small copy."""


def prompt_problems(field: str, tokenizer: Any, prompt: PromptSettings) -> list[str]:
    """Why the chat template renders no such prompts, or loses a part of them; empty if it does."""
    try:
        render_prompt(to_messages("What is 1 + 1?", prompt), tokenizer, prompt)
    except PromptError as error:
        return [f"{field}: {error}"]
    return []


def student_problems(
    path: str,
    overrides: ModelOverrides,
    prompt: PromptSettings,
    trainings: Mapping[str, TrainSettings],
    *,
    bound: Bound | None = None,
    own: Mapping[str, Bound] | None = None,
    rewards: bool = False,
) -> list[str]:
    """Everything that would end the run in a worker, one line each.

    Args:
        path: a Hugging Face folder (local or s3://) or hub name, whose tokenizer loads.
        trainings: config field -> settings of each training that starts from it.
        bound: of the sequences that the data stages make.
        own: of those that a training of this field learns from, where it is not `bound`.
        rewards: whether a reward model is made of it.
    """
    field, tokenizer = "model.init.path", load_tokenizer(path, overrides.trust_remote_code)
    try:
        config = AutoConfig.from_pretrained(local_folder(path), trust_remote_code=overrides.trust_remote_code)
        overridden = copy.deepcopy(config)
        override_config(overridden, overrides)
        packed = unpack_weights(overridden)
        skeleton = model_class(config, overrides.trust_remote_code)
    except Exception as error:  # transformers raises of many kinds
        told = f"{'' if isinstance(error, ValueError | OSError) else f'{type(error).__name__}: '}{error}"
        if "trust_remote_code" in told:
            told = "its code came with it: read that, then set model.overrides.trust_remote_code: true"
        return [f"{field}: {path}: its config cannot be used: {told}"]
    found = prompt_problems(field, tokenizer, prompt)
    with quiet_transformers():
        found += weight_problems(field, path, overridden, None if packed else skeleton)  # such have other names
    if rewards:
        found += class_problems(field, path, overridden)
    found += vocabulary_problems(field, tokenizer, embedding_rows(config))
    asked = len(tokenizer(render_or_empty(tokenizer, prompt), add_special_tokens=False).input_ids)
    found += length_problems(longest_sequence(overridden), asked, trainings, bound, field, own)
    recompute = any(settings.gradient_checkpointing for settings in trainings.values())
    return found + try_in_small(field, path, config, overrides, tokenizer, recompute)


def model_class(config: PretrainedConfig, trust_remote_code: bool) -> type[PreTrainedModel] | None:
    """What transformers makes a decoder of this config with; None for code that came with the model, which need not run
    without memory. Raises whatever hinders that."""
    if is_remote(config):
        if "AutoModelForCausalLM" not in (shipped := getattr(config, "auto_map", None) or {}):
            raise ValueError("the code that came with it has no decoder of text (AutoModelForCausalLM in auto_map)")
        get_class_from_dynamic_module(shipped["AutoModelForCausalLM"], str(config.name_or_path))
        return None
    try:
        with torch.device("meta"):
            return type(AutoModelForCausalLM.from_config(copy.deepcopy(config), trust_remote_code=trust_remote_code))
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):  # behind which all others are listed
            raise
        raise ValueError(
            f"{config.model_type} is no decoder of text for transformers (AutoModelForCausalLM does not know it); of a model "
            "that sees or hears, save the text decoder as a model of its own"
        ) from error


def class_problems(field: str, path: str, config: PretrainedConfig) -> list[str]:
    """Why no reward model can be made of it."""
    try:
        require_class(path, config)
    except ValueError as error:
        return [f"{field}: {error}"]
    return []


def render_or_empty(tokenizer: Any, prompt: PromptSettings) -> str:
    try:
        return render_prompt(to_messages("", prompt), tokenizer, prompt)
    except PromptError:  # told by `prompt_problems`
        return ""


def vocabulary_problems(field: str, tokenizer: Any, rows: int) -> list[str]:
    """Tokens without a vector. That of the padding may be one: packs have none."""
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    beyond.pop(tokenizer.pad_token or "", None)
    if not beyond:
        return []
    shown = ", ".join(f"{token!r} ({number})" for token, number in sorted(beyond.items(), key=lambda item: item[1])[:3])
    return [
        f"{field}: the tokenizer is larger than the model: {len(beyond)} tokens, such as {shown}, are beyond the {rows} rows "
        "of its embedding (vocab_size); use the model's own tokenizer, or resize the embedding and save the model again"
    ]


def try_in_small(
    field: str,
    path: str,
    config: PretrainedConfig,
    overrides: ModelOverrides,
    tokenizer: Any,
    recompute: bool,
) -> list[str]:
    """Load, train for a step, export and load again a small copy of the architecture."""
    with tempfile.TemporaryDirectory() as root, quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(0)
        folder = str(Path(root) / "small")
        try:
            generation = stored_generation_config(path)
        except ModelError as error:
            return [f"{field}: {error}"]
        try:
            make_small(config, overrides.trust_remote_code, folder)
        except Exception as error:  # a copy that cannot be made says nothing about the model
            level = logging.WARNING if is_remote(config) else logging.INFO  # old code of its own fails in new versions
            log.log(level, "%s: %s is not tried out in small: %s", field, path, short(error))
            return []
        try:
            policy = load_policy(folder, overrides, gradient_checkpointing=recompute)
            adapters = overrides.lora is not None  # whose note counts the copy's weights
            for note in policy.notes[:-1] if adapters else policy.notes:
                log.info("%s: %s", path, note)
            if generation is not None:
                policy.model.generation_config = generation
            one_step(policy)
            exported = str(Path(root) / "export")
            export_policy(policy, exported, tokenizer=tokenizer)
            difference = compare(policy, exported, overrides.trust_remote_code)
            again = AutoTokenizer.from_pretrained(exported, trust_remote_code=overrides.trust_remote_code)
            before, after = tokenizer_fingerprints(tokenizer), tokenizer_fingerprints(again)
        except Exception as error:  # of transformers, peft or the model's own code
            told = str(error).replace(f"{folder}: ", "").replace(folder, path)
            told = told.removeprefix(f"{config.model_type} cannot be trained: ")
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            return [f"{field}: {path} cannot be trained: {kind}{told}"]
    if before != after:
        what = " and ".join(name for name in before if before[name] != after[name])
        return [
            f"{field}: {path}: its {what} is another after saving and loading, so stage 2 would read its data differently"
        ]
    if not difference < 1e-2:
        return [
            f"{field}: {path} cannot be exported: log-probs of the folder differ from what was trained by {difference:.2g}"
        ]
    return []


def make_small(config: PretrainedConfig, trust_remote_code: bool, folder: str) -> None:
    """Save a small model of this architecture, one that runs; raises whatever goes wrong."""
    small = miniature(config, VOCABULARY)
    small.use_cache = False
    model = AutoModelForCausalLM.from_config(small, trust_remote_code=trust_remote_code, dtype=torch.float32).eval()
    with torch.no_grad():
        model(input_ids=torch.arange(3, 11)[None], use_cache=False)
    model.generation_config = GenerationConfig()
    for name in small._get_generation_parameters():
        delattr(model.config, name)
    model.save_pretrained(folder)


def one_step(policy: Policy) -> None:
    """Move all that is trained a little, by the gradient of a few log-probs."""
    ids = torch.arange(3, 17)
    lengths = [9, 5]
    positions = torch.cat([torch.arange(length) for length in lengths])
    rows = torch.tensor([*range(8), *range(9, 13)])
    loss, _ = policy(
        ids,
        positions,
        layout=pack_layout(lengths),
        rows=rows,
        targets=ids[rows + 1],
        coefficients=torch.full((12,), -1.0),
    )
    loss.backward()
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=1e-3)
                parameter.grad = None


@torch.no_grad()
def compare(policy: Policy, folder: str, trust_remote_code: bool) -> float:
    """Largest difference of log-probs between the policy and the folder that it was exported to."""
    policy.eval()
    again = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=trust_remote_code, dtype=torch.float32
    ).eval()
    ids = torch.arange(3, 11)[None]
    mine, theirs = (model(input_ids=ids, use_cache=False).logits.log_softmax(-1) for model in (policy.model, again))
    return float((mine - theirs).abs().max())


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without its progress bars and warnings: what matters is raised."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
