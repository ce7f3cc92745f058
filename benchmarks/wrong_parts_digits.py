"""The world of `wrong_parts.py` whose chains are worked out line by line: steps and tokens.

All samples are the SFT model's own. Step-DPO draws two of each problem, finds the first wrong line of the wrong ones, and goes on
from there; what that costs in sampled tokens the arms on whole traces spend on further samples of each problem.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from in_process import TOKENS_PER_PACK, Said, draw, random_model, settings, store_of_groups
from reproduction_runs import PROMPT, TOKENIZER, Scale, SeedRun, sample, verdicts
from wrong_parts_runs import Arm, Row, group_of, write

from redi_ray.config.objectives import DpoObjective, RediObjective, SftObjective
from redi_ray.config.student import Architecture
from redi_ray.config.token_steps import RectifySettings
from redi_ray.data.curate.answers import Answers, is_finished
from redi_ray.data.curate.choice import combinations, ranked
from redi_ray.data.curate.scan import spelling
from redi_ray.data.curate.work import Drops
from redi_ray.data.groups.choose import Losses, frequent
from redi_ray.data.locate.exact import labels_of
from redi_ray.data.locate.locate import spans_of
from redi_ray.data.locate.locator import Labelled, Steps
from redi_ray.data.rectify.pairs import choose, step_pair
from redi_ray.data.rectify.starts import Finder
from redi_ray.data.sample.samples import BEGUN
from redi_ray.data.sources.world import answer, apply, read_chain
from redi_ray.modeling.contrast import MOST, Contrast
from redi_ray.modeling.policy import Policy
from redi_ray.schemas import Verdict
from redi_ray.stages.encoding import Encoder, Weighting
from redi_ray.text.answers import verify_answer
from redi_ray.text.prompts import to_messages
from redi_ray.text.spans import own_weights
from redi_ray.text.steps import split_steps
from redi_ray.text.tokens import completion_ids, encode, prompt_ids
from redi_ray.train.loop import train
from redi_ray.train.sequences import SequenceStore
from redi_ray.train.token_scores import by_contrast, score_tokens

ARCHITECTURE = Architecture(hidden_size=128, num_layers=2, num_heads=4, num_kv_heads=4, intermediate_size=512)
"""The demo's."""
ARMS: dict[str, Arm] = {
    "alpha 0": Arm("pairs", RediObjective(alpha=0.0)),
    "DPO": Arm("pairs", DpoObjective(beta=0.1)),
    "cDPO": Arm("weighed", DpoObjective(beta=0.1)),
    "Step-DPO": Arm("steps", DpoObjective(beta=0.5)),
    "REDI": Arm("pairs", RediObjective(alpha=0.2)),
    "weighted REDI": Arm("weighed", RediObjective(alpha=0.2)),
    "weighted REDI, alpha 1": Arm("weighed", RediObjective(alpha=1.0)),
    "step REDI": Arm("steps", RediObjective(alpha=0.2)),
}
COMPARED = [
    ("Step-DPO", "DPO"),
    ("Step-DPO", "REDI"),
    ("cDPO", "DPO"),
    ("weighted REDI", "REDI"),
    ("weighted REDI, alpha 1", "REDI"),
    ("step REDI", "REDI"),
    ("step REDI", "Step-DPO"),
    ("DPO", "alpha 0"),
    ("REDI", "alpha 0"),
    ("weighted REDI", "alpha 0"),
]


@dataclass(frozen=True)
class DigitScale(Scale):
    """Long chains: four to six lines."""

    problems: int = 800
    dev: int = 250
    corpus: int = 16_000
    base_epochs: int = 1
    base_rate: float = 2e-3
    min_digits: int = 5
    max_digits: int = 7
    misconception_share: float = 0.2
    sft_epochs: int = 5
    dev_samples: int = 2
    test_samples: int = 2
    steps: int = 60
    first_samples: int = 2
    """Of each problem, that Step-DPO looks at."""
    continuations: int = 10
    """From before each wrong line."""
    pairs_of_problem: int = 2
    contrast_rate: float = 3e-4
    contrast_epochs: int = 2


def judged(problem_id: str, sample_index: int, problem: str, begun: str, said: Said) -> Row:
    """A sample with its verdict, named as in the package's tables."""
    completion, finished = begun + said.text, said.ended_by is not None
    found = verify_answer(completion, answer(problem), finished=finished)
    return {
        "problem_id": problem_id,
        "sample_index": sample_index,
        "problem": problem,
        "completion": completion,
        "finish_reason": "stop" if finished else "length",
        "verdict": found.verdict,
        "answer": spelling(found.extracted_answer),
        "num_tokens": said.tokens,
    }


def located(row: Row) -> list[dict[str, Any]]:
    """The steps of a sample, labelled exactly."""
    steps = Steps(0, row["completion"], split_steps(row["completion"], "equations"))
    return spans_of(steps, Labelled(labels_of(row["problem"], steps.texts)))


def misconceptions_in(problem: str, known: Any) -> int:
    """How many facts of a problem's right solution carry a misconception."""
    value, steps = read_chain(problem)
    found = 0
    for operator, digit in steps:
        found += (value, operator, digit) in known
        value = apply(value, operator, digit)
    return found


class Digits(SeedRun):
    """A seed's world, samples and data."""

    scale: DigitScale

    def __init__(self, seed: int, scale: DigitScale, folder: Path) -> None:
        super().__init__(seed, scale, folder)
        self.scale, self.steps = scale, scale.steps
        self.encoder = Encoder(TOKENIZER, PROMPT, Weighting(end_of_turn=False, think_tags=False))
        self.rectify = RectifySettings(max_pairs=scale.pairs_of_problem, form="equations")
        self.finder = Finder(self.rectify, Answers(TOKENIZER, PROMPT))
        self._stores: dict[str, SequenceStore] = {}

    def fresh(self) -> Policy:
        return random_model(ARCHITECTURE.model_copy(update={"seed": self.seed}), TOKENIZER)

    def test_right(self, policy: Policy) -> list[int]:
        drawn = sample(policy, self.world.test, "evaluation", self.scale.test_samples, seed=self.seed)
        return verdicts(self.world.test, drawn).sum(axis=1).tolist()

    def difficulty(self) -> list[int]:
        """Of each test problem."""
        return [misconceptions_in(problem, self.world.misconceptions) for problem in self.world.test]

    @cached_property
    def drawn(self) -> dict[str, list[Row]]:
        """`own` and `continued` samples, drawn once."""
        path = self.folder / f"drawn-{self.seed}.json"
        if not path.exists():
            own = self._own(range(self.scale.first_samples))
            continued = self._continued(self._starts(own))
            budget, number = tokens_of(own) + tokens_of(continued), self.scale.first_samples
            while tokens_of(own) < budget:
                own += self._own([number])
                number += 1
            write(path, {"own": own, "continued": continued})
        return json.loads(path.read_text())

    def _own(self, indices: Sequence[int]) -> list[Row]:
        """Samples of every problem with these indices."""
        found = []
        for index in indices:
            prompts = [prompt_ids(to_messages(problem, PROMPT), TOKENIZER, PROMPT) for problem in self.world.train]
            said = draw(self.sft, prompts, TOKENIZER, "teacher", self.seed * 1000 + 500 + index)
            found += [
                judged(str(number), index, problem, PROMPT.prefix, one)
                for number, (problem, one) in enumerate(zip(self.world.train, said, strict=True))
            ]
        return found

    def _starts(self, own: Sequence[Row]) -> list[Row]:
        """What stands before the first wrong line of the first samples that are wrong, and that line."""
        found = []
        for row in own:
            if row["verdict"] == Verdict.WRONG and row["sample_index"] < self.scale.first_samples:
                start = self.finder.start_of(row, located(row))
                if not isinstance(start, str):
                    name = f"{row['problem_id']}#{row['sample_index']}"
                    found.append({"problem_id": name, "problem": row["problem"], BEGUN: start[0], "step": start[1]})
        return found

    def _continued(self, starts: Sequence[Row]) -> list[Row]:
        asked = [(start, index) for start in starts for index in range(self.scale.continuations)]
        prompts = [
            prompt_ids(to_messages(start["problem"], PROMPT), TOKENIZER, PROMPT)
            + completion_ids(start[BEGUN], TOKENIZER, PROMPT, finished=False)
            for start, _ in asked
        ]
        said = draw(self.sft, prompts, TOKENIZER, "teacher", self.seed * 1000 + 900)
        return [
            judged(start["problem_id"], index, start["problem"], start[BEGUN], one)
            for (start, index), one in zip(asked, said, strict=True)
        ]

    @cached_property
    def by_problem(self) -> dict[str, tuple[list[Row], list[Row]]]:
        """Problem -> its own samples that are right, and those that are wrong, each in the order in which they are used: chance,
        and the most frequent wrong answers first."""
        found: dict[str, tuple[list[Row], list[Row]]] = {}
        for row in sorted(self.drawn["own"], key=lambda row: (int(row["problem_id"]), row["sample_index"])):
            sides = found.setdefault(row["problem_id"], ([], []))
            if row["verdict"] in (Verdict.CORRECT, Verdict.WRONG):
                sides[row["verdict"] == Verdict.WRONG].append(row)
        return {
            name: (ranked(right, "random", self.seed), ranked(wrong, "random_frequent_wrong", self.seed))
            for name, (right, wrong) in found.items()
        }

    @cached_property
    def rejected(self) -> list[tuple[Row, Row]]:
        """(chosen, rejected) sample of every pair of whole traces."""
        return [
            (right[a], wrong[b])
            for right, wrong in self.by_problem.values()
            for a, b in combinations(len(right), len(wrong), self.scale.pairs_of_problem)
        ]

    def store(self, data: str) -> SequenceStore:
        if data not in self._stores:
            groups = {"pairs": self._pairs, "weighed": self._weighed, "steps": self._step_pairs}[data]()
            self._stores[data] = store_of_groups(groups, self.encoder)
        return self._stores[data]

    def _pairs(self) -> list[Row]:
        return [group_of(number, PROMPT, [(a, 1), (b, -1)]) for number, (a, b) in enumerate(self.rejected)]

    def _weighed(self) -> list[Row]:
        groups = self._pairs()
        for group, scores in zip(groups, self.scores, strict=True):
            group["members"][1]["weights"] = (1 - scores.astype(np.float64)).tolist()
        return groups

    def _step_pairs(self) -> list[Row]:
        return [step_pair(str(n), name, PROMPT, *pair) for n, (name, pair) in enumerate(self.chosen_steps)]

    @cached_property
    def chosen_steps(self) -> list[tuple[str, tuple[Row, Row, str]]]:
        """Problem, and (start, continuation, chosen step), of every pair of steps."""
        starts, right = {}, {}
        for start in self._starts(self.drawn["own"]):
            starts.setdefault(start["problem_id"].partition("#")[0], []).append(start)
        for row in self.drawn["continued"]:
            if row["verdict"] == Verdict.CORRECT:
                right.setdefault(row["problem_id"].partition("#")[0], []).append(row)
        return [
            (name, pair)
            for name, mine in starts.items()
            for pair in choose(name, mine, right.get(name, []), self.rectify, Drops())
        ]

    @cached_property
    def scores(self) -> list[np.ndarray]:
        """s of every own token of each pair's rejected sample, by two models made from the SFT model."""
        right = [rows[0] for rows, _ in self.by_problem.values() if rows]
        wrong = [row for _, rows in self.by_problem.values() for row in frequent(0.5, by_index(rows), Losses())]
        contrast = Contrast(self._taught(right), self._taught(wrong), 1.0, 512)
        sequences = [encoded(row) for _, row in self.rejected]
        own = [own_weights(one) for one in sequences]
        found = score_tokens(
            by_contrast(contrast),
            [(one.input_ids, one.prompt_length, mine) for one, mine in zip(sequences, own, strict=True)],
            unscored=MOST,
            tokens_per_pack=TOKENS_PER_PACK,
            device=torch.device("cpu"),
        )
        return [values[mine != 0] for values, mine in zip(found, own, strict=True)]

    def _taught(self, rows: Sequence[Row]) -> Policy:
        """The SFT model after some more SFT on these samples."""
        policy = copy.deepcopy(self.sft)
        groups = [group_of(number, PROMPT, [(row, 1)]) for number, row in enumerate(rows)]
        told = settings(self.scale.contrast_rate, self.scale.contrast_epochs, self.seed)
        train(policy, store_of_groups(groups, self.encoder), SftObjective(), told)
        return policy.eval()


def tokens_of(rows: Sequence[Row]) -> int:
    """Sampled."""
    return sum(row["num_tokens"] for row in rows)


def by_index(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row["sample_index"])


def encoded(row: Row) -> Any:
    messages = to_messages(row["problem"], PROMPT)
    return encode(messages, row["completion"], TOKENIZER, PROMPT, finished=is_finished(row))
