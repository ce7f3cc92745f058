"""The world of `distillation.py`: a larger teacher, a smaller student, and what the one says of its own texts and of the other's.

Facts, misconceptions and chains are those of `reproduction.py`. Teacher and student learn the world from one corpus,
misconceptions and all, the teacher from more of it; then the teacher learns from its own right answers. The student is what all
arms start from.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from in_process import TOKENS_PER_PACK, draw, random_model, settings, store_of_groups
from reproduction_runs import PROMPT, TOKENIZER, Scale, SeedRun, sample, store_of, verdicts
from wrong_parts_digits import judged
from wrong_parts_runs import Arm, Row, group_of, replaced, write

from redi_ray.config.objectives import (
    ForwardKlObjective,
    JsObjective,
    OnPolicyDistillationObjective,
    RediObjective,
    ReverseKlObjective,
    SftObjective,
    SoftRediObjective,
)
from redi_ray.config.student import Architecture
from redi_ray.data.sources.world import corpus
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.soft_columns import SoftFormat
from redi_ray.objectives import SOFT_TARGETS
from redi_ray.objectives.needs import SAMPLER, TEACHER
from redi_ray.schemas import Verdict
from redi_ray.stages.encoding import Encoder, Weighting
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids
from redi_ray.train.loop import train
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.token_scores import by_logps, score_distributions, score_tokens

SAMPLES = 4
"""Of each problem by the teacher, and by the student where it learns from its own."""
TOP_K = 8
SEQUENCES = 16
"""A step, whoever wrote them: so are tokens that the teacher has written or scored, to a few percent."""
PAIRED = SEQUENCES // 2
STUDENT = Architecture(hidden_size=96, num_layers=3, num_heads=3, num_kv_heads=3, intermediate_size=384)
LARGER = Architecture(hidden_size=160, num_layers=3, num_heads=5, num_kv_heads=5, intermediate_size=640)
ARMS: dict[str, Arm] = {
    "SFT": Arm("right", SftObjective(), SEQUENCES),
    "forward KL": Arm("right", ForwardKlObjective(), SEQUENCES),
    "reverse KL": Arm("right", ReverseKlObjective(), SEQUENCES),
    "JS": Arm("right", JsObjective(), SEQUENCES),
    "on-policy": Arm("own", OnPolicyDistillationObjective(), SEQUENCES),
    "on-policy JS": Arm("own", JsObjective(), SEQUENCES),
    "REDI": Arm("pairs", RediObjective(alpha=0.2), PAIRED),
    "soft REDI": Arm("pairs", SoftRediObjective(alpha=0.2), PAIRED),
}
COMPARED = [
    *((arm, "SFT") for arm in ("forward KL", "reverse KL", "JS", "on-policy", "REDI", "soft REDI")),
    ("on-policy", "forward KL"),
    ("on-policy JS", "JS"),
    ("soft REDI", "REDI"),
    ("soft REDI", "forward KL"),
]


@dataclass(frozen=True)
class DistillationScale(Scale):
    """Chosen so that a world takes minutes on a core."""

    problems: int = 800
    dev: int = 250
    test: int = 400
    corpus: int = 16_000
    student_corpus: int = 8_000
    """Of the same corpus, the first ones."""
    min_digits: int = 3
    max_digits: int = 5
    base_epochs: int = 1
    base_rate: float = 2e-3
    misconception_rate: float = 0.5
    sft_epochs: int = 4
    dev_samples: int = 2
    test_samples: int = 8
    steps: int = 200


class Distillation(SeedRun):
    """A seed's world, its two models and its data."""

    scale: DistillationScale

    def __init__(self, seed: int, scale: DistillationScale, folder: Path) -> None:
        super().__init__(seed, scale, folder)
        self.steps = scale.steps
        self.encoder = Encoder(TOKENIZER, PROMPT, Weighting(end_of_turn=False, think_tags=False))
        self._stores: dict[str, SequenceStore] = {}

    def fresh(self) -> Policy:
        return random_model(STUDENT.model_copy(update={"seed": self.seed}), TOKENIZER)

    @cached_property
    def sft(self) -> Policy:
        """What all arms start from: the student, which has seen a part of the corpus."""
        return self._kept("student", self.fresh(), lambda policy: self._learn(policy, self.scale.student_corpus))

    @cached_property
    def teacher(self) -> Policy:
        policy = random_model(LARGER.model_copy(update={"seed": self.seed + 1}), TOKENIZER)

        def learn(policy: Policy) -> None:
            self._learn(policy, self.scale.corpus)
            firsts = [next((row for row in rows if right(row)), None) for rows in self._drawn(policy, "corpus")]
            told = [(number, 1, row["problem"], row["completion"]) for number, row in enumerate(filter(None, firsts))]
            how = settings(self.scale.sft_learning_rate, self.scale.sft_epochs, self.seed, batch_size=32)
            train(policy, store_of(told), SftObjective(), how)

        return self._kept("teacher", policy, learn)

    def _kept(self, name: str, policy: Policy, learn: object) -> Policy:
        """The model, trained once."""
        path = self.weights(name)
        if path.exists():
            policy.load_state_dict(torch.load(path, weights_only=True))
        else:
            assert callable(learn)
            learn(policy)
            replaced(path, lambda part: torch.save(policy.state_dict(), part))
        return policy

    def _learn(self, policy: Policy, texts: int) -> None:
        rows = [(group, 1, *row) for group, row in enumerate(corpus(self.source, texts))]
        how = settings(self.scale.base_rate, self.scale.base_epochs, self.seed, weight_decay=0.01)
        train(policy, store_of(rows), SftObjective(), how)

    def _drawn(self, policy: Policy, name: str) -> list[list[Row]]:
        """Samples of each problem with verdicts, drawn once."""
        path = self.folder / f"{name}-{self.seed}.json"
        if not path.exists():
            asked = [(number, index) for number in range(len(self.world.train)) for index in range(SAMPLES)]
            prompts = [prompt_ids(to_messages(problem, PROMPT), TOKENIZER, PROMPT) for problem in self.world.train]
            said = draw(
                policy, [prompts[number] for number, _ in asked], TOKENIZER, "teacher", self.seed * 1000 + len(name)
            )
            write(
                path,
                [
                    judged(str(number), index, self.world.train[number], PROMPT.prefix, one)
                    for (number, index), one in zip(asked, said, strict=True)
                ],
            )
        rows = json.loads(path.read_text())
        return [rows[start : start + SAMPLES] for start in range(0, len(rows), SAMPLES)]

    def store(self, data: str) -> SequenceStore:
        """`right` and `pairs` of the teacher's samples, `own` of the student's; with what the teacher says of each token."""
        if data not in self._stores:
            makes = {"right": self._right, "pairs": self._pairs, "own": self._own}
            groups = [group_of(number, PROMPT, sides) for number, sides in enumerate(makes[data]())]
            self._stores[data] = scored(store_of_groups(groups, self.encoder), self.teacher, self.sft)
        return self._stores[data]

    def _right(self) -> Iterator[list[tuple[Row, int]]]:
        return ([(row, 1)] for rows in self._drawn(self.teacher, "taught") for row in rows if right(row))

    def _pairs(self) -> Iterator[list[tuple[Row, int]]]:
        """The first right and the first wrong sample of each problem that has both."""
        for rows in self._drawn(self.teacher, "taught"):
            if len({right(row) for row in rows}) == 2:
                yield [
                    (next(row for row in rows if right(row) == is_right), side)
                    for is_right, side in ((True, 1), (False, -1))
                ]

    def _own(self) -> Iterator[list[tuple[Row, int]]]:
        """Every sample, right or wrong: what counts is what the teacher says of it."""
        return ([(row, 1)] for rows in self._drawn(self.sft, "own") for row in rows)

    def test_right(self, policy: Policy) -> list[int]:
        drawn = sample(policy, self.world.test, "evaluation", self.scale.test_samples, seed=self.seed)
        return verdicts(self.world.test, drawn).sum(axis=1).tolist()

    def facts(self) -> Row:
        """What the data are, in numbers; found once."""
        path = self.folder / f"facts-{self.seed}.json"
        if not path.exists():
            write(path, self._facts())
        return json.loads(path.read_text())

    def _facts(self) -> Row:
        stores = {data: self.store(data) for data in ("right", "pairs", "own")}
        shares = {name: self._drawn(policy, name) for name, policy in (("taught", self.teacher), ("own", self.sft))}
        return {
            "seed": self.seed,
            **{f"right_{name}": float(np.mean([right(row) for rows in found for row in rows])) for name, found in shares.items()},
            **{f"groups_{data}": store.num_groups for data, store in stores.items()},
            **{f"tokens_a_step_{data}": SEQUENCES * float(np.mean(store.scored)) for data, store in stores.items()},
            "teacher": float(np.mean(self.test_right(self.teacher))) / self.scale.test_samples,
        }  # fmt: skip


def right(row: Row) -> bool:
    return row["verdict"] == Verdict.CORRECT


def scored(store: SequenceStore, teacher: Policy, sampler: Policy) -> SequenceStore:
    """The sequences with the teacher's log-probs and distributions, and the log-probs of the student that sampled."""
    told: Sequence[tuple[list[int], int, np.ndarray]] = [
        (store.tokens[span].tolist(), int(prompt), np.asarray(store.weights[span]))
        for span, prompt in ((store.span(n), store.prompt_lengths[n]) for n in range(len(store)))
    ]
    how = {"tokens_per_pack": TOKENS_PER_PACK, "device": torch.device("cpu")}
    teacher, sampler = (copy.copy(policy).eval() for policy in (teacher, sampler))
    form = SoftFormat(TOP_K, len(teacher.head_weight))
    records = score_distributions(teacher, told, form, chunk_tokens=512, **how)
    store = store.with_column(SOFT_TARGETS, np.concatenate(records))
    for name, policy in ((TEACHER, teacher), (SAMPLER, sampler)):
        logps = score_tokens(by_logps(policy, 512), told, unscored=0.0, **how)
        store = store.with_column(name, np.concatenate(logps))
    return store
