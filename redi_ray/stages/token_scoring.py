"""A column of what models say of each token of samples, by the policy that trains, over packs: two of them in contrast, or one by
its log-probs. A shard is one piece of work; one that is done is only counted."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray

from redi_ray.cluster.capacity import require_room
from redi_ray.cluster.runtime import user_error
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.token_steps import ContrastSettings, LogpsSettings
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.columns import write_column
from redi_ray.data.curate.answers import Answers, is_finished
from redi_ray.data.curate.work import DROPPED, Drops, finish, finished
from redi_ray.errors import UserError
from redi_ray.modeling.limits import count_parameters, longest_sequence
from redi_ray.modeling.tokenizer import load_tokenizer, tokenizer_fingerprints
from redi_ray.schemas import token_scores, turns_of
from redi_ray.stages.references import half_precision, require_gpu_memory
from redi_ray.stages.remote import remotely
from redi_ray.store import parquet, storage
from redi_ray.text.prompts import to_messages
from redi_ray.text.spans import own_weights
from redi_ray.text.templates import PromptError
from redi_ray.text.tokens import Encoded
from redi_ray.text.turns import encode_turns
from redi_ray.train.fingerprints import model_fingerprint

if TYPE_CHECKING:
    from redi_ray.modeling.policy import Policy
    from redi_ray.train.token_scores import TokenScorer

READ = ("problem", "problem_id", "completion", "turns", "finish_reason")
TOO_LONG, NOT_ENCODABLE = "too_long_for_the_models", "not_encodable"
"""Why a sample has no values, beside its verdict."""


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
    settings: ContrastSettings | LogpsSettings
    prompt: PromptSettings
    overrides: ModelOverrides
    train: TrainSettings
    """Its precision, and what is held at a time."""

    @property
    def plain(self) -> ModelOverrides:
        """Of the models: adapters belong to what is trained, and these are finished."""
        return ModelOverrides(
            rope_theta=self.overrides.rope_theta,
            max_position_embeddings=self.overrides.max_position_embeddings,
            trust_remote_code=self.overrides.trust_remote_code,
        )


def score_samples_tokens(names: list[str], how: TokenScoring, trainer: TrainerSettings) -> Counter[str]:
    """Write `<out_uri>/column/<name>` for every shard of samples, and `dropped`; the counts: `in`, `scored`, `tokens` and of a
    contrast `critical` (tokens below a half), and the samples without values by reason.

    Raises UserError where a model has another tokenizer than the base model, or does not fit.
    """
    counts: Counter[str] = Counter()
    left = []
    for name in names:
        known = finished(_mark(how, name))
        counts.update(known or {})
        left += [] if known is not None else [name]
    if left:
        remotely(require_one_tokenizer, how)
    for found in _score(left, how, trainer) if left else ():
        counts.update(found)
    return counts


def require_one_tokenizer(how: TokenScoring) -> None:
    """Raise UserError where a model has another tokenizer than the base model."""
    trusted = how.overrides.trust_remote_code
    ours = tokenizer_fingerprints(load_tokenizer(how.tokenizer, trusted))["tokenizer"]
    for role, model in how.models.items():
        if tokenizer_fingerprints(load_tokenizer(model, trusted))["tokenizer"] != ours:
            raise UserError(
                f"{how.step}: the model `{role}` ({model}) has another tokenizer than the base model: train it from that one"
            )


def _mark(how: TokenScoring, name: str) -> str:
    return storage.join(how.out_uri, "work", f"{name}.json")


def _score(names: list[str], how: TokenScoring, trainer: TrainerSettings) -> Iterator[dict[str, int]]:
    resources = {"CPU": trainer.cpus_per_worker} | ({"GPU": 1.0} if trainer.use_gpu else {})
    sizes = [count_parameters(model) for model in how.models.values()]
    if None not in sizes:
        resources["memory"] = sum(filter(None, sizes)) * (2 if half_precision(how.train, trainer) else 4)
        require_room(f"the scoring of {how.step}", [resources], trainer.label_selector)
        if trainer.use_gpu:
            require_gpu_memory(int(resources["memory"]), trainer.label_selector)
    fewest, most = trainer.pool
    tasks = ray.data.from_items([{"name": name} for name in names], override_num_blocks=len(names)).map_batches(
        TokenScoringShard,
        fn_constructor_args=(how,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=min(fewest, len(names)), max_size=min(most, len(names))),
        num_cpus=trainer.cpus_per_worker,
        num_gpus=1 if trainer.use_gpu else 0,
        memory=resources.get("memory"),
        label_selector=trainer.label_selector or None,
    )
    tasks.context.raise_original_map_exception = True  # or a UserError would arrive as text
    try:
        for row in tasks.iter_rows():
            yield {name: int(number) for name, number in zip(row["reasons"], row["counts"], strict=True)}
    except ray.exceptions.RayTaskError as error:
        if (told := user_error(error)) is not None:
            raise told from None
        raise


class TokenScoringShard:
    """An actor that holds the models."""

    def __init__(self, how: TokenScoring) -> None:
        import torch

        from redi_ray.modeling.policy import load_policy
        from redi_ray.train.shard import compute_dtype

        self.how, self.folder = how, tempfile.TemporaryDirectory()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = load_tokenizer(how.tokenizer, how.overrides.trust_remote_code)
        dtype = compute_dtype(how.train.precision, self.device) or torch.float32
        folders = {role: self._local(role, model) for role, model in how.models.items()}
        policies = {
            role: load_policy(of, how.plain, dtype=dtype).to(self.device).eval() for role, of in folders.items()
        }
        reaches = (longest_sequence(policy.model.config) for policy in policies.values())
        self.positions = min((reach for reach in reaches if reach), default=None)
        self.scorer, self.unscored = scorer_of(how, policies)
        self.schema = token_scores(tokenizer_fingerprints(self.tokenizer)["tokenizer"], self._whose(folders))
        self.answers = Answers(self.tokenizer, how.prompt)

    def _whose(self, folders: Mapping[str, str]) -> str | None:
        """Fingerprint of the one model whose numbers these are."""
        if not isinstance(self.how.settings, LogpsSettings):
            return None
        (folder,) = folders.values()
        return model_fingerprint(folder, self.how.plain)

    def _local(self, role: str, model: str) -> str:
        """The model's folder here."""
        if model.startswith("s3://"):
            storage.download(model, Path(self.folder.name) / role)
            return str(Path(self.folder.name) / role)
        return model

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        told = [self.shard(str(name)) for name in batch["name"]]
        return {"reasons": [list(one) for one in told], "counts": [list(one.values()) for one in told]}

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

    def values(self, rows: list[dict[str, Any]], counts: Counter[str], drops: Drops) -> list[np.ndarray | None]:
        """Of each sample the numbers `[own tokens]`, or None."""
        wanted = self.how.settings.verdicts
        encoded: dict[int, Encoded] = {}
        for place, row in enumerate(rows):
            counts["in"] += 1
            if wanted is not None and row["verdict"] not in wanted:
                counts[f"verdict_{row['verdict']}"] += 1
                continue
            found = self.encode(row)
            if isinstance(found, str):
                reason, _, detail = found.partition(": ")
                counts[reason] += 1
                drops.add("trace", reason, row["problem_id"], row["trace_id"], detail or None)
                continue
            encoded[place] = found
        scored = dict(zip(encoded, self.score(list(encoded.values())), strict=True)) if encoded else {}
        for scores in scored.values():
            counts.update(scored=1, tokens=len(scores))
            if isinstance(self.how.settings, ContrastSettings):
                counts["critical"] += int(np.count_nonzero(scores < 0.5))
        return [scored.get(place) for place in range(len(rows))]

    def encode(self, row: Mapping[str, Any]) -> Encoded | str:
        """The sample as it is trained on, or why it cannot be."""
        turns = [
            self.answers.message(turn["content"]) if turn["role"] == "assistant" else turn for turn in turns_of(row)
        ]
        whole = is_finished(row) and turns[-1]["role"] == "assistant"
        try:
            found = encode_turns(
                to_messages(row["problem"], self.how.prompt), turns, self.tokenizer, self.how.prompt, finished=whole
            )
        except (ValueError, PromptError) as error:
            return f"{NOT_ENCODABLE}: {error}"
        if self.positions is not None and len(found.input_ids) > self.positions:
            return f"{TOO_LONG}: {len(found.input_ids)} tokens"
        return found if own_weights(found)[1:].any() else f"{NOT_ENCODABLE}: no token is the model's own"

    def score(self, sequences: list[Encoded]) -> Iterator[np.ndarray]:
        """The numbers of the own tokens of each, in order, float32."""
        from redi_ray.train.token_scores import score_tokens

        own = [own_weights(one) for one in sequences]
        scores = score_tokens(
            self.scorer,
            [(one.input_ids, one.prompt_length, weights) for one, weights in zip(sequences, own, strict=True)],
            unscored=self.unscored,
            tokens_per_pack=self.how.train.tokens_per_pack,
            device=self.device,
        )
        return (found[weights != 0] for found, weights in zip(scores, own, strict=True))


def scorer_of(how: TokenScoring, policies: Mapping[str, Policy]) -> tuple[TokenScorer, float]:
    """What scores tokens, and the number of one that nothing predicts."""
    from redi_ray.modeling.contrast import MOST, Contrast
    from redi_ray.train.token_scores import by_contrast, by_logps

    chunk = how.train.head_chunk_tokens
    if isinstance(how.settings, ContrastSettings):
        return by_contrast(Contrast(policies["right"], policies["wrong"], how.settings.beta, chunk)), MOST
    return by_logps(policies["model"], chunk), 0.0
