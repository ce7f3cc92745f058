"""The world of `rollouts.py`: samples of every problem, all of them or a pair; and problems of a kind that was not learnt from.

Facts, misconceptions and chains are those of `reproduction.py`. Everything behind the base model knows of chains of sums and
differences alone: what it does on chains with a product is asked at the end, and only there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from in_process import draw, random_model, store_of_groups
from reproduction_runs import PROMPT, TOKENIZER, Scale, SeedRun, sample, verdicts
from wrong_parts_digits import ARCHITECTURE, judged
from wrong_parts_runs import Arm, Row, group_of, write

from redi_ray.config.objectives import DpoObjective, RediGroupsObjective, RediObjective, SftObjective
from redi_ray.config.rollout_objectives import (
    AdvantageObjective,
    AsymreObjective,
    DphObjective,
    GlowObjective,
    NftObjective,
    OrealObjective,
    PpoClipObjective,
    S2rObjective,
    ToprObjective,
)
from redi_ray.modeling.policy import Policy
from redi_ray.schemas import Verdict
from redi_ray.stages.encoding import Encoder, Weighting
from redi_ray.text.prompts import to_messages
from redi_ray.text.tokens import prompt_ids
from redi_ray.train.sequences import SequenceStore

SAMPLES = 8
"""Of each problem."""
SEQUENCES = 16
"""A step, whatever they are grouped by: so are tokens, to a few percent."""
ALL, PAIRED, SINGLE = SEQUENCES // SAMPLES, SEQUENCES // 2, SEQUENCES
ARMS: dict[str, Arm] = {
    "right, one": Arm("pairs", SftObjective(normalization="sequence_mean"), SINGLE),
    "DPO": Arm("pairs", DpoObjective(beta=0.1), PAIRED),
    "REDI": Arm("pairs", RediObjective(alpha=0.2), PAIRED),
    "right, all": Arm("right", SftObjective(normalization="sequence_mean"), SINGLE),
    "REDI, all": Arm("mixed", RediGroupsObjective(alpha=0.2), ALL),
    "RLOO": Arm("mixed", AdvantageObjective(), ALL),
    "AsymRE": Arm("mixed", AsymreObjective(), ALL),
    "TOPR": Arm("mixed", ToprObjective(), ALL),
    "NFT": Arm("mixed", NftObjective(), ALL),
    "PPO clip": Arm("mixed", PpoClipObjective(), ALL),
    "OREAL": Arm("mixed", OrealObjective(), ALL),
    "S2R": Arm("signed", S2rObjective(), ALL),
    "GLOW": Arm("every", GlowObjective(), ALL),
    "REDI, rehearsing": Arm("pairs", RediObjective(alpha=0.2), PAIRED, DphObjective(divergence="js", coefficient=0.2)),
}
"""`right, one` reads the chosen sides of the pairs alone; rehearsal is of as many sequences again."""
COMPARED = [
    ("REDI", "right, one"),
    ("REDI", "DPO"),
    ("right, all", "right, one"),
    *((arm, "REDI") for arm in ARMS if ARMS[arm].groups == ALL),
    ("RLOO", "right, all"),
    ("GLOW", "right, all"),
    ("REDI, rehearsing", "REDI"),
]


@dataclass(frozen=True)
class RolloutScale(Scale):
    """Chosen so that a world takes minutes on a core."""

    problems: int = 1000
    dev: int = 250
    test: int = 400
    """Of each kind."""
    base_epochs: int = 1
    base_rate: float = 2e-3
    sft_epochs: int = 10
    dev_samples: int = 2
    test_samples: int = 8
    steps: int = 120
    solved: int = SAMPLES
    """Right samples of a problem that is rehearsed, at least."""
    drawn: int = 12
    """Chains that are drawn for each that is kept: few of the long ones have no product."""


def without_products(problem: str) -> bool:
    return "*" not in problem


class Rollouts(SeedRun):
    """A seed's world, samples and data."""

    scale: RolloutScale

    def __init__(self, seed: int, scale: RolloutScale, folder: Path) -> None:
        wider = {name: getattr(scale, name) * scale.drawn for name in ("problems", "dev", "test")}
        super().__init__(seed, replace(scale, **wider), folder)
        self.scale, self.steps = scale, scale.steps
        world = self.world
        own, other = (
            _taken(world.test, scale.test),
            _taken(world.test, scale.test, lambda one: not without_products(one)),
        )
        train, dev = _taken(world.train, scale.problems), _taken(world.dev, scale.dev)
        self.world = replace(world, train=train, dev=dev, test=(*own, *other))
        self.encoder = Encoder(TOKENIZER, PROMPT, Weighting(end_of_turn=False, think_tags=False))
        self._stores: dict[str, SequenceStore] = {}

    def fresh(self) -> Policy:
        return random_model(ARCHITECTURE.model_copy(update={"seed": self.seed}), TOKENIZER)

    def test_right(self, policy: Policy) -> list[int]:
        drawn = sample(policy, self.world.test, "evaluation", self.scale.test_samples, seed=self.seed)
        return verdicts(self.world.test, drawn).sum(axis=1).tolist()

    @cached_property
    def by_problem(self) -> list[list[Row]]:
        """The SFT model's samples of each problem, drawn once; what has no answer is wrong."""
        path = self.folder / f"rollouts-{self.seed}.json"
        if not path.exists():
            asked = [(number, index) for number in range(len(self.world.train)) for index in range(SAMPLES)]
            prompts = [prompt_ids(to_messages(problem, PROMPT), TOKENIZER, PROMPT) for problem in self.world.train]
            said = draw(
                self.sft, [prompts[number] for number, _ in asked], TOKENIZER, "teacher", self.seed * 1000 + 500
            )
            rows = [
                judged(str(number), index, self.world.train[number], PROMPT.prefix, one)
                for (number, index), one in zip(asked, said, strict=True)
            ]
            write(path, rows)
        rows = json.loads(path.read_text())
        return [rows[start : start + SAMPLES] for start in range(0, len(rows), SAMPLES)]

    def store(self, data: str) -> SequenceStore:
        if data not in self._stores:
            makes: dict[str, Callable[[], Iterator[list[tuple[Row, int]]]]] = {
                "pairs": lambda: (_one_of_each(sides) for sides in self._mixed()),
                "right": lambda: ([one] for sides in self._sides() for one in sides if one[1] == 1),
                "mixed": self._mixed,
                "signed": self._mixed,
                "every": self._sides,
                "solved": self._solved,
            }
            groups = [group_of(number, PROMPT, sides) for number, sides in enumerate(makes[data]())]
            for group in groups:
                for member in group["members"]:
                    member["reward"] = float(member["side"]) if data == "signed" else float(member["side"] == 1)
            self._stores[data] = store_of_groups(groups, self.encoder)
        return self._stores[data]

    def _sides(self) -> Iterator[list[tuple[Row, int]]]:
        """Of each problem its samples, right ones +1."""
        for rows in self.by_problem:
            yield [(row, 1 if row["verdict"] == Verdict.CORRECT else -1) for row in rows]

    def _solved(self) -> Iterator[list[tuple[Row, int]]]:
        """A right sample of each problem that has enough of them."""
        for sides in self._sides():
            right = [one for one in sides if one[1] == 1]
            if len(right) >= self.scale.solved:
                yield right[:1]

    def _mixed(self) -> Iterator[list[tuple[Row, int]]]:
        return (sides for sides in self._sides() if len({side for _, side in sides}) == 2)

    def facts(self) -> Row:
        """What the data are, in numbers."""
        known = json.loads((self.folder / f"sft-{self.seed}.json").read_text())
        right = [sum(side == 1 for _, side in sides) for sides in self._sides()]
        tokens = {data: float(np.mean(self.store(data).lengths)) for data in ("pairs", "right", "mixed", "every")}
        return {
            "seed": self.seed,
            "base": known["base"],
            "sft": known["sft"][-1],
            "right": float(np.mean(right)) / SAMPLES,
            "mixed": self.store("mixed").num_groups,
            "solved": self.store("solved").num_groups,
            "never": sum(count == 0 for count in right),
            **{f"tokens_a_step_{data}": SEQUENCES * mean for data, mean in tokens.items()},
        }


def _taken(problems: Sequence[str], count: int, keep: Callable[[str], bool] = without_products) -> tuple[str, ...]:
    """The first `count` that are to be kept. Raises SystemExit where there are fewer."""
    found = [problem for problem in problems if keep(problem)][:count]
    if len(found) < count:
        raise SystemExit(f"{len(found)} of {len(problems)} chains are of the kind, {count} are needed: raise `drawn`")
    return tuple(found)


def _one_of_each(sides: Sequence[tuple[Row, int]]) -> list[tuple[Row, int]]:
    """The first right and the first wrong sample."""
    return [next(one for one in sides if one[1] == side) for side in (1, -1)]
