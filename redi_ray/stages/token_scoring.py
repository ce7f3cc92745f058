"""A column of what models say of each token of samples, by the policy that trains, over packs: two of them in contrast, or one by
its log-probs. A shard is one piece of work; one that is done is only counted."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.token_steps import ContrastSettings, LogpsSettings, SoftTargetSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.columns import write_column
from redi_ray.data.curate.work import DROPPED, Drops, finish, finished
from redi_ray.errors import UserError
from redi_ray.modeling.limits import longest_sequence
from redi_ray.modeling.tokenizer import another_tokenizer, load_tokenizer, tokenizer_fingerprints
from redi_ray.schemas import token_scores
from redi_ray.stages.model_shards import SampleEncoder, at_hand, call_shards, each_model_shard
from redi_ray.stages.remote import remotely
from redi_ray.store import parquet, storage
from redi_ray.text.spans import own_weights
from redi_ray.text.tokens import Encoded
from redi_ray.train.fingerprints import model_fingerprint

if TYPE_CHECKING:
    from redi_ray.modeling.policy import Policy
    from redi_ray.train.token_scores import TokenScorer

READ = ("problem", "problem_id", "completion", "turns", "finish_reason")


@dataclass(frozen=True)
class TokenScoring:
    """How, the same for every shard."""

    step: str
    """The kind of step, for messages."""
    samples: str
    """Folder of the shards, with verdicts or without."""
    out_uri: str
    models: Mapping[str, str]
    """Role -> the model's folder."""
    tokenizer: str
    """The base model's folder."""
    settings: ContrastSettings | LogpsSettings | SoftTargetSettings
    prompt: PromptSettings
    overrides: ModelOverrides
    train: TrainSettings
    """Its precision, and what is held at a time."""


def score_samples_tokens(
    names: list[str], how: TokenScoring, trainer: TrainerSettings, actor: type[TokenScoringShard] | None = None
) -> Counter[str]:
    """Write `<out_uri>/column/<name>` for every shard of samples, and `dropped`; the counts: `in`, `scored`, `tokens` and of a
    contrast `critical` (tokens below a half), and the samples without values by reason.

    actor: what scores a shard, if it is another than `TokenScoringShard`. Raises UserError where a model has another tokenizer
    than the base model, or does not fit.
    """
    counts: Counter[str] = Counter()
    left = []
    for name in names:
        known = finished(_mark(how, name))
        counts.update(known or {})
        left += [] if known is not None else [name]
    if left:
        remotely(require_one_tokenizer, how)
        models, what = [*how.models.values()], f"the scoring of {how.step}"
        for found in each_model_shard(
            left, actor or TokenScoringShard, how, what=what, models=models, train=how.train, trainer=trainer
        ):
            counts.update(found)
    return counts


def require_one_tokenizer(how: TokenScoring) -> None:
    """Raise UserError where a model has another tokenizer than the base model."""
    trusted = how.overrides.trust_remote_code
    ours = tokenizer_fingerprints(load_tokenizer(how.tokenizer, trusted))["tokenizer"]
    for role, model in how.models.items():
        if tokenizer_fingerprints(load_tokenizer(model, trusted))["tokenizer"] != ours:
            raise UserError(f"{how.step}: {another_tokenizer(role, model, how.tokenizer)}")


def _mark(how: TokenScoring, name: str) -> str:
    return storage.join(how.out_uri, "work", f"{name}.json")


class TokenScoringShard:
    """An actor that holds the models."""

    def __init__(self, how: TokenScoring) -> None:
        import torch

        from redi_ray.modeling.policy import load_policy
        from redi_ray.train.shard import compute_dtype

        self.how, self.folder = how, tempfile.TemporaryDirectory()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = compute_dtype(how.train.precision, self.device) or torch.float32
        self.folders = {role: at_hand(model, f"{self.folder.name}/{role}") for role, model in how.models.items()}
        self.policies = {}
        for role, of in self.folders.items():
            with self._named(role):
                self.policies[role] = load_policy(of, how.overrides, dtype=dtype).to(self.device).eval()
        self.tokenizer = load_tokenizer(how.tokenizer, how.overrides.trust_remote_code)
        self.fingerprint = tokenizer_fingerprints(self.tokenizer)["tokenizer"]
        whose = model_fingerprint(self.folders["model"], how.overrides) if "model" in self.folders else None
        self.schema = token_scores(self.fingerprint, whose)
        reaches = (longest_sequence(policy.model.config) for policy in self.policies.values())
        reach = min((reach for reach in reaches if reach), default=None)
        self.encoder = SampleEncoder(self.tokenizer, how.prompt, reach)

    @contextmanager
    def _named(self, *roles: str) -> Iterator[None]:
        """Inside the block a UserError tells of which step and models it is; a folder here may be a copy of theirs."""
        try:
            yield
        except UserError as error:
            models = " and ".join(f"`{role}` ({self.how.models[role]})" for role in roles or self.how.models)
            raise type(error)(f"{self.how.step}: the model {models}: {error}") from error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return call_shards(self, batch)

    def shard(self, name: str) -> Counter[str]:
        """Write one shard of the column; its counts."""
        how, counts, drops = self.how, Counter[str](), Drops()

        def values(rows: pa.Table) -> list[dict[str, Any]]:
            return [{"values": found} for found in self.values(rows.to_pylist(), counts, drops)]

        source, out = storage.join(how.samples, name), storage.join(how.out_uri, "column", name)
        read = READ if how.settings.verdicts is None else (*READ, "verdict")
        write_column(source, out, self.schema, read, values)
        if drops.rows:
            parquet.write_table(
                storage.join(how.out_uri, "dropped", name), pa.Table.from_pylist(drops.rows, schema=DROPPED)
            )
        return finish(_mark(how, name), counts)

    def values(self, rows: list[dict[str, Any]], counts: Counter[str], drops: Drops) -> list[Any]:
        """Of each sample what `score` says of it, or None."""
        wanted = self.how.settings.verdicts
        encoded: dict[int, Encoded] = {}
        for place, row in enumerate(rows):
            counts["in"] += 1
            if wanted is not None and row["verdict"] not in wanted:
                counts[f"verdict_{row['verdict']}"] += 1
                continue
            found = self.encoder.encode(row, self.encoder.turns(row))
            if isinstance(found, str):
                reason, _, detail = found.partition(": ")
                counts[reason] += 1
                drops.add("trace", reason, row["problem_id"], row["trace_id"], detail or None)
                continue
            encoded[place] = found
        with self._named():
            scored = dict(zip(encoded, self.score(list(encoded.values())), strict=True)) if encoded else {}
        for scores in scored.values():
            counts.update(scored=1, tokens=self.tokens_of(scores))
            if isinstance(self.how.settings, ContrastSettings):
                counts["critical"] += int(np.count_nonzero(scores < 0.5))
        return [scored.get(place) for place in range(len(rows))]

    def tokens_of(self, scored: Any) -> int:
        """Of a sample that has been scored."""
        return len(scored)

    def score(self, sequences: list[Encoded]) -> Iterator[Any]:
        """The numbers of the own tokens of each, in order, float32."""
        from redi_ray.train.token_scores import score_tokens

        scorer, unscored = scorer_of(self.how, self.policies)
        own = [own_weights(one) for one in sequences]
        scores = score_tokens(
            scorer,
            [(one.input_ids, one.prompt_length, weights) for one, weights in zip(sequences, own, strict=True)],
            unscored=unscored,
            tokens_per_pack=self.how.train.tokens_per_pack,
            device=self.device,
        )
        return (_numbers(found[weights != 0]) for found, weights in zip(scores, own, strict=True))


def _numbers(values: np.ndarray) -> np.ndarray:
    """The same. Raises UserError where one is NaN or infinite, which a training would learn nothing but NaN from."""
    if not np.isfinite(values).all():
        raise UserError(
            "what it says of a token is no finite number (NaN or infinite): weights hold NaN or infinity, or overflow in the "
            "precision that it runs in (`precision: fp32` has room)"
        )
    return values


def scorer_of(how: TokenScoring, policies: Mapping[str, Policy]) -> tuple[TokenScorer, float]:
    """What scores tokens, and the number of one that nothing predicts."""
    from redi_ray.modeling.contrast import MOST, Contrast
    from redi_ray.train.token_scores import by_contrast, by_logps

    chunk = how.train.head_chunk_tokens
    if isinstance(how.settings, ContrastSettings):
        return by_contrast(Contrast(policies["right"], policies["wrong"], how.settings.beta, chunk)), MOST
    return by_logps(policies["model"], chunk), 0.0
