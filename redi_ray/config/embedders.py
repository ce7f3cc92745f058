"""Settings of what makes embeddings of texts: vectors of length 1 whose products say how alike two texts are."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from redi_ray.config.section import Strict


class WordEmbedder(Strict):
    """Words and pairs of words weighed by tf-idf, in fewer dimensions by a truncated SVD that is fitted on the very texts. It
    needs no model and no GPU, and sees wording more than meaning: it finds fewer of the paraphrases that a language model wrote
    (benchmarks/README.md)."""

    name: Literal["words"]
    dimensions: int = Field(256, ge=2, le=2048)
    """Of an embedding, at the most: few texts have fewer."""
    fit_on: int = Field(50_000, ge=100)
    """Texts that weights and dimensions are learnt from, at the most: those with the smallest hashes of their ids."""


class ModelEmbedder(Strict):
    """A sentence-embedding model, such as all-MiniLM-L6-v2 or a member of the E5, BGE or GTE families."""

    HOW: ClassVar[frozenset[str]] = frozenset({"engine", "device", "batch_size", "workers"})

    name: Literal["model"]
    path: str
    """Its folder (local or s3://), or its name on the hub."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What computes: transformers, or vLLM's pooling models. Vectors differ by rounding."""
    pooling: Literal["mean", "cls", "last"] | None = None
    """How token vectors become one: their mean, the first, the last. Null reads the model's own `1_Pooling/config.json`, and is
    the mean without one. vLLM always goes by the model."""
    prefix: str = ""
    """Put before each text; E5 asks for `query: `."""
    max_tokens: int = Field(512, ge=8)
    """Longer texts are cut off."""
    batch_size: int = Field(64, ge=1)
    """Texts at a time."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where: beside the other work of `resources.curate_workers`, or on a GPU for each of `workers`."""
    workers: int = Field(1, ge=1)
    """Processes with a GPU each, under `device: gpu`."""


Embedder = Annotated[WordEmbedder | ModelEmbedder, Field(discriminator="name")]
