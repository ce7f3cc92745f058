"""What one seed of the reproduction does: a world of its own, its traces, SFT to the plateau, and every stage-2 run.

The training core in one process: no Ray, no engine, no file but weights. A seed decides everything: the world's facts and
problems, the base model's weights and corpus, which traces are sampled, the order of the data.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from in_process import draw, random_model, settings, with_references

from redi_ray.config.objectives import DpoObjective, Objective, RediObjective, SftObjective, SimpoObjective
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.student import Architecture
from redi_ray.config.worlds import ArithmeticSource
from redi_ray.data.sources.built_in import WORLD_ALPHABET
from redi_ray.data.sources.world import answer, build_world, corpus
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.schemas import Verdict
from redi_ray.text.answers import verify_answer
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import encode, prompt_ids
from redi_ray.train.loop import Hooks, train
from redi_ray.train.records import SequenceRecord
from redi_ray.train.sequences import SequenceStore

PROMPT = PromptSettings()
TOKENIZER = character_tokenizer(WORLD_ALPHABET)
ARMS: dict[str, Objective] = {
    "alpha 0": RediObjective(alpha=0.0),
    "alpha 0.2": RediObjective(alpha=0.2),
    "alpha 0.5": RediObjective(alpha=0.5),
    "alpha 0.8": RediObjective(alpha=0.8),
    "alpha 1": RediObjective(alpha=1.0),
    "DPO": DpoObjective(beta=0.1),
    "SimPO": SimpoObjective(beta=2.0, gamma=1.0),
    "inverted": RediObjective(alpha=0.8),
}
"""Stage 2, after the same SFT. `inverted` is alpha 0.8 with chosen and rejected exchanged: the negative control."""


LOGPS = ("chosen_logp", "rejected_logp")


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Few facts carry a misconception, but the corpus falls for those nearly always. Right traces then seldom show how such a
    fact goes, so that SFT on them ends in a plateau of systematic errors, which wrong traces do show.
    """

    problems: int = 1200
    dev: int = 400
    test: int = 1000
    corpus: int = 16_000
    base_epochs: int = 2
    base_rate: float = 3e-3
    min_digits: int = 4
    max_digits: int = 7
    misconception_share: float = 0.25
    misconception_rate: float = 0.8
    sft_epochs: int = 16
    epochs: int = 3
    samples: int = 8
    """Of the teacher per problem at most, and of each test problem."""
    dev_samples: int = 4
    sft_learning_rate: float = 5e-4
    learning_rates: tuple[float, ...] = (2e-5, 5e-5, 1e-4, 2e-4, 4e-4)


@dataclass(frozen=True)
class Outcome:
    """One stage-2 run."""

    arm: str
    learning_rate: float
    seed: int
    dev: float
    """pass@1 on development problems."""
    collapsed: bool
    """The collapse guard, which only watched, called it one."""
    curves: dict[str, list[float]]
    """Per step: log-prob per token of chosen and rejected."""


def sample(policy: Policy, problems: Sequence[str], kind: str, count: int, seed: int) -> list[list[str]]:
    """`count` completions of each problem, an unfinished one as it stands."""
    prompts = [prompt_ids(to_messages(problem, PROMPT), TOKENIZER, PROMPT) for problem in problems]
    said = draw(policy, [prompt for prompt in prompts for _ in range(count)], TOKENIZER, kind, seed)
    texts = [PROMPT.prefix + one.text for one in said]
    return [texts[start : start + count] for start in range(0, len(texts), count)]


def verdicts(problems: Sequence[str], completions: Sequence[Sequence[str]]) -> np.ndarray:
    """bool[problems, samples]: which answers are right."""
    return np.array(
        [
            [verify_answer(text, answer(problem)).verdict == Verdict.CORRECT for text in texts]
            for problem, texts in zip(problems, completions, strict=True)
        ]
    )


def store_of(rows: Sequence[tuple[int, int, str, str]]) -> SequenceStore:
    """Sequences of (group, side, problem, completion)."""
    encoded = ((g, side, encode(to_messages(p, PROMPT), text, TOKENIZER, PROMPT)) for g, side, p, text in rows)
    return SequenceStore.from_records(SequenceRecord(g, side, s.input_ids, s.prompt_length) for g, side, s in encoded)


class SeedRun:
    """Everything that belongs to one seed. Stages are made when they are asked for, once."""

    def __init__(self, seed: int, scale: Scale, folder: Path) -> None:
        self.seed, self.scale, self.folder = seed, scale, folder
        self.source = ArithmeticSource(
            num_problems=scale.problems,
            num_dev=scale.dev,
            num_test=scale.test,
            min_digits=scale.min_digits,
            max_digits=scale.max_digits,
            misconception_share=scale.misconception_share,
            misconception_rate=scale.misconception_rate,
            seed=seed,
        )
        self.world = build_world(self.source)

    def fresh(self) -> Policy:
        """Random weights, those of the seed."""
        return random_model(Architecture(seed=self.seed), TOKENIZER)

    @cached_property
    def base(self) -> Policy:
        """Learns the world from its unfiltered corpus, misconceptions and all."""
        policy = self.fresh()
        rows = [(group, 1, *row) for group, row in enumerate(corpus(self.source, self.scale.corpus))]
        how = settings(self.scale.base_rate, self.scale.base_epochs, self.seed, weight_decay=0.01)
        train(policy, store_of(rows), SftObjective(), how)
        return policy

    @cached_property
    def traces(self) -> list[tuple[str, list[str], np.ndarray]]:
        """(problem, completions, whether each is right): four at a time until one is right."""
        found: dict[str, list[str]] = {problem: [] for problem in self.world.train}
        right: dict[str, list[bool]] = {problem: [] for problem in self.world.train}
        for number in range(self.scale.samples // 4):
            open_problems = [problem for problem in found if not any(right[problem])]
            drawn = sample(self.base, open_problems, "teacher", 4, seed=self.seed * 1000 + number)
            judged = verdicts(open_problems, drawn)
            for problem, texts, row in zip(open_problems, drawn, judged, strict=True):
                found[problem] += texts
                right[problem] += row.tolist()
        return [(problem, found[problem], np.array(right[problem])) for problem in found]

    @cached_property
    def positives(self) -> SequenceStore:
        """The first right trace of each problem that has one."""
        firsts = [(p, texts[int(np.argmax(right))]) for p, texts, right in self.traces if right.any()]
        return store_of([(group, 1, *row) for group, row in enumerate(firsts)])

    def pairs(self, inverted: bool = False) -> SequenceStore:
        """First right and first wrong trace of each problem that has both."""
        rows: list[tuple[int, int, str, str]] = []
        for problem, texts, right in self.traces:
            if right.any() and not right.all():
                first, wrong = texts[int(np.argmax(right))], texts[int(np.argmin(right))]
                group, side = len(rows) // 2, -1 if inverted else 1
                rows += [(group, side, problem, first), (group, -side, problem, wrong)]
        return store_of(rows)

    @cached_property
    def sft(self) -> Policy:
        """The converged model; `sft.json` holds its development pass@1 after each quarter of the training."""
        if self.weights("SFT").exists():
            return self.load("SFT")
        policy, store = copy.deepcopy(self.base), self.positives
        told = settings(self.scale.sft_learning_rate, self.scale.sft_epochs, self.seed, batch_size=32)
        quarter = max(1, -(-store.num_groups // told.batch_size) * told.epochs // 4)
        seen: list[float] = []

        def look(step: int, metrics: Any) -> None:
            if (step + 1) % quarter == 0:
                seen.append(self.dev_score(policy))

        train(policy, store, SftObjective(), told, hooks=Hooks(on_step=look))
        facts = {"base": self.dev_score(self.base), "sft": seen, "positives": store.num_groups}
        facts |= {"pairs": self.pairs().num_groups}
        (self.folder / f"sft-{self.seed}.json").write_text(json.dumps(facts))
        torch.save(policy.state_dict(), self.weights("SFT"))
        return policy

    def dev_score(self, policy: Policy) -> float:
        drawn = sample(policy, self.world.dev, "evaluation", self.scale.dev_samples, seed=self.seed)
        return float(verdicts(self.world.dev, drawn).mean())

    def test_verdicts(self, policy: Policy) -> np.ndarray:
        """bool[test problems, samples]. For the chosen settings only, once."""
        drawn = sample(policy, self.world.test, "evaluation", self.scale.samples, seed=self.seed)
        return verdicts(self.world.test, drawn)

    def weights(self, arm: str, learning_rate: float | None = None) -> Path:
        return self.folder / f"{arm}-{learning_rate}-{self.seed}.pt"

    def load(self, arm: str, learning_rate: float | None = None) -> Policy:
        """A trained model again."""
        policy = self.fresh()
        policy.load_state_dict(torch.load(self.weights(arm, learning_rate), weights_only=True))
        return policy

    def run_arm(self, arm: str, learning_rate: float) -> Outcome:
        """Train one arm from the SFT model, keep its weights, score it on development problems. Done once."""
        told = self.weights(arm, learning_rate).with_suffix(".json")
        if told.exists():
            return Outcome(**json.loads(told.read_text()))
        policy, store, objective = copy.deepcopy(self.sft), self.pairs(arm == "inverted"), ARMS[arm]
        if isinstance(objective, DpoObjective):
            store = with_references(store, self.sft)
        lines: list[dict[str, float]] = []
        remember: Callable[..., None] = lambda step, metrics: lines.append(dict(metrics))  # noqa: E731
        how = settings(learning_rate, self.scale.epochs, self.seed)
        result = train(policy, store, objective, how, hooks=Hooks(on_step=remember))
        torch.save(policy.state_dict(), self.weights(arm, learning_rate))
        curves = {name: [line[name] for line in lines if name in line] for name in LOGPS}
        collapsed = result.status != "done" or any(line.get("collapse") for line in lines)
        outcome = Outcome(arm, learning_rate, self.seed, self.dev_score(policy), collapsed, curves)
        told.write_text(json.dumps(asdict(outcome)))
        return outcome
