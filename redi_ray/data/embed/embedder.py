"""What makes embeddings: tf-idf and SVD fitted on the texts, or a model by transformers or vLLM. All give float32 of length 1."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redi_ray.config.embedders import Embedder, ModelEmbedder, WordEmbedder
from redi_ray.errors import UserError
from redi_ray.store import storage

Vectors = NDArray[np.float32]
"""`[n, d]`, each row of length 1, or 0 for a text without anything in it."""
Embed = Callable[[Sequence[str]], Vectors]
TOKEN = r"(?u)\\?\w+|[^\w\s]"
MOST_TERMS = 200_000


def fit(texts: Sequence[str], settings: WordEmbedder) -> bytes:
    """What `start` needs of the texts that an embedder of words is fitted on; the same for the same texts in the same order."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        sublinear_tf=True,
        ngram_range=(1, 2),
        min_df=2 if len(texts) > 1000 else 1,
        max_features=MOST_TERMS,
        token_pattern=TOKEN,
        dtype=np.float32,
    )
    try:
        weighed = vectorizer.fit_transform(texts)
    except ValueError as error:  # no text has a word
        raise UserError(f"embedder words: nothing to learn from {len(texts)} texts: {error}") from error
    dimensions = min(settings.dimensions, *(size - 1 for size in weighed.shape))
    svd = TruncatedSVD(dimensions, random_state=0).fit(weighed) if dimensions >= 2 else None
    return pickle.dumps((vectorizer, svd))


def start(settings: Embedder, fitted: bytes | None = None, *, trust_remote_code: bool = False) -> Embed:
    """The function that embeds. fitted: of `fit`, for an embedder of words.

    Raises UserError where the model cannot be loaded.
    """
    if isinstance(settings, WordEmbedder):
        assert fitted is not None
        return _words(*pickle.loads(fitted))
    make = _transformers if settings.engine == "transformers" else _vllm
    try:
        embed = make(settings, _folder(settings.path), trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"embedder.path: {settings.path} cannot be loaded as a model: {error}") from error
    return lambda texts: embed([settings.prefix + text for text in texts])


def unit(vectors: NDArray[Any]) -> Vectors:
    """Divided by their lengths; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def _words(vectorizer: Any, svd: Any) -> Embed:
    def embed(texts: Sequence[str]) -> Vectors:
        weighed = vectorizer.transform(texts)
        return unit(weighed.toarray() if svd is None else svd.transform(weighed))

    return embed


def _folder(path: str) -> str:
    """The model's folder here, with its weights: a copy of what is on S3, which goes with the process."""
    if not path.startswith("s3://"):
        return path
    here = tempfile.mkdtemp(prefix="embedder-")
    storage.download(path, Path(here))
    return here


def pooling_of(folder: str) -> str:
    """How a folder of sentence-transformers says that its token vectors become one."""
    file = Path(folder) / "1_Pooling" / "config.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    for name, pooling in (("cls_token", "cls"), ("lasttoken", "last"), ("mean_tokens", "mean")):
        if found.get(f"pooling_mode_{name}"):
            return pooling
    if any(on for name, on in found.items() if name.startswith("pooling_mode_")):
        raise ValueError(f"{file} asks for another pooling than mean, cls or last; set `pooling`")
    return "mean"


def _transformers(settings: ModelEmbedder, folder: str, trust_remote_code: bool) -> Embed:
    import torch
    from transformers import AutoModel, AutoTokenizer

    device = torch.device("cuda" if settings.device == "gpu" else "cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    model = AutoModel.from_pretrained(folder, trust_remote_code=trust_remote_code).to(device).eval()
    pooling = settings.pooling or pooling_of(folder)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    most = min(settings.max_tokens, getattr(model.config, "max_position_embeddings", settings.max_tokens))

    def pooled(texts: list[str]) -> NDArray[Any]:
        batch = tokenizer(texts, padding=True, truncation=True, max_length=most, return_tensors="pt").to(device)
        with torch.inference_mode():
            states = model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None]
        if pooling == "mean":
            return ((states * mask).sum(1) / mask.sum(1).clamp(min=1)).cpu().numpy()
        at = torch.zeros(len(texts), dtype=torch.long, device=device) if pooling == "cls" else mask[..., 0].sum(1) - 1
        return states[torch.arange(len(texts), device=device), at].cpu().numpy()

    def embed(texts: Sequence[str]) -> Vectors:
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))  # texts of a length share a batch
        found: list[NDArray[Any] | None] = [None] * len(texts)
        for begin in range(0, len(order), settings.batch_size):
            some = order[begin : begin + settings.batch_size]
            for at, vector in zip(some, pooled([texts[at] for at in some]), strict=True):
                found[at] = vector
        return unit(np.stack([vector for vector in found if vector is not None])) if texts else np.empty((0, 0), "f4")

    return embed


def _vllm(settings: ModelEmbedder, folder: str, trust_remote_code: bool) -> Embed:
    from vllm import LLM

    engine = LLM(
        model=folder,
        runner="pooling",
        trust_remote_code=trust_remote_code,
        max_num_seqs=settings.batch_size,
        enable_prefix_caching=False,
        disable_log_stats=True,
    )
    most = min(settings.max_tokens, engine.llm_engine.model_config.max_model_len)

    def embed(texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.empty((0, 0), np.float32)
        made = engine.embed(list(texts), use_tqdm=False, tokenization_kwargs={"truncate_prompt_tokens": most})
        return unit(np.array([one.outputs.embedding for one in made], np.float32))

    return embed
