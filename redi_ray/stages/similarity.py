"""A column of how near the steps of a sample's thinking are to others, by a model's embeddings: to the response, or to the step
before (`redi_ray.data.score.step_rewards`). A shard is one piece of work; one that is done is only counted."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.resources import TrainerSettings
from redi_ray.config.trace_rewards import SimilarityScorer
from redi_ray.config.training import ModelOverrides, TrainSettings
from redi_ray.data.columns import write_column
from redi_ray.data.curate.work import DROPPED, Drops, finish
from redi_ray.data.locate.locator import Steps, last_steps
from redi_ray.data.sample.survey import trace_shards
from redi_ray.data.score.step_rewards import Floats, alignment, coherence
from redi_ray.data.sources.readers import DataError
from redi_ray.errors import UserError
from redi_ray.modeling.limits import longest_sequence
from redi_ray.modeling.tokenizer import load_tokenizer
from redi_ray.schemas import SPAN_SCORE
from redi_ray.stages.model_shards import NOT_ENCODABLE, at_hand, call_shards, count_shards
from redi_ray.store import parquet, storage
from redi_ray.text.steps import thinking_and_response
from redi_ray.text.thoughts import without_tags
from redi_ray.text.tokens import plain_ids

READ = ("problem", "problem_id", "completion", "turns")
NO_THINKING, NO_RESPONSE, NO_NEGATIVES = "no_thinking", "no_response", "no_negatives"
"""Why a sample has no spans, beside a step that is no token to the model (`not_encodable`): nothing stands before its response;
nothing behind its thinking; no sample of another problem is read with it."""
THINKING, RESPONSE = "thinking", "response"
"""Labels of the spans; a step of the response has no number."""


@dataclass(frozen=True)
class Comparing:
    """How, the same for every shard."""

    samples: str
    """Folder of the shards."""
    out_uri: str
    model: str
    """The model's folder."""
    settings: SimilarityScorer
    overrides: ModelOverrides
    train: TrainSettings
    """Its precision, and what is held at a time."""

    def mark(self, name: str) -> str:
        return storage.join(self.out_uri, "work", f"{name}.json")


Pool = list[tuple[str, str]]
"""(problem_id, text) of steps."""


@dataclass(frozen=True)
class Parts:
    """A sample's steps."""

    steps: Steps
    thinking: int
    """How many of them, the first ones, are steps of the thinking."""
    texts: list[str]
    """What is embedded: the problem, the steps of the thinking, those of the response."""
    problem_id: str
    trace_id: str


def compare_samples(names: list[str], how: Comparing, trainer: TrainerSettings) -> Counter[str]:
    """Write `<out_uri>/column/<name>` for every shard of samples, and `dropped`; the counts: `in`, `scored`, `steps`, and the
    samples without numbers by reason."""
    return count_shards(names, SimilarityShard, how, "the model's embeddings", trainer)


def compare_folder(
    config: ExperimentConfig, scorer: SimilarityScorer, model: str | None, samples: str, out_uri: str, field: str
) -> tuple[Counter[str], dict[str, int]]:
    """The same of all shards below `samples`, as the run's settings have it; the counts, and of these why samples have no
    numbers. model: the export of the graph's model, where the scorer names one. field: of messages.

    Raises DataError where no sample could be compared.
    """
    folder = storage.resolve(scorer.folder) if scorer.folder else model
    assert folder is not None, "the graph gives it"
    root, train = storage.resolve(samples), config.redi.train
    how = Comparing(root, storage.resolve(out_uri), folder, scorer, config.model.overrides.scoring, train)
    names = [uri.removeprefix(root + "/") for uri in trace_shards(root)]
    told = compare_samples(names, how, config.resources.trainer)
    left_out = {name: told[name] for name in sorted(told) if name not in ("in", "scored", "steps")}
    if not told["scored"]:
        raise DataError(f"{field}: none of {told['in']} samples could be compared: {left_out}")
    return told, left_out


class SimilarityShard:
    """An actor that holds the model."""

    def __init__(self, how: Comparing) -> None:
        import torch

        from redi_ray.modeling.policy import load_policy
        from redi_ray.train.shard import compute_dtype

        self.how, self.folder = how, tempfile.TemporaryDirectory()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        path = at_hand(how.model, f"{self.folder.name}/model")
        dtype = compute_dtype(how.train.precision, self.device) or torch.float32
        try:
            policy = load_policy(path, how.overrides, dtype=dtype)
        except ValueError as error:
            raise UserError(f"scorer.model: {error}") from error
        self.policy = policy.to(self.device).eval()
        self.tokenizer = load_tokenizer(path, how.overrides.trust_remote_code)
        self.positions = longest_sequence(self.policy.model.config)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return call_shards(self, batch)

    def shard(self, name: str) -> Counter[str]:
        """Write one shard of the column; its counts."""
        how, counts, drops = self.how, Counter[str](), Drops()

        def values(rows: pa.Table) -> list[dict[str, Any]]:
            return [{"spans": spans} for spans in self.spans(rows.to_pylist(), counts, drops)]

        out = storage.join(how.out_uri, "column", name)
        write_column(storage.join(how.samples, name), out, SPAN_SCORE, READ, values)
        if drops.rows:
            dropped = pa.Table.from_pylist(drops.rows, schema=DROPPED)
            parquet.write_table(storage.join(how.out_uri, "dropped", name), dropped)
        return finish(how.mark(name), counts)

    def spans(
        self, rows: list[dict[str, Any]], counts: Counter[str], drops: Drops
    ) -> list[list[dict[str, Any]] | None]:
        """A span for each step of each of these samples, covering the turn; None of one that has no numbers."""
        found = [parts_of(row, self.how.settings) for row in rows]
        usable = [one for one in found if isinstance(one, Parts)]
        known = self.embed([text for one in usable for text in one.texts])
        pool = [(one.problem_id, text) for one in usable for text in one.texts[1 : 1 + one.thinking] if text in known]
        made: list[list[dict[str, Any]] | None] = []
        for row, one in zip(rows, found, strict=True):
            counts["in"] += 1
            spans = one if isinstance(one, str) else self.spans_of(one, pool, known)
            if isinstance(spans, str):
                counts[spans] += 1
                drops.add("trace", spans, row["problem_id"], row["trace_id"])
            else:
                counts.update(scored=1, steps=sum(span["label"] == THINKING for span in spans))
            made.append(None if isinstance(spans, str) else spans)
        return made

    def embed(self, texts: list[str]) -> dict[str, Floats]:
        """Text -> its embedding `[d]`; a text longer than the model reaches is cut off."""
        from redi_ray.train.embeddings import mean_hidden

        once = list(dict.fromkeys(texts))
        ids = [plain_ids(text, self.tokenizer)[: self.positions] for text in once]
        there = [at for at, one in enumerate(ids) if one]
        if not there:
            return {}
        pack = self.how.train.tokens_per_pack
        found = mean_hidden(self.policy, [ids[at] for at in there], tokens_per_pack=pack, device=self.device)
        return {once[at]: vector for at, vector in zip(there, found, strict=True)}

    def spans_of(self, one: Parts, pool: Pool, known: dict[str, Floats]) -> list[dict[str, Any]] | str:
        """A span for each step, covering the turn, or why there are none. pool: steps of the samples that are read with it."""
        if not all(text in known for text in one.texts):
            return NOT_ENCODABLE
        numbers = self.numbers(one, pool, known)
        if numbers is None:
            return NO_NEGATIVES
        values = [*map(float, numbers), *[None] * (len(one.steps.spans) - one.thinking)]
        return [
            {
                "turn": one.steps.turn,
                "start": start,
                "end": end,
                "label": THINKING if at < one.thinking else RESPONSE,
                "value": value,
            }
            for at, ((start, end), value) in enumerate(zip(one.steps.spans, values, strict=True))
        ]

    def numbers(self, one: Parts, pool: Pool, known: dict[str, Floats]) -> Floats | None:
        """`[thinking]` the number of each step of the thinking; None without negatives."""
        problem, *texts = one.texts
        steps = np.stack([known[text] for text in texts[: one.thinking]])
        if self.how.settings.to == "response":
            return alignment(steps, np.stack([known[text] for text in texts[one.thinking :]]))
        before = [problem, *texts[: one.thinking - 1]]
        drawn = draw_negatives(one, before, pool, self.how.settings)
        if drawn is None:
            return None
        cosines = np.einsum("td,td->t", steps, np.stack([known[text] for text in before]))
        negatives = np.stack([np.stack([known[text] for text in row]) for row in drawn])
        return coherence(cosines, np.einsum("td,tnd->tn", steps, negatives), self.how.settings.temperature)


def parts_of(row: dict[str, Any], settings: SimilarityScorer) -> Parts | str:
    """The steps of a sample's last turn, or why it has no numbers."""
    steps = last_steps(row, settings.form)
    thinking, response = thinking_and_response(steps.text, steps.spans)
    if not thinking:
        return NO_THINKING
    if settings.to == "response" and not response:
        return NO_RESPONSE
    texts = [without_tags(steps.text[slice(*piece)]).strip() for piece in (*thinking, *response)]
    return Parts(steps, len(thinking), [row["problem"].strip(), *texts], row["problem_id"], row["trace_id"])


def draw_negatives(one: Parts, before: list[str], pool: Pool, settings: SimilarityScorer) -> list[list[str]] | None:
    """For each step of the thinking as many texts of other problems' steps, none that of the step before; None where a step has
    none. The draw depends on the seed, the sample, and what is read with it; where few fit, they come more than once."""
    digest = hashlib.blake2b(f"{settings.seed}/{one.trace_id}".encode(), digest_size=8).digest()
    draw, found = np.random.default_rng(int.from_bytes(digest)), []
    for text in before:
        drawn = [pool[at] for at in draw.integers(len(pool), size=4 * settings.negatives)]
        fitting = [other for problem, other in drawn if problem != one.problem_id and other != text]
        if not fitting:  # most of them are this problem's, or all are
            fitting = [other for problem, other in pool if problem != one.problem_id and other != text]
        if not fitting:
            return None
        found.append([fitting[at % len(fitting)] for at in range(settings.negatives)])
    return found
