"""A column of what a reward model says of samples, of their steps, or of their tokens: by the policy that was trained, over
packs. A shard is one piece of work; one that is done is only counted."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.scorers import BY_STEPS, RewardScorer
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.columns import write_column
from redi_ray.data.curate.work import DROPPED, Drops, finish
from redi_ray.data.locate.locator import Steps, last_steps
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.sources.readers import DataError
from redi_ray.errors import UserError
from redi_ray.modeling.limits import longest_sequence
from redi_ray.modeling.tokenizer import load_tokenizer, tokenizer_fingerprints
from redi_ray.schemas import SCORE, SPAN_SCORE, token_scores, turns_of
from redi_ray.stages.model_shards import SampleEncoder, at_hand, call_shards, count_shards
from redi_ray.store import parquet, storage
from redi_ray.text.spans import Span, own_weights, span_of_tokens
from redi_ray.text.steps import RIGHT, UNSEEN, WRONG
from redi_ray.text.templates import Message
from redi_ray.text.tokens import Encoded

COLUMN = "column"
"""The table of numbers."""
READ = ("problem", "problem_id", "completion", "turns", "finish_reason")
NO_STEPS = "no_steps"
"""Why a sample has no spans: its last turn says nothing."""
KNOWN = ("in", "scored", "steps", "wrong", "unseen")
"""Counts that are no reasons."""
TURNING = 0.5
"""From this value on a step is labelled right, where values are shares of right ones."""


@dataclass(frozen=True)
class Rewarding:
    """How, the same for every shard."""

    samples: str
    """Folder of the shards."""
    out_uri: str
    model: str
    """The reward model's folder."""
    settings: RewardScorer
    prompt: PromptSettings
    overrides: ModelOverrides
    train: TrainSettings
    """Its precision, and what is held at a time."""

    def mark(self, name: str) -> str:
        return storage.join(self.out_uri, "work", f"{name}.json")


@dataclass(frozen=True)
class Prepared:
    """A sample to be scored."""

    encoded: Encoded
    weights: np.ndarray
    """`[T]` 1 where a value is read."""
    steps: Steps | None = None
    tokens: list[int | None] | None = None
    """The last token of each step; None of one without."""


def reward_samples(names: list[str], how: Rewarding, trainer: TrainerSettings) -> Counter[str]:
    """Write `<out_uri>/column/<name>` for every shard of samples, and `dropped`; the counts: `in`, `scored`, `steps`, `wrong`
    (steps labelled so) and `unseen`, and the samples without numbers by reason.

    Raises UserError where the model is none with a scalar head.
    """
    return count_shards(names, RewardShard, how, "the reward model's scoring", trainer)


def reward_folder(
    config: ExperimentConfig, scorer: RewardScorer, model: str | None, samples: str, out_uri: str, field: str
) -> tuple[Counter[str], dict[str, int]]:
    """The column of all shards below `samples`, as the run's settings have it; the counts, and of these why samples have no
    number. model: the export of the graph's reward model, where the scorer names one. field: of messages.

    Raises DataError where no sample could be scored.
    """
    folder = storage.resolve(scorer.folder) if scorer.folder else model
    assert folder is not None, "the graph gives it"
    how = Rewarding(
        samples=storage.resolve(samples),
        out_uri=storage.resolve(out_uri),
        model=folder,
        settings=scorer,
        prompt=config.model.prompt,
        overrides=config.model.overrides.scoring,
        train=config.redi.train,
    )
    names = [uri.removeprefix(how.samples + "/") for uri in trace_shards(how.samples)]
    told = reward_samples(names, how, config.resources.trainer)
    left_out = {name: told[name] for name in sorted(told) if name not in KNOWN}
    if not told["scored"]:
        raise DataError(f"{field}: none of {told['in']} samples could be scored: {left_out}")
    return told, left_out


def numerics_of(config: ExperimentConfig) -> dict[str, Any]:
    """What of a run's settings a reward model computes with, for keys."""
    return {"overrides": config.model.overrides.scoring, "precision": config.redi.train.precision}


class RewardShard:
    """An actor that holds the model."""

    def __init__(self, how: Rewarding) -> None:
        import torch

        from redi_ray.modeling.rewards import load_reward_policy, values_told
        from redi_ray.train.shard import compute_dtype

        self.how, self.folder = how, tempfile.TemporaryDirectory()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        path = at_hand(how.model, f"{self.folder.name}/model")
        dtype = compute_dtype(how.train.precision, self.device) or torch.float32
        try:
            policy = load_reward_policy(path, how.overrides, dtype=dtype)
        except ValueError as error:
            raise UserError(f"scorer.model: {error}") from error
        self.policy = policy.to(self.device).eval()
        self.told = values_told(policy.model.config, how.model)
        self.labelled = self.told["link"] == "sigmoid" or self.told.get("objective") == "step_mse"
        tokenizer = load_tokenizer(path, how.overrides.trust_remote_code)
        self.fingerprint = tokenizer_fingerprints(tokenizer)["tokenizer"]
        self.encoder = SampleEncoder(tokenizer, how.prompt, longest_sequence(policy.model.config))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return call_shards(self, batch)

    def shard(self, name: str) -> Counter[str]:
        """Write one shard of the column; its counts."""
        how, counts, drops = self.how, Counter[str](), Drops()

        def values(rows: pa.Table) -> list[dict[str, Any]]:
            return self.values(rows.to_pylist(), counts, drops)

        schema = {"row": SCORE, "span": SPAN_SCORE, "token": token_scores(self.fingerprint)}[how.settings.grain]
        write_column(storage.join(how.samples, name), storage.join(how.out_uri, COLUMN, name), schema, READ, values)
        if drops.rows:
            dropped = pa.Table.from_pylist(drops.rows, schema=DROPPED)
            parquet.write_table(storage.join(how.out_uri, "dropped", name), dropped)
        return finish(how.mark(name), counts)

    def values(self, rows: list[dict[str, Any]], counts: Counter[str], drops: Drops) -> list[dict[str, Any]]:
        """The column's rows of these samples, without the key."""
        prepared: dict[int, Prepared] = {}
        for place, row in enumerate(rows):
            counts["in"] += 1
            found = self.prepare(row)
            if isinstance(found, str):
                reason, _, detail = found.partition(": ")
                counts[reason] += 1
                drops.add("trace", reason, row["problem_id"], row["trace_id"], detail or None)
                continue
            prepared[place] = found
        scored = dict(zip(prepared, self.score(list(prepared.values())), strict=True)) if prepared else {}
        counts["scored"] += len(scored)
        if self.how.settings.grain != "span":
            name = "value" if self.how.settings.grain == "row" else "values"
            return [{name: scored.get(place)} for place in range(len(rows))]
        spans = [
            spans_of(prepared[place], scored[place], labelled=self.labelled) if place in scored else None
            for place in range(len(rows))
        ]
        labels = Counter(span["label"] for of in spans for span in of or ())
        counts.update(steps=labels.total(), wrong=labels[WRONG], unseen=labels[UNSEEN])
        return [{"spans": of} for of in spans]

    def prepare(self, row: dict[str, Any]) -> Prepared | str:
        """Where values of a sample are read, or why it cannot be scored."""
        turns = self.encoder.turns(row)
        encoded = self.encoder.encode(row, turns)
        if isinstance(encoded, str):
            return encoded
        own = own_weights(encoded)
        own[:1] = 0
        if self.how.settings.at in BY_STEPS:
            steps = last_steps(row, self.how.settings.form)
            if not steps.spans:
                return NO_STEPS
            tokens = self.last_tokens(row, turns, encoded, steps)
            weights = np.zeros_like(own)
            weights[[token for token in tokens if token is not None]] = 1
            return Prepared(encoded, weights, steps, tokens) if weights.any() else NO_STEPS
        if self.how.settings.at == "last" and self.told["at"] == "last":
            own[: np.flatnonzero(own)[-1]] = 0
        return Prepared(encoded, own)

    def last_tokens(
        self, row: dict[str, Any], turns: list[Message], encoded: Encoded, steps: Steps
    ) -> list[int | None]:
        """The last token of each step, None of one that has none."""
        before, after = turns_of(row)[steps.turn]["content"], turns[steps.turn]["content"]
        moved = [self.encoder.answers.moved({"start": start, "end": end}, before, after) for start, end in steps.spans]
        there = [number for number, place in enumerate(moved) if place is not None]
        spans = [Span(steps.turn, *place, 1.0) for place in moved if place is not None]
        found: list[int | None] = [None] * len(moved)
        of_token = span_of_tokens(encoded, turns, spans, self.encoder.tokenizer, self.how.prompt)
        for token in np.flatnonzero(of_token >= 0).tolist():
            found[there[of_token[token]]] = token
        return found

    def score(self, samples: list[Prepared]) -> list[Any]:
        """Of each sample its number, or that of its worst step; or the number of each step, None of one without a token; or that
        of each own token."""
        values = token_values(self.policy, samples, self.how.train.tokens_per_pack, self.device)
        if self.how.settings.at == "last":
            return [
                self.linked(float(np.mean(one[sample.weights != 0])))
                for sample, one in zip(samples, values, strict=True)
            ]
        if self.how.settings.at == "tokens":
            return [one[sample.weights != 0].tolist() for sample, one in zip(samples, values, strict=True)]
        steps = [
            [None if token is None else self.linked(float(one[token])) for token in sample.tokens or ()]
            for sample, one in zip(samples, values, strict=True)
        ]
        if self.how.settings.at == "worst_step":
            return [min(value for value in of if value is not None) for of in steps]
        return steps

    def linked(self, value: float) -> float:
        """What a value stands for."""
        return sigmoid(value) if self.told["link"] == "sigmoid" else value


def sigmoid(value: float) -> float:
    """1 / (1 + e^-v), also where e^-v is beyond what a float holds."""
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def token_values(policy: Any, samples: list[Prepared], tokens_per_pack: int, device: Any) -> list[np.ndarray]:
    """`[T]` float64 of each sample, NaN where no value is read. Packs go by length, longest first."""
    from redi_ray.train.records import SequenceRecord
    from redi_ray.train.references import reference_logps
    from redi_ray.train.sequences import SequenceStore

    store = SequenceStore.from_records(
        SequenceRecord(n, 1, one.encoded.input_ids, one.encoded.prompt_length, one.weights.tolist())
        for n, one in enumerate(samples)
    )
    index, found = reference_logps(
        policy, store, np.arange(len(store)), tokens_per_pack=tokens_per_pack, chunk_tokens=1, device=device
    )
    flat = np.full(len(store.tokens), np.nan)
    flat[index] = found
    return [flat[store.span(number)] for number in range(len(store))]


def spans_of(sample: Prepared, values: list[float | None], *, labelled: bool) -> list[dict[str, Any]]:
    """A span for each step, covering the turn. labelled: whether a value tells right from wrong."""
    assert sample.steps is not None

    def label(value: float | None) -> str | None:
        if value is None:
            return UNSEEN
        return (RIGHT if value >= TURNING else WRONG) if labelled else None

    return [
        {
            "turn": sample.steps.turn,
            "start": start,
            "end": end,
            "label": label(value),
            "value": value,
        }
        for (start, end), value in zip(sample.steps.spans, values, strict=True)
    ]
