"""Groups as they are written -> the arrays that training reads -> loss and slopes, with log-probs that are given for each token.

What stands between is ours: tokenising, weights, units, batches, the objective. No model is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from redi_ray.config.objectives import Objective
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.training import TrainSettings
from redi_ray.objectives.base import MismatchedScores
from redi_ray.schemas import GROUP
from redi_ray.stages.encoding import Weighting
from redi_ray.stages.groups import Learnt
from redi_ray.stages.joining import join_parts
from redi_ray.stages.parts import plan_parts
from redi_ray.stages.tokenising import Tokenising, tokenise_part
from redi_ray.store import parquet
from redi_ray.train.batches import BatchPlan, Pack
from redi_ray.train.bound import BoundObjective, batch_units, columns_of, mismatched_scores
from redi_ray.train.mismatched import mismatched_sequences
from redi_ray.train.packs import pack_tensors
from redi_ray.train.sequences import REFERENCE, SequenceStore

Logps = Callable[[int], tuple[float, float]]
"""Token -> its log-prob by the policy and by the reference."""


def member(*turns: str | tuple[str, str], side: int = 1, **more: Any) -> dict[str, Any]:
    """An answer: texts of the assistant's, or (role, text)."""
    said = [("assistant", turn) if isinstance(turn, str) else turn for turn in turns]
    chat = [{"role": role, "content": text} for role, text in said]
    return {"turns": chat, "side": side, "reward": None, "finished": True, "spans": None, **more}


def group(name: str, *members: dict[str, Any], asks: str = "0") -> dict[str, Any]:
    prompt = [{"role": "user", "content": asks}]
    return {"group_id": name, "problem_id": name, "prompt": prompt, "members": list(members)}


def span(start: int, end: int, value: float, turn: int = 0) -> dict[str, Any]:
    return {"turn": turn, "start": start, "end": end, "value": value}


@dataclass(frozen=True)
class Arrays:
    """Rows of GROUP, tokenised."""

    rows: list[dict[str, Any]]
    folder: Path
    tokenizer: Any
    logps: Logps
    weighting: Weighting = field(default_factory=lambda: Weighting(end_of_turn=False, think_tags=False))
    prompt: PromptSettings = field(default_factory=lambda: PromptSettings(prefix=""))

    def store(self, kind: Learnt) -> SequenceStore:
        """With the reference as a column of float64, so that golden values hold to all their digits."""
        folder = self.folder / kind
        self.tokenizer.save_pretrained(folder / "tokenizer")
        parquet.write_table(f"{folder}/in/part-0.parquet", pa.Table.from_pylist(self.rows, schema=GROUP))
        how = Tokenising("groups", kind, f"{folder}/out", f"{folder}/tokenizer", self.prompt, self.weighting)
        planned = plan_parts([f"{folder}/in/part-0.parquet"])
        told = [tokenise_part(part, how) for part in planned]
        assert sum(one["out"] for one in told) == sum(one["in"] for one in told), told
        join_parts(planned, how)
        return self._with_reference(SequenceStore.load(folder / "out" / "arrays"))

    def scored(self, kind: Learnt) -> list[str]:
        """What the scored tokens of each sequence say."""
        store = self.store(kind)
        spans = [store.span(n) for n in range(len(store))]
        return [self.tokenizer.decode(store.tokens[s][np.asarray(store.weights[s]) != 0]) for s in spans]

    def evaluate(
        self, objective: Objective, kind: Learnt, mismatched: MismatchedScores | None = None
    ) -> tuple[float, list[float]]:
        """Loss of one batch of all groups, and what each scored token's log-prob has for a coefficient.

        mismatched: in place of those that the sequences themselves make."""
        store = self.store(kind)
        plan = BatchPlan(store, TrainSettings(batch_size=store.num_groups), 1)[0]
        units = batch_units(store, plan.sequences)
        if objective.name == "kto" and mismatched is None:
            mismatched = self.mismatched(store, plan.sequences)
        bound = BoundObjective(store, plan, objective, 0.0, units, mismatched)
        pack = Pack(tuple(plan.sequences.tolist()), len(store.tokens))
        tensors = pack_tensors(store, pack, units.slots, torch.device("cpu"), columns=columns_of(objective))
        given = self._policy(tensors.targets.numpy())
        sums = torch.zeros(len(units.lengths), dtype=torch.float64)
        tensors.add_to(sums, given)
        slopes = tensors.weighted(bound.coefficients(sums)[tensors.slots])
        return bound.evaluate(sums, float(bound.local_sum(tensors, given)))[0], slopes.tolist()

    def mismatched(self, store: SequenceStore, sequences: np.ndarray) -> MismatchedScores:
        """Of other groups' completions, by the same log-probs."""
        others = self._with_reference(mismatched_sequences(store))
        spans = [others.span(int(n)) for n in sequences]
        sums = [
            float(self._policy(others.tokens[s]) @ torch.from_numpy(others.weights[s].astype(float))) for s in spans
        ]
        return mismatched_scores(others, sequences, torch.tensor(sums, dtype=torch.float64))

    def _policy(self, tokens: np.ndarray) -> torch.Tensor:
        return torch.tensor([self.logps(token)[0] for token in tokens.tolist()], dtype=torch.float64)

    def _with_reference(self, store: SequenceStore) -> SequenceStore:
        return store.with_column(REFERENCE, np.array([self.logps(token)[1] for token in store.tokens.tolist()]))
