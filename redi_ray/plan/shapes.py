"""Model sizes: from a Hugging Face config, a table of common models, the command line, or the built-in models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from redi_ray.config.experiment import ArithmeticModel, ExperimentConfig, PretrainedModel
from redi_ray.plan.errors import PlanError

EXAMPLE = (
    "hidden_size=1536,num_layers=28,num_heads=12,num_kv_heads=2,intermediate_size=8960,vocab_size=151936,tied=true"
)


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A dense decoder with a gated MLP: Qwen2, Qwen3, Llama, Mistral and their kin."""

    name: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    vocab_size: int
    head_dim: int
    tied: bool
    """Whether the head is the embedding."""
    qkv_bias: bool = False
    """Qwen2 has it."""
    qk_norm: bool = False
    """Qwen3 has it."""
    counted: int | None = None
    """Parameters as transformers counts them, for families that the formula below is not made for."""

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Matrices of a layer by name: (inputs, outputs)."""
        d, i = self.hidden_size, self.intermediate_size
        q, kv = self.query_size, self.kv_size
        attention = {"q_proj": (d, q), "k_proj": (d, kv), "v_proj": (d, kv), "o_proj": (q, d)}
        return attention | {"gate_proj": (d, i), "up_proj": (d, i), "down_proj": (i, d)}

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim

    @property
    def embedding_parameters(self) -> int:
        """Of the embedding, or of the head: vocabulary times width."""
        return self.vocab_size * self.hidden_size

    @property
    def root_parameters(self) -> int:
        """What is not in a layer: embedding, head if it has its own weights, last norm."""
        return self.embedding_parameters * (1 if self.tied else 2) + self.hidden_size

    @property
    def layer_parameters(self) -> int:
        """Of one layer."""
        if self.counted is not None:
            return (self.counted - self.root_parameters) // self.num_layers
        matrices = sum(inputs * outputs for inputs, outputs in self.linears.values())
        biases = self.query_size + 2 * self.kv_size if self.qkv_bias else 0
        return matrices + biases + 2 * self.hidden_size + (2 * self.head_dim if self.qk_norm else 0)

    @property
    def parameters(self) -> int:
        """All of them, shared ones once."""
        return self.counted or self.num_layers * self.layer_parameters + self.root_parameters

    def adapter_parameters(self, rank: int, modules: Iterable[str] | str = "all-linear") -> int:
        """Of low-rank adapters: rank x (inputs + outputs) of each adapted matrix. Raises PlanError for unknown modules."""
        names = list(self.linears) if isinstance(modules, str) else list(modules)
        if unknown := [name for name in names if name not in self.linears]:
            raise PlanError(
                f"model.overrides.lora.target_modules: {', '.join(unknown)} cannot be counted; the plan knows "
                f"{', '.join(self.linears)}"
            )
        return self.num_layers * rank * sum(sum(self.linears[name]) for name in names)


def _qwen2(hidden: int, layers: int, heads: int, kv: int, inner: int, vocab: int, tied: bool) -> dict[str, Any]:
    return dict(
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv,
        intermediate_size=inner,
        vocab_size=vocab,
        head_dim=hidden // heads,
        tied=tied,
        qkv_bias=True,
    )


def _other(*sizes: Any, head_dim: int = 128, qk_norm: bool = False) -> dict[str, Any]:
    return _qwen2(*sizes) | {"head_dim": head_dim, "qkv_bias": False, "qk_norm": qk_norm}


_QWEN25 = {
    "0.5B": _qwen2(896, 24, 14, 2, 4864, 151_936, True),
    "1.5B": _qwen2(1536, 28, 12, 2, 8960, 151_936, True),
    "3B": _qwen2(2048, 36, 16, 2, 11_008, 151_936, True),
    "7B": _qwen2(3584, 28, 28, 4, 18_944, 152_064, False),
    "14B": _qwen2(5120, 48, 40, 8, 13_824, 152_064, False),
    "32B": _qwen2(5120, 64, 40, 8, 27_648, 152_064, False),
    "72B": _qwen2(8192, 80, 64, 8, 29_568, 152_064, False),
}
_QWEN3 = {
    "0.6B": _other(1024, 28, 16, 8, 3072, 151_936, True, qk_norm=True),
    "1.7B": _other(2048, 28, 16, 8, 6144, 151_936, True, qk_norm=True),
    "4B": _other(2560, 36, 32, 8, 9728, 151_936, True, qk_norm=True),
    "8B": _other(4096, 36, 32, 8, 12_288, 151_936, False, qk_norm=True),
    "14B": _other(5120, 40, 40, 8, 17_408, 151_936, False, qk_norm=True),
    "32B": _other(5120, 64, 64, 8, 25_600, 151_936, False, qk_norm=True),
}
_LLAMA = {
    "Llama-3.2-1B": _other(2048, 16, 32, 8, 8192, 128_256, True, head_dim=64),
    "Llama-3.2-3B": _other(3072, 28, 24, 8, 8192, 128_256, True),
    "Llama-3.1-8B": _other(4096, 32, 32, 8, 14_336, 128_256, False),
    "Llama-3.1-70B": _other(8192, 80, 64, 8, 28_672, 128_256, False),
    "Llama-3.3-70B": _other(8192, 80, 64, 8, 28_672, 128_256, False),
}


def _table() -> dict[str, dict[str, Any]]:
    found = {}
    for size, shape in _QWEN25.items():
        for suffix in ("", "-Instruct"):
            found[f"Qwen/Qwen2.5-{size}{suffix}"] = shape
            if size in ("1.5B", "7B", "72B"):
                found[f"Qwen/Qwen2.5-Math-{size}{suffix}"] = shape
    for size in ("1.5B", "7B", "14B", "32B"):
        found[f"deepseek-ai/DeepSeek-R1-Distill-Qwen-{size}"] = _QWEN25[size] | {"tied": False}
    found["Qwen/QwQ-32B"] = _QWEN25["32B"]
    for size, shape in _QWEN3.items():
        found[f"Qwen/Qwen3-{size}"] = shape
    for name, shape in _LLAMA.items():
        found |= {f"meta-llama/{name}": shape, f"meta-llama/{name}-Instruct": shape}
    return found


TABLE: Mapping[str, Mapping[str, Any]] = _table()
"""Hub names whose sizes are known without a network, from the configs that come with the models."""


def shape_of(
    field: str, path: str, given: Mapping[str, ModelShape] | None = None, trust_remote_code: bool = False
) -> ModelShape:
    """The shape of a model's folder (local or s3://) or hub name. `given`: shapes from the command line by path.

    Raises PlanError, naming the config's `field`, for a model whose sizes cannot be found out here.
    """
    from redi_ray.modeling.tokenizer import is_folder, local_folder

    if given and path in given:
        return given[path]
    if not is_folder(path) and path in TABLE:
        return ModelShape(name=path, **TABLE[path])
    from transformers import AutoConfig

    folder = local_folder(path)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises of several kinds
        reason = "is not in the hub's local cache"
        if is_folder(path):
            there = os.path.isfile(os.path.join(folder, "config.json"))
            reason = f"has a config.json that cannot be used ({error})" if there else "holds no config.json"
        raise PlanError(
            f"{field}: {path} {reason}, and the plan has no sizes for it; give them: --shape {path}:{EXAMPLE}"
        ) from error
    return shape_of_config(path, config, field, trust_remote_code)


def shape_of_config(name: str, config: Any, field: str = "model", trust_remote_code: bool = False) -> ModelShape:
    """The shape that a transformers config describes. Raises PlanError for what is no dense decoder."""
    config = config.get_text_config()
    if any(getattr(config, key, None) for key in ("num_experts", "num_local_experts", "n_routed_experts")):
        raise PlanError(f"{field}: {name} is a mixture of experts, whose cost the plan does not model")
    try:
        heads = config.num_attention_heads
        shape = ModelShape(
            name=name,
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_heads=heads,
            num_kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            intermediate_size=config.intermediate_size,
            vocab_size=config.vocab_size,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            tied=bool(config.tie_word_embeddings),
            qkv_bias=config.model_type == "qwen2",
            qk_norm=config.model_type == "qwen3",
        )
    except AttributeError as error:
        raise PlanError(f"{field}: {name} ({config.model_type}) is no decoder that the plan knows: {error}") from error
    if config.model_type in ("qwen2", "qwen3", "llama", "mistral") and not getattr(config, "attention_bias", False):
        return shape
    try:
        return ModelShape(**{**_plain(shape), "counted": count_parameters(config, trust_remote_code)})
    except Exception as error:  # an architecture that transformers has no decoder of
        raise PlanError(f"{field}: {name} ({config.model_type}) cannot be counted: {error}") from error


def count_parameters(config: Any, trust_remote_code: bool = False) -> int:
    """Parameters of the transformers model, built on the meta device: no memory is taken."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return int(AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code).num_parameters())


def _plain(shape: ModelShape) -> dict[str, Any]:
    return {field.name: getattr(shape, field.name) for field in fields(shape)}


def scratch_shape(name: str, architecture: Any, vocab_size: int) -> ModelShape:
    """The shape of a built-in model (`redi_ray.modeling.scratch`)."""
    return ModelShape(
        name=name,
        hidden_size=architecture.hidden_size,
        num_layers=architecture.num_layers,
        num_heads=architecture.num_heads,
        num_kv_heads=architecture.num_kv_heads,
        intermediate_size=architecture.intermediate_size,
        vocab_size=vocab_size,
        head_dim=architecture.hidden_size // architecture.num_heads,
        tied=True,
        qkv_bias=True,
    )


def student_shape(config: ExperimentConfig, known: Mapping[str, ModelShape]) -> ModelShape:
    """The shape of the model that is trained."""
    return init_shape(config, "model.init", config.model.init, known)


def init_shape(config: ExperimentConfig, field: str, init: Any, known: Mapping[str, ModelShape]) -> ModelShape:
    """The shape of a model that a field of the config describes."""
    if isinstance(init, PretrainedModel):
        return shape_of(f"{field}.path", init.path, known, config.model.overrides.trust_remote_code)
    if isinstance(init, ArithmeticModel):
        from redi_ray.data.sources.built_in import alphabet_of
        from redi_ray.modeling.tokenizer import character_tokenizer

        source: Any = config.problems.source
        return scratch_shape("the built-in model", init.architecture, len(character_tokenizer(alphabet_of(source))))
    return scratch_shape("a model from scratch", init.architecture, init.vocab_size)


def parse_shape(text: str) -> ModelShape:
    """`PATH:hidden_size=1536,num_layers=28,...,tied=true` -> shape. Raises PlanError for what is missing or unknown."""
    path, _, settings = text.rpartition(":")
    known = {field.name for field in fields(ModelShape)} - {"name", "counted"}
    found: dict[str, Any] = {}
    for item in settings.split(","):
        key, equals, value = item.partition("=")
        if not path or not equals or key not in known:
            raise PlanError(f"--shape {text}: write PATH:{EXAMPLE}; there are {', '.join(sorted(known))}")
        if value in ("true", "false"):
            found[key] = value == "true"
        elif value.isdigit() and int(value) > 0:
            found[key] = int(value)
        else:
            raise PlanError(f"--shape {text}: {key} must be a positive number, or true or false, got {value!r}")
    if missing := sorted(known - found.keys() - {"head_dim", "tied", "qkv_bias", "qk_norm"}):
        raise PlanError(f"--shape {text}: {', '.join(missing)} missing")
    found = {"head_dim": found["hidden_size"] // found["num_heads"], "tied": False, **found}
    return ModelShape(name=path, **found)
