"""The section `model`: where the student starts, how it is asked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.section import Strict
from redi_ray.config.training import ModelOverrides, TrainSettings


class Architecture(Strict):
    """The size of a small Qwen2 that starts from random weights."""

    hidden_size: int = Field(96, ge=8)
    """Width."""
    num_layers: int = Field(3, ge=1)
    """Decoder layers."""
    num_heads: int = Field(3, ge=1)
    """Attention heads (vLLM on CPU wants heads of 32 or more)."""
    num_kv_heads: int = Field(1, ge=1)
    """Key-value heads."""
    intermediate_size: int = Field(256, ge=8)
    """Width inside the MLP."""
    max_position_embeddings: int = Field(512, ge=8)
    """Longest sequence."""
    seed: int = 0
    """Of the random weights."""

    @model_validator(mode="after")
    def _divides(self) -> Architecture:
        if self.hidden_size % (2 * self.num_heads):  # positions turn pairs of a head's numbers
            raise ValueError(
                f"hidden_size {self.hidden_size} must be an even number for each of the {self.num_heads} num_heads, such as "
                f"{self.num_heads} x 32 = {self.num_heads * 32}"
            )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} must be a multiple of num_kv_heads {self.num_kv_heads}, which they share"
            )
        return self


class PretrainedModel(Strict):
    """A model that exists."""

    kind: Literal["pretrained"] = "pretrained"
    path: str
    """Hugging Face folder (local or s3://) or hub name."""


class ArithmeticModel(Strict):
    """The built-in world's base model: from scratch, its own tokenizer, trained on the world's unfiltered corpus."""

    kind: Literal["arithmetic"] = "arithmetic"
    architecture: Architecture = Architecture()
    """About 0.3 million parameters."""
    corpus_size: int = Field(16000, ge=1)
    """Solutions in the corpus, misconceptions included."""
    train: TrainSettings = TrainSettings(
        learning_rate=3e-3, batch_size=16, epochs=2, max_length=512, tokens_per_pack=4096, weight_decay=0.01
    )
    """How it is trained."""


class ScratchModel(Strict):
    """Random weights and a byte-level BPE tokenizer learnt from the problems and traces: for runs on real data in small."""

    kind: Literal["scratch"] = "scratch"
    architecture: Architecture = Architecture()
    """Its size."""
    vocab_size: int = Field(2048, ge=300)
    """Of the tokenizer."""


ModelInit = Annotated[PretrainedModel | ArithmeticModel | ScratchModel, Field(discriminator="kind")]


class ModelConfig(Strict):
    """The student: where it starts, how it is asked."""

    init: ModelInit = ArithmeticModel()
    """`pretrained`, `arithmetic` or `scratch`."""
    overrides: ModelOverrides = ModelOverrides()
    """Changes to the student's architecture as it is loaded, LoRA. A step `model` keeps its own architecture."""
    prompt: PromptSettings = PromptSettings()
    """The prompt of training and evaluation, and of generation unless `generate.prompt` says otherwise."""
