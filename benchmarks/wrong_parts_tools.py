"""The world of `wrong_parts.py` whose chains are worked out by a calculator that the model calls: turns."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from in_process import draw, random_model, settings, store_of_groups
from wrong_parts_runs import Arm, Row, group_of, write

from redi_ray.config.group_steps import TurnFilter
from redi_ray.config.objectives import DpoObjective, KtoObjective, RediObjective, SftObjective
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.student import Architecture
from redi_ray.config.tools import ToolSettings
from redi_ray.config.worlds import ToolArithmeticSource
from redi_ray.data.curate.choice import combinations, ranked
from redi_ray.data.groups.scan import fault_of_trace
from redi_ray.data.sample.samples import Sampling
from redi_ray.data.sample.turns import Drawn
from redi_ray.data.sources.built_in import alphabet_of
from redi_ray.data.sources.tool_world import answer, build_tool_world, read_chain, tool_corpus
from redi_ray.modeling.policy import Policy
from redi_ray.modeling.tokenizer import character_tokenizer
from redi_ray.schemas import Verdict
from redi_ray.stages.encoding import Encoder, Weighting
from redi_ray.text.answers import verify_answer
from redi_ray.text.prompts import to_messages
from redi_ray.text.templates import ASSISTANT, TOOL
from redi_ray.text.turns import opened_ids
from redi_ray.tools.execute import execute
from redi_ray.train.loop import train
from redi_ray.train.sequences import SequenceStore

PROMPT = PromptSettings(prefix="", tool_role="user")
TOKENIZER = character_tokenizer(alphabet_of(ToolArithmeticSource()))
TOOLS = ToolSettings(
    names=["calculator"], marks={"calculator": ("[", "]")}, output="{output}", max_turns=6, max_turn_tokens=24
)
CALL_ENDS = TOKENIZER.convert_tokens_to_ids("]")

ARCHITECTURE = Architecture(hidden_size=128, num_layers=3, num_heads=4, num_kv_heads=4, intermediate_size=512)
"""The recipe's."""
ARMS: dict[str, Arm] = {
    "SFT again": Arm("pairs", SftObjective(normalization="sequence_mean")),
    "M-DPO": Arm("pairs", DpoObjective(beta=0.1)),
    "M-KTO": Arm("pairs", KtoObjective(beta=0.1)),
    "REDI, turns": Arm("pairs", RediObjective(alpha=0.2)),
}
COMPARED = [
    ("M-DPO", "SFT again"),
    ("M-KTO", "SFT again"),
    ("REDI, turns", "SFT again"),
    ("REDI, turns", "M-DPO"),
    ("SFT again", "SFT"),
]


@dataclass(frozen=True)
class ToolScale:
    """How much of everything."""

    problems: int = 800
    dev: int = 250
    test: int = 1000
    corpus: int = 8000
    base_epochs: int = 2
    min_digits: int = 3
    max_digits: int = 4
    least: int = 2
    largest: int = 20
    misconception_share: float = 0.3
    misconception_rate: float = 0.95
    first_samples: int = 2
    """Of the base model, of each problem."""
    own_samples: int = 6
    """Of the SFT model."""
    sft_rate: float = 5e-4
    sft_epochs: int = 4
    dev_samples: int = 2
    test_samples: int = 2
    steps: int = 60
    pairs_of_problem: int = 1


@cache
def calculated(text: str) -> str:
    """What the package's calculator says. No sandbox limits it here, so powers are not worked out."""
    if "**" in text:
        return "error: no powers"
    with redirect_stdout(io.StringIO()) as said:
        execute("calculator", text)
    return said.getvalue().strip()


@cache
def seen(problem: str, said: tuple[str, ...]) -> list[int]:
    """What the model sees before its next turn, behind calls and outputs in turn."""
    turns = [{"role": TOOL if at % 2 else ASSISTANT, "content": text} for at, text in enumerate(said)]
    return opened_ids(to_messages(problem, PROMPT), turns, TOKENIZER, PROMPT)


def play(policy: Policy, problems: Sequence[str], kind: str, count: int, seed: int) -> list[Row]:
    """`count` traces of each problem, turn by turn, with their verdicts; of a problem beside each other."""
    limits = Sampling(temperature=0, top_p=1, max_tokens=128, seed=seed)  # of tokens; the kind has the rest
    places = [(number, index) for number in range(len(problems)) for index in range(count)]
    traces = [Drawn(limits, TOOLS, PROMPT.prefix) for _ in places]
    open_places = list(range(len(places)))
    for turn in range(TOOLS.max_turns):
        if not open_places:
            break
        prompts = [
            seen(problems[places[at][0]], tuple(turn["content"] for turn in traces[at].turns)) for at in open_places
        ]
        limit = TOOLS.max_turn_tokens or 128
        said = draw(policy, prompts, TOKENIZER, kind, seed * 16 + turn, ends=[CALL_ENDS], max_tokens=limit)
        going_on = []
        for at, prompt, one in zip(open_places, prompts, said, strict=True):
            stopped = "]" if one.ended_by == CALL_ENDS else None
            reason = "length" if one.ended_by is None else "stop"
            call = traces[at].add_turn(one.text, stopped, reason, one.tokens, len(prompt))
            if call is not None:
                traces[at].add_output(calculated(call.text))
                going_on.append(at)
        open_places = going_on
    return [
        judged(number, index, problems[number], trace.completion())
        for (number, index), trace in zip(places, traces, strict=True)
    ]


def judged(number: int, index: int, problem: str, completion: Row) -> Row:
    """A trace with its verdict, named as in the package's tables."""
    whole = completion["finish_reason"] == "stop"
    verdict = verify_answer(completion["completion"], answer(problem), finished=whole).verdict
    return {"problem_id": str(number), "sample_index": index, "problem": problem, **completion, "verdict": verdict}


def misconceptions_in(problem: str, known: Any) -> int:
    """How many facts of a problem carry a misconception."""
    return sum(fact in known for fact in read_chain(problem)[1])


class Tools:
    """A seed's world, samples and data."""

    def __init__(self, seed: int, scale: ToolScale, folder: Path) -> None:
        self.seed, self.scale, self.folder, self.steps = seed, scale, folder, scale.steps
        self.source = ToolArithmeticSource(
            num_problems=scale.problems,
            num_dev=scale.dev,
            num_test=scale.test,
            min_digits=scale.min_digits,
            max_digits=scale.max_digits,
            least=scale.least,
            largest=scale.largest,
            misconception_share=scale.misconception_share,
            misconception_rate=scale.misconception_rate,
            seed=seed,
        )
        self.world = build_tool_world(self.source)
        self.encoder = Encoder(TOKENIZER, PROMPT, Weighting(end_of_turn=False, think_tags=False))

    def fresh(self) -> Policy:
        """Random weights, those of the seed."""
        return random_model(ARCHITECTURE.model_copy(update={"seed": self.seed}), TOKENIZER)

    @cached_property
    def base(self) -> Policy:
        """Learns the world from its unfiltered corpus, misconceptions and all."""
        policy = self.fresh()
        rows = [
            {"problem_id": str(n), "problem": problem, "turns": turns, "finish_reason": "stop"}
            for n, (problem, turns) in enumerate(tool_corpus(self.source, self.scale.corpus))
        ]
        store = store_of_groups([group_of(n, PROMPT, [(row, 1)]) for n, row in enumerate(rows)], self.encoder)
        train(policy, store, SftObjective(), settings(2e-3, self.scale.base_epochs, self.seed, weight_decay=0.01))
        return policy

    @cached_property
    def sft(self) -> Policy:
        """The base model after SFT on the first right trace of each problem that has one."""
        path, policy = self.folder / f"tools-sft-{self.seed}.pt", self.fresh()
        if path.exists():
            policy.load_state_dict(torch.load(path, weights_only=True))
            return policy
        policy, before = copy.deepcopy(self.base), self.dev_score(self.base)
        rows = play(self.base, self.world.train, "teacher", self.scale.first_samples, self.seed * 1000)
        whole = [row for row in rows if row["verdict"] == Verdict.CORRECT and fault_of_trace(row, TurnFilter()) is None]
        right = {row["problem_id"]: row for row in reversed(whole)}.values()
        store = store_of_groups([group_of(n, PROMPT, [(row, 1)]) for n, row in enumerate(right)], self.encoder)
        told = settings(self.scale.sft_rate, self.scale.sft_epochs, self.seed, batch_size=32)
        train(policy, store, SftObjective(), told)
        facts = {"base": before, "sft": self.dev_score(policy), "positives": store.num_groups}
        write(self.folder / f"tools-sft-{self.seed}.json", facts)
        torch.save(policy.state_dict(), path)
        return policy

    @cached_property
    def own(self) -> list[Row]:
        """Traces of the SFT model, drawn once."""
        path = self.folder / f"tools-own-{self.seed}.json"
        if not path.exists():
            drawn = play(self.sft, self.world.train, "teacher", self.scale.own_samples, self.seed * 1000 + 500)
            write(path, drawn)
        return json.loads(path.read_text())

    @cached_property
    def pairs(self) -> list[tuple[Row, Row]]:
        """A right and a wrong trace by chance, of each problem that has both among those that may be learnt from."""
        sides: dict[str, tuple[list[Row], list[Row]]] = {}
        for row in self.own:
            if row["verdict"] in (Verdict.CORRECT, Verdict.WRONG) and fault_of_trace(row, TurnFilter()) is None:
                mine = sides.setdefault(row["problem_id"], ([], []))
                mine[row["verdict"] == Verdict.WRONG].append(row)
        found = []
        for both in sides.values():
            right, wrong = (ranked(rows, "random", self.seed) for rows in both)
            places = combinations(len(right), len(wrong), self.scale.pairs_of_problem)
            found += [(right[a], wrong[b]) for a, b in places]
        if len(found) < 2:
            raise SystemExit(
                f"seed {self.seed}: {len(found)} pairs of {len(self.own)} traces are too few to learn from"
            )
        return found

    @cached_property
    def _pairs(self) -> SequenceStore:
        groups = [
            group_of(number, PROMPT, [(right, 1), (wrong, -1)]) for number, (right, wrong) in enumerate(self.pairs)
        ]
        return store_of_groups(groups, self.encoder)

    def store(self, data: str) -> SequenceStore:
        assert data == "pairs", data
        return self._pairs

    def dev_score(self, policy: Policy) -> float:
        rows = play(policy, self.world.dev, "evaluation", self.scale.dev_samples, self.seed)
        return float(np.mean([row["verdict"] == Verdict.CORRECT for row in rows]))

    def test_right(self, policy: Policy) -> list[int]:
        rows = play(policy, self.world.test, "evaluation", self.scale.test_samples, self.seed)
        right = np.array([row["verdict"] == Verdict.CORRECT for row in rows])
        return right.reshape(len(self.world.test), -1).sum(axis=1).tolist()

    def difficulty(self) -> list[int]:
        """Of each test problem, how many of its facts carry a misconception."""
        return [misconceptions_in(problem, self.world.misconceptions) for problem in self.world.test]

    def facts(self) -> Row:
        """What the data are, in numbers."""
        verdicts = [row["verdict"] for row in self.own]
        known = json.loads((self.folder / f"tools-sft-{self.seed}.json").read_text())
        return {
            "seed": self.seed,
            **known,
            "own_samples": len(self.own) / len(self.world.train),
            "own_right": float(np.mean([verdict == Verdict.CORRECT for verdict in verdicts])),
            "tokens": sum(row["num_tokens"] for row in self.own),
            "pairs": len(self.pairs),
        }
